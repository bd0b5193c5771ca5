//! What the outside record must say. Knows nothing of the ledger but its promises.

use super::record::{Line, What, Who, ms_of};
use crate::report::Verdict;
use std::collections::BTreeMap;

pub(crate) const ATTEMPTS_MAX: u64 = 6;

/// The stage whose effect goes to a resource that compares tokens.
pub(crate) const GUARDED: u64 = 1;

/// How an id has ended, as the ledger tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Completed, with the attempts that did its stages.
    Completed([u64; 2]),
    Dead,
    /// Neither: nobody should be able to say so.
    Open,
}

#[derive(Debug, Clone, Default)]
struct Attempt {
    child: u64,
    token: u64,
    asked_us: u64,
    at_us: u64,
    /// The latest end of its lease that was acknowledged.
    until_ms: u64,
    /// When the last acknowledged write of it was asked for.
    wrote_us: u64,
    ending_us: Option<u64>,
    was_fenced: bool,
    was_released: bool,
}

/// What happened to an id.
#[derive(Debug, Default)]
struct Story {
    /// By token.
    attempts: BTreeMap<u64, Attempt>,
    /// Stage and token, in the order in which they happened.
    effects: Vec<(u64, u64)>,
    saved: Vec<(u64, u64)>,
    /// Acknowledged completions.
    completed: Vec<[u64; 2]>,
    /// Those that may have been made.
    completing: Vec<[u64; 2]>,
    redrives: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    /// Attempts that followed one that said nothing: its lease had ended, or its process.
    pub(crate) takeovers: u64,
    pub(crate) fenced: u64,
    pub(crate) stale: u64,
    pub(crate) saved: u64,
    pub(crate) completed: u64,
    pub(crate) dead: u64,
}

/// Checks the whole record. `end` tells how an id has ended.
pub(crate) fn check(
    lines: &[Line],
    ids: u64,
    end: impl Fn(u64) -> Verdict<End>,
) -> Verdict<Counts> {
    let mut stories: BTreeMap<u64, Story> = (0..ids).map(|id| (id, Story::default())).collect();
    let mut counts = Counts::default();
    for line in lines {
        let named = |what: String| format!("{what}: {line:?}");
        match *line {
            Line::By(who, what) => {
                let story = stories.get_mut(&who.id).ok_or_else(|| named("no such id".into()))?;
                story.hear(who, what, &mut counts).map_err(named)?;
            }
            Line::Redrive(id) => stories.entry(id).or_default().redrives += 1,
            Line::Killed(_) | Line::Open(_) | Line::AllEnded(_) => {}
        }
    }
    for (id, story) in &stories {
        let end = end(*id)?;
        let checked = story.check(end, &mut counts);
        checked.map_err(|what| format!("id {id}, which is {end:?}: {what}; {story:?}"))?;
    }
    Ok(counts)
}

impl Story {
    fn hear(&mut self, who: Who, what: What, counts: &mut Counts) -> Verdict {
        let token = who.token;
        if let What::Started { asked_us, at_us, until_ms } = what {
            counts.attempts += 1;
            let child = who.child;
            let fresh = Attempt { child, token, asked_us, at_us, until_ms, ..Attempt::default() };
            return match self.attempts.insert(token, fresh) {
                None => Ok(()),
                Some(_) => Err("a token was given twice".into()),
            };
        }
        let attempt = self.attempts.get_mut(&token).ok_or("never started")?;
        match what {
            What::Effect { stage } => self.effects.push((stage, token)),
            What::Saved { stage, asked_us, until_ms } => {
                counts.saved += 1;
                attempt.until_ms = attempt.until_ms.max(until_ms);
                attempt.wrote_us = asked_us;
                self.saved.push((stage, token));
            }
            What::Renewed { asked_us, until_ms } => {
                attempt.until_ms = attempt.until_ms.max(until_ms);
                attempt.wrote_us = asked_us;
            }
            What::Ending { at_us } => attempt.ending_us = Some(at_us),
            What::Completing { by } => self.completing.push(by),
            What::Completed { asked_us, by } => {
                attempt.wrote_us = asked_us;
                self.completed.push(by);
            }
            What::Released => attempt.was_released = true,
            What::Fenced => {
                counts.fenced += 1;
                attempt.was_fenced = true;
            }
            What::Stale => counts.stale += 1,
            What::Started { .. } => {}
        }
        Ok(())
    }

