//! What may become of a record. Every call looks here first; docs/LEDGER.md draws this table.

/// Where a record is at some moment. The end of a lease needs no write, so this is what is stored, seen at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// There is no record.
    Absent,
    /// An attempt works on it, and its lease has not ended.
    Running,
    /// An attempt worked on it; its lease has ended, and nobody has taken over.
    LeaseOver,
    /// Waits for its next attempt: it failed, or was handed back.
    Waiting,
    /// Waits for an operator: nobody knows whether the effect happened.
    Held,
    /// Done. Its result is replayed.
    Completed,
    /// Given up. A dead letter.
    Dead,
}

/// A step from one phase to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Move {
    /// A new attempt starts.
    Begin,
    /// A lease has ended, or its attempt was dropped, and the policy is to hold; or the attempt does not know whether its
    /// effect happened.
    Hold,
    /// A lease has ended and the policy is to fail; or no attempt is left.
    GiveUp,
    /// The attempt has its result.
    Complete,
    /// The attempt failed; the record is to be tried again.
    Retry,
    /// The attempt failed for good.
    Bury,
    /// The attempt extends its lease.
    Renew,
    /// The attempt saves a stage.
    Save,
    /// The attempt hands the record back.
    Release,
    /// An operator lets it be tried again.
    Redrive,
    /// An operator says that it was done, and with what result.
    Settle,
    /// An operator ends it without a result.
    Cancel,
    /// An operator removes it, unless an attempt works on it.
    Purge,
    /// An operator removes it although an attempt works on it.
    Forget,
}

use Move::{
    Begin, Bury, Cancel, Complete, Forget, GiveUp, Hold, Purge, Redrive, Release, Renew, Retry,
    Save, Settle,
};
use Phase::{Absent, Completed, Dead, Held, LeaseOver, Running, Waiting};

/// Every legal move. What is not here is refused.
///
/// The effect of an attempt may have happened although its lease has ended, so it may still say how it went, as long as
/// nobody has taken over.
pub(super) const MOVES: [(Phase, Move, Phase); 45] = [
    (Absent, Begin, Running),
    (Waiting, Begin, Running),
    (LeaseOver, Begin, Running),
    (LeaseOver, Hold, Held),
    (Running, Hold, Held),
    (LeaseOver, GiveUp, Dead),
    (Waiting, GiveUp, Dead),
    (Running, GiveUp, Dead),
    (Held, GiveUp, Dead),
    (Held, Hold, Held),
    (Running, Complete, Completed),
    (LeaseOver, Complete, Completed),
    (Held, Complete, Completed),
    (Dead, Complete, Completed),
    (Running, Retry, Waiting),
    (LeaseOver, Retry, Waiting),
    (Held, Retry, Waiting),
    (Running, Bury, Dead),
    (LeaseOver, Bury, Dead),
    (Held, Bury, Dead),
    (Running, Renew, Running),
    (Running, Save, Running),
    (LeaseOver, Save, Running),
    (Running, Release, Waiting),
    (LeaseOver, Release, Waiting),
    (Held, Release, Waiting),
    (Held, Redrive, Waiting),
    (Dead, Redrive, Waiting),
    (LeaseOver, Settle, Completed),
    (Waiting, Settle, Completed),
    (Held, Settle, Completed),
    (Dead, Settle, Completed),
    (Running, Cancel, Dead),
    (LeaseOver, Cancel, Dead),
    (Waiting, Cancel, Dead),
    (Held, Cancel, Dead),
    (LeaseOver, Purge, Absent),
    (Waiting, Purge, Absent),
    (Held, Purge, Absent),
    (Completed, Purge, Absent),
    (Dead, Purge, Absent),
    (Running, Forget, Absent),
    (Waiting, Redrive, Waiting),
    (LeaseOver, Redrive, Waiting),
    (Completed, Redrive, Waiting),
];

/// Returns the phase after a move, or `None` if the move is not legal.
pub(super) fn after(from: Phase, step: Move) -> Option<Phase> {
    MOVES.iter().find(|(f, s, _)| (*f, *s) == (from, step)).map(|(_, _, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] = [Absent, Running, LeaseOver, Waiting, Held, Completed, Dead];

    #[test]
    fn a_move_leads_to_one_phase() {
        for (n, (from, step, _)) in MOVES.iter().enumerate() {
            let others = MOVES.iter().skip(n + 1);
            assert!(
                !others.into_iter().any(|(f, s, _)| (f, s) == (from, step)),
                "{from:?} {step:?}"
            );
        }
    }

    #[test]
    fn every_phase_is_reached_and_can_be_left() {
        for phase in PHASES {
            let reached = MOVES.iter().any(|(from, _, to)| *to == phase && *from != phase);
            let left = MOVES.iter().any(|(from, _, to)| *from == phase && *to != phase);
            // A lease ends by itself.
            assert!(reached || phase == LeaseOver, "{phase:?} is reached");
            assert!(left, "{phase:?} can be left");
        }
    }

    #[test]
    fn what_is_completed_never_runs_again_unless_an_operator_says_so() {
        for step in
            [Begin, Complete, Retry, Bury, Renew, Save, Release, Settle, Cancel, Hold, GiveUp]
        {
            assert_eq!(after(Completed, step), None, "{step:?}");
        }
    }

    /// The document says of each move how it is made alone, in a transaction and as a future.
    #[test]
    fn every_move_is_in_the_table_of_calls() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/LEDGER.md");
        let text = std::fs::read_to_string(path).expect("docs/LEDGER.md");
        let table = text.lines().skip_while(|line| !line.starts_with("| move | alone |")).skip(2);
        let rows: Vec<Vec<&str>> = table
            .take_while(|line| line.starts_with("| "))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert!(rows.iter().all(|row| row.len() == 4 && row.iter().all(|cell| !cell.is_empty())));
        let mut listed: Vec<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
        let mut moves: Vec<String> =
            MOVES.iter().map(|(_, step, _)| format!("{step:?}").to_lowercase()).collect();
        listed.sort_unstable();
        moves.sort_unstable();
        moves.dedup();
        assert_eq!(listed, moves);
    }

    /// The document draws what the code allows.
    #[test]
    fn the_diagram_of_the_documentation_is_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/LEDGER.md");
        let text = std::fs::read_to_string(path).expect("docs/LEDGER.md");
        let mut drawn: Vec<&str> =
            text.lines().map(str::trim).filter(|line| line.contains(" --> ")).collect();
        let name = |phase: Phase| match phase {
            Absent => "[*]".to_owned(),
            other => format!("{other:?}"),
        };
        let mut lines: Vec<String> = MOVES
            .iter()
            .map(|(from, step, to)| {
                let step = format!("{step:?}").to_lowercase();
                format!("{} --> {}: {step}", name(*from), name(*to))
            })
            .chain(["Running --> LeaseOver: the lease ends".to_owned()])
            .collect();
        drawn.sort_unstable();
        lines.sort_unstable();
        assert_eq!(drawn, lines);
    }
}
