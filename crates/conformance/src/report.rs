//! All rules at once, and a report.

use crate::fixture::Fixture;
use crate::rules::{self, NAMES};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The longest that a rule may take.
const RULE_MAX: Duration = Duration::from_secs(120);

/// Which rules a store keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The names of those that it keeps.
    pub kept: Vec<&'static str>,
    /// The names of those that it breaks, and what was seen.
    pub broken: Vec<(&'static str, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rules are kept", self.kept.len(), self.kept.len() + self.broken.len())?;
        self.broken.iter().try_for_each(|(rule, why)| write!(f, "\n{rule}: {why}"))
    }
}

/// Checks all rules, each with a fixture of its own, and reports them. Blocks; call it outside of a runtime.
///
/// # Panics
///
/// If no runtime can be started.
pub fn check_all<F: Fixture, Made: Future<Output = F>>(make: impl Fn() -> Made) -> Report {
    let mut report = Report::default();
    for rule in NAMES {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            test(async {
                let fixture = make().await;
                rules::check(rule, &fixture).await;
            });
        }));
        match checked {
            Ok(()) => report.kept.push(rule),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                report.broken.push((rule, text.unwrap_or_else(|| "it panicked".to_owned())));
            }
        }
    }
    report
}

/// Runs a test of a rule, for two minutes at most.
///
/// # Panics
///
/// If the rule does, if it takes longer, or if no runtime can be started.
#[doc(hidden)]
pub fn test(rule: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let rule = async { tokio::time::timeout(RULE_MAX, rule).await };
    runtime
        .expect("a runtime starts")
        .block_on(rule)
        .expect("the store answers within two minutes");
}