    fn check(&self, end: End, counts: &mut Counts) -> Verdict {
        self.check_attempts(counts)?;
        self.check_effects()?;
        match (end, &self.completed[..]) {
            (End::Open, _) => return Err("it has not ended".into()),
            (_, [_, _, ..]) => return Err("completed twice".into()),
            (End::Dead, [_]) => return Err("a completion was lost".into()),
            (End::Dead, []) => counts.dead += 1,
            (End::Completed(by), [acknowledged]) if by != *acknowledged => {
                return Err(format!("another result was acknowledged: {acknowledged:?}"));
            }
            (End::Completed(by), completed) => {
                if completed.is_empty() && !self.completing.contains(&by) {
                    return Err("nobody gave this result".into());
                }
                counts.completed += 1;
                self.check_result(by)?;
            }
        }
        Ok(())
    }

    /// Attempts do not overlap, and their tokens grow in the order in which they start.
    fn check_attempts(&self, counts: &mut Counts) -> Verdict {
        let mut last_asked = (0, 0);
        let mut before: Option<&Attempt> = None;
        for attempt in self.attempts.values() {
            if (attempt.child, attempt.at_us) < last_asked {
                let token = attempt.token;
                return Err(format!(
                    "token {token} started earlier than one that is lower than it"
                ));
            }
            last_asked = last_asked.max((attempt.child, attempt.asked_us));
            if let Some(before) = before {
                let is_told = !before.was_fenced && before.ending_us.is_some();
                counts.takeovers += u64::from(!is_told);
                if before.child == attempt.child {
                    before.check_over_when(attempt)?;
                }
            }
            before = Some(attempt);
        }
        let charged = self.attempts.values().filter(|attempt| !attempt.was_released).count() as u64;
        if charged > ATTEMPTS_MAX * (1 + self.redrives) {
            return Err(format!("{charged} attempts, {} redrives", self.redrives));
        }
        Ok(())
    }

    fn check_effects(&self) -> Verdict {
        for (stage, saver) in &self.saved {
            // A later attempt hears of what was saved. An earlier one may still be at it, and is late.
            let again = self.effects.iter().find(|(of, token)| of == stage && token > saver);
            if let Some((_, token)) = again {
                return Err(format!("{token} did stage {stage} again, which {saver} had saved"));
            }
        }
        let mut once = std::collections::BTreeSet::new();
        if let Some(twice) = self.effects.iter().find(|effect| !once.insert(**effect)) {
            return Err(format!("{twice:?} happened twice"));
        }
        Ok(())
    }

    /// Each stage was done by the attempt whose result counts, and the resource has heard nothing after that.
    fn check_result(&self, by: [u64; 2]) -> Verdict {
        for (stage, token) in by.into_iter().enumerate() {
            if !self.effects.contains(&(stage as u64, token)) {
                return Err(format!("{token} did not do stage {stage}, whose result it is"));
            }
        }
        let last = self.effects.iter().rev().find(|(stage, _)| *stage == GUARDED);
        match last {
            Some((_, last)) if *last == by[GUARDED as usize] => Ok(()),
            other => {
                Err(format!("the guarded effect that came last is not the saved one: {other:?}"))
            }
        }
    }
}

