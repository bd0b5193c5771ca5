//! The rules, each an async function that panics where a store breaks it.

use crate::Fixture;

/// Declares the rules of each file, and what runs all of them.
macro_rules! rules {
    ($d:tt $($file:ident { $($rule:ident)* })*) => {
        $(mod $file; pub use $file::{$($rule),*};)*

        /// The names of all rules.
        pub const NAMES: &[&str] = &[$($(stringify!($rule)),*),*];

        /// Checks the rule of this name.
        ///
        /// # Panics
        ///
        /// If the store breaks it, or there is no such rule.
        pub async fn check<F: Fixture>(rule: &str, fixture: &F) {
            match rule {
                $($(stringify!($rule) => $rule(fixture).await,)*)*
                _ => panic!("there is no rule {rule}"),
            }
        }

        /// Makes a test of each rule: `conformance!(fixture)`. The expression is evaluated for each of them, in an async block.
        #[macro_export]
        macro_rules! conformance {
            ($d fixture:expr) => {
                $($(
                    #[test]
                    fn $rule() {
                        $crate::test(async {
                            let fixture = $d fixture;
                            $crate::rules::$rule(&fixture).await;
                        });
                    }
                )*)*
            };
        }
    };
}

rules! { $
    claims {
        an_id_is_first_seen_once_whoever_asks
        a_duplicate_is_told_when_the_claim_was_made
        answers_come_in_the_order_of_the_batch
        of_equal_ids_in_a_batch_the_first_is_first_seen
        a_batch_may_be_empty_or_large
        a_claim_ends_when_its_ttl_has_passed_and_not_before
        a_duplicate_does_not_make_a_claim_longer
        each_claim_has_the_ttl_of_its_own_call
        a_claim_for_ever_outlasts_all_others
        a_forgotten_id_is_first_seen_again
        looking_an_id_up_claims_nothing
        namespaces_are_apart
        claims_and_records_of_one_name_are_apart
        ids_are_compared_byte_for_byte
    }
}
