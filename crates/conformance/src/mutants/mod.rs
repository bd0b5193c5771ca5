//! The suite is red for each rule broken on purpose.

mod fault;
mod store;

use crate::report::check_all;
use crate::rules::NAMES;
use fault::Fault;
use std::collections::BTreeSet;
use store::Mutant;

#[test]
fn every_rule_is_broken_by_a_fault_and_every_fault_breaks_a_rule_that_is_there() {
    for name in NAMES {
        assert!(Fault::ALL.iter().any(|(_, rules)| rules.contains(name)), "no fault breaks {name}");
    }
    for (fault, rules) in Fault::ALL {
        assert!(rules.iter().all(|rule| NAMES.contains(rule)), "{fault:?} breaks {rules:?}");
    }
}

#[test]
fn without_a_fault_no_rule_is_broken() {
    let report = check_all(|| async { Mutant::new(None) });
    assert!(report.broken.is_empty(), "{report}");
    assert_eq!(report.kept, NAMES);
}

/// How often a fault is tried that shows only if two calls meet.
const TRIES: usize = 100;

/// Prints which rules notice each fault, with `--nocapture`.
#[test]
#[expect(clippy::disallowed_macros, reason = "a report for who runs it")]
fn each_fault_is_noticed_by_its_rules() {
    let mut unnoticed = Vec::new();
    for (fault, rules) in Fault::ALL {
        let mut broken = BTreeSet::new();
        for _ in 0..TRIES {
            let report = check_all(|| async { Mutant::new(Some(*fault)) });
            broken.extend(report.broken.iter().map(|(rule, _)| *rule));
            if rules.iter().all(|rule| broken.contains(rule)) {
                break;
            }
        }
        let all: Vec<&str> = broken.iter().copied().collect();
        println!("{fault:?}: {}", all.join(" "));
        let missing = rules.iter().filter(|rule| !broken.contains(*rule));
        unnoticed.extend(missing.map(|rule| format!("{fault:?}: {rule}")));
    }
    assert!(unnoticed.is_empty(), "not noticed:\n{}", unnoticed.join("\n"));
}
