//! Random events against a model: a map of ids, a map of sources, and a watermark.

use crate::event_time::{Place, S, at, ms, opened, watermark};
use crate::support::{assert_sound, scaled, settle};
use firstseen::Durability;
use firstseen::event_time::{Event, EventClaim, EventTimeOptions};
use std::collections::BTreeMap;
use std::time::Duration;

const WINDOW: u64 = 20 * S;
const LATENESS: u64 = 3 * S;
const DISORDER: u64 = 2 * S;
const IDLE: u64 = 30 * S;

fn options() -> EventTimeOptions {
    EventTimeOptions::new(ms(WINDOW))
        .allowed_lateness(ms(LATENESS))
        .out_of_orderness(ms(DISORDER))
        .idle_after(ms(IDLE))
        .watermark_step(ms(1))
        .durability(Durability::Disk)
}

#[derive(Default)]
struct Model {
    now: u64,
    watermark: u64,
    /// Greatest event time, and when heard.
    sources: BTreeMap<&'static str, (u64, u64)>,
    /// First and greatest event time, and the end.
    ids: BTreeMap<u64, (u64, u64, u64)>,
}

impl Model {
    fn claim(&mut self, id: u64, time: u64) -> EventClaim {
        let watermark = self.watermark;
        self.ids.retain(|_, (.., end)| *end > watermark);
        if let Some((first, greatest, end)) = self.ids.get_mut(&id) {
            *greatest = (*greatest).max(time);
            *end = *greatest + WINDOW + LATENESS;
            return EventClaim::Duplicate { first_event_time: at(*first) };
        }
        if time + LATENESS < watermark {
            let late_by = Duration::from_millis(watermark - time);
            return EventClaim::TooLate { watermark: at(watermark), late_by };
        }
        self.ids.insert(id, (time, time, time + WINDOW + LATENESS));
        EventClaim::FirstSeen
    }

    fn hear(&mut self, source: &'static str, time: u64) {
        let known = self.sources.entry(source).or_default();
        *known = (known.0.max(time), self.now);
    }

    fn move_watermark(&mut self) {
        let active = self.sources.values().filter(|(_, heard)| self.now - heard < IDLE);
        let least = active.map(|(greatest, _)| greatest.saturating_sub(DISORDER)).min();
        self.watermark = self.watermark.max(least.unwrap_or(0));
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

#[test]
fn i14_event_time_answers_as_the_model_over_crashes_and_upkeep() {
    for seed in 0..scaled(6) {
        run(seed);
    }
}

fn run(seed: u64) {
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut place = Place::new();
    let mut model = Model::default();
    let mut store = place.open();
    let mut events = opened(&store, options());
    let (mut reopened, mut counts) = (0, [0; 3]);
    for step in 0..1_500u64 {
        let base = step * 40;
        let is_cut = random.below(3) == 0;
        let pause = [1, IDLE / 2, IDLE][random.below(3) as usize];
        let mut event = || {
            let source = ["a", "b", "c"][random.below(3) as usize];
            let time = (base + random.below(8 * S)).saturating_sub(random.below(12 * S));
            (random.below(400), source, time)
        };
        match step % 50 {
            7 | 8 => {
                let batch: Vec<_> = (0..6).map(|_| event()).collect();
                let ids: Vec<_> = batch.iter().map(|(id, ..)| id.to_be_bytes()).collect();
                let asked = batch.iter().zip(&ids);
                let asked: Vec<_> = asked
                    .map(|((_, source, time), id)| Event { id, source, time: at(*time) })
                    .collect();
                let answers = events.claim_batch_at(&asked).expect("answers");
                let expected: Vec<_> =
                    batch.iter().map(|(id, _, time)| model.claim(*id, *time)).collect();
                assert_eq!(answers, expected, "seed {seed}, step {step}");
                batch.iter().for_each(|(_, source, time)| model.hear(source, *time));
            }
            20 => {
                let (_, source, time) = event();
                events.advance(source, at(time)).expect("advances");
                model.hear(source, time);
            }
            30 => {
                store.freeze();
                settle(&store);
                continue;
            }
            40 => {
                place.clock.advance(ms(pause));
                model.now += pause;
                continue;
            }
            45 if is_cut => {
                let disk = place.disk.lose_unsynced();
                drop((events, store));
                place.disk = disk;
                store = place.open();
                events = opened(&store, options());
                // A source counts from the opening on.
                let now = model.now;
                model.sources.values_mut().for_each(|(_, heard)| *heard = now);
                reopened += 1;
                assert_eq!(watermark(&events), model.watermark, "seed {seed}, step {step}");
                continue;
            }
            _ => {
                let (id, source, time) = event();
                let answer = events.claim_at(id.to_be_bytes(), source, at(time)).expect("answers");
                assert_eq!(answer, model.claim(id, time), "seed {seed}, step {step}");
                counts[match answer {
                    EventClaim::FirstSeen => 0,
                    EventClaim::Duplicate { .. } => 1,
                    EventClaim::TooLate { .. } => 2,
                }] += 1;
                model.hear(source, time);
            }
        }
        model.move_watermark();
        assert_eq!(watermark(&events), model.watermark, "seed {seed}, step {step}");
    }
    assert!(reopened > 2 && counts.iter().all(|n| *n > 20), "{reopened} {counts:?}");
    assert_sound(&store);
}