impl Attempt {
    /// Checks that this attempt was over when a later one of the same process was started.
    fn check_over_when(&self, later: &Self) -> Verdict {
        let has_told = !self.was_fenced && self.ending_us.is_some_and(|at| at <= later.at_us);
        let has_run_out = self.until_ms <= ms_of(later.at_us);
        if !has_told && !has_run_out {
            let (one, two) = (self.token, later.token);
            return Err(format!("{two} was started while {one} held a lease"));
        }
        if self.wrote_us > later.at_us {
            let (one, two) = (self.token, later.token);
            return Err(format!("{one} was heard although {two} had taken over"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(token: u64, what: What) -> Line {
        Line::By(Who { child: 1, id: 0, token }, what)
    }

    fn started(token: u64, at_us: u64) -> Line {
        let until_ms = (at_us + 50_000) / 1_000;
        by(token, What::Started { asked_us: at_us - 10, at_us, until_ms })
    }

    fn effect(token: u64, stage: u64) -> Line {
        by(token, What::Effect { stage })
    }

    fn saved(token: u64, stage: u64, asked_us: u64) -> Line {
        by(token, What::Saved { stage, asked_us, until_ms: 0 })
    }

    /// An attempt that does everything, from a moment on.
    fn good(token: u64, at_us: u64) -> Vec<Line> {
        let mut lines = vec![started(token, at_us)];
        for stage in 0..2 {
            lines.extend([effect(token, stage), saved(token, stage, at_us + 1)]);
        }
        lines.push(by(token, What::Ending { at_us: at_us + 2 }));
        lines.push(by(token, What::Completing { by: [token; 2] }));
        lines.push(by(token, What::Completed { asked_us: at_us + 3, by: [token; 2] }));
        lines
    }

    fn said(lines: &[Line], end: End) -> String {
        check(lines, 1, |_| Ok(end)).err().unwrap_or_default()
    }

    #[test]
    fn the_oracle_of_the_ledger_takes_what_is_right() {
        let taken_over = [vec![started(7, 1_000)], good(9, 60_000)].concat();
        assert_eq!(said(&taken_over, End::Completed([9; 2])), "");
        assert_eq!(said(&taken_over[..1], End::Dead), "");
        let not_acknowledged = &taken_over[..taken_over.len() - 1];
        assert_eq!(said(not_acknowledged, End::Completed([9; 2])), "");
        assert_eq!(said(not_acknowledged, End::Dead), "", "or not made");
        let late = [vec![started(7, 1_000)], good(9, 60_000), vec![effect(7, 0)]].concat();
        assert_eq!(said(&late, End::Completed([9; 2])), "", "an effect that nobody guards is late");
    }

    #[test]
    fn the_oracle_of_the_ledger_refuses_what_is_wrong() {
        let one = good(9, 60_000);
        let done = End::Completed([9; 2]);
        let with = |first: Vec<Line>, then: Vec<Line>| [first, one.clone(), then].concat();
        let completed = |token| by(token, What::Completed { asked_us: 61_000, by: [token; 2] });
        let cases: [(&str, Vec<Line>, End); 11] = [
            ("completed twice", with(vec![], vec![completed(9)]), done),
            ("a completion was lost", one.clone(), End::Dead),
            ("another result", one.clone(), End::Completed([8; 2])),
            ("it has not ended", one.clone(), End::Open),
            ("nobody gave", vec![started(9, 60_000)], done),
            ("held a lease", with(vec![started(7, 50_000)], vec![]), done),
            ("was heard", with(vec![started(7, 1_000)], vec![saved(7, 0, 70_000)]), done),
            ("lower than", with(vec![started(11, 1_000)], vec![]), done),
            ("given twice", with(vec![], vec![started(9, 70_000)]), done),
            (
                "again",
                with(vec![started(7, 1_000), effect(7, 0), saved(7, 0, 1_001)], vec![]),
                done,
            ),
            ("came last", with(vec![started(7, 1_000)], vec![effect(7, GUARDED)]), done),
        ];
        for (wanted, lines, end) in cases {
            let said = said(&lines, end);
            assert!(said.contains(wanted), "{wanted}: {said:?}");
        }
    }
}
