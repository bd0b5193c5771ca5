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
    limits {
        an_id_that_is_empty_or_too_long_is_refused
        one_bad_id_refuses_its_batch
        a_namespace_without_a_name_or_with_too_long_a_name_is_refused
        a_ttl_of_zero_is_refused
        a_ttl_beyond_counting_never_ends_early
        a_lease_or_a_delay_beyond_counting_never_ends_early
        a_lease_below_a_millisecond_is_refused
        a_policy_without_attempts_is_refused
        a_worker_with_too_long_a_name_is_refused
        a_result_above_the_limit_is_refused_and_its_attempt_goes_on
        a_result_of_any_bytes_comes_back
        what_attempts_say_is_kept_and_cut_between_characters
        each_call_is_answered_by_its_own_policy
    }
    calls {
        a_claim_repeated_after_a_lost_answer_is_still_the_callers_own
        a_repeated_batch_is_answered_as_it_was
        a_call_is_remembered_as_long_as_its_claim_and_no_longer
        a_begin_repeated_after_a_lost_answer_is_told_of_its_attempt
        a_begin_repeated_after_its_attempt_has_ended_starts_nothing_twice
        an_end_repeated_after_a_lost_answer_is_over_with_the_record_as_it_left_it
    }
    begin {
        an_unknown_id_is_started_and_one_caller_is_told_so
        a_completed_id_replays_its_result_and_counts_nothing
        a_failure_that_is_kept_is_replayed_and_marked
        another_input_is_a_mismatch_in_every_state_and_sees_no_result
        a_mismatch_leaves_a_record_alone_whose_lease_has_ended
        the_first_fingerprint_stays_and_without_one_nothing_is_compared
        a_record_tells_who_works_on_it_and_until_when
        one_id_in_two_ledgers_is_two_records
        a_record_ends_with_the_ttl_of_its_completion_and_not_with_its_lease
        an_ended_record_counts_as_none
        looking_at_a_record_changes_nothing
    }
    leases {
        a_lease_ends_at_its_time_and_the_next_attempt_takes_over
        who_was_taken_over_is_fenced_and_changes_nothing
        a_late_end_lands_while_nobody_has_taken_over
        a_token_belongs_to_the_attempt_and_not_to_the_worker
        tokens_grow_whatever_becomes_of_the_record
        a_good_token_renews_a_lease_and_no_other_does
        a_lease_that_ends_under_hold_leaves_the_record_to_an_operator
        a_lease_that_ends_under_fail_makes_the_record_dead
        a_record_held_or_buried_for_its_lease_may_be_completed_by_its_attempt
        a_message_that_kills_its_worker_each_time_is_dead_in_the_end
        a_lease_that_has_ended_is_shown_as_it_is_stored
        an_attempt_that_is_over_can_do_nothing_more
        what_was_answered_outlasts_a_restart_of_the_store
    }
    ends {
        a_failed_id_waits_for_its_delay_and_is_started_anew
        after_its_last_attempt_a_failed_id_is_dead
        a_final_failure_is_dead_at_once
        an_attempt_may_ask_for_an_operator
        a_record_that_is_handed_back_is_not_charged
        dead_records_end_with_the_ttl_of_the_policy
        a_record_remembers_its_last_attempts_in_order
        a_completion_after_failures_counts
    }
    operators {
        a_redriven_id_may_be_tried_as_often_as_a_new_one_and_keeps_its_history
        only_what_is_dead_or_held_is_redriven
        a_redriven_record_does_not_end_by_itself
        an_operators_word_fences_the_attempt
        a_held_record_is_settled_with_a_result
        only_what_is_held_is_settled
        forgetting_a_record_removes_all_of_it_and_fences_its_attempt
        dead_letters_are_listed_in_order_and_in_pages
        stats_count_dead_letters_and_what_else_they_count
    }
    races {
        of_many_that_claim_an_id_at_once_one_is_first
        of_many_overlapping_batches_each_id_is_first_once
        of_many_that_begin_at_once_one_is_started
        of_many_that_find_an_ended_lease_one_takes_over
        of_many_completions_at_once_one_lands
        claims_and_forgets_at_once_are_each_one_step
        attempts_of_one_id_follow_each_other
    }
    histories {
        random_histories_are_answered_as_the_reference_answers
    }
}
