//! Ends of the process, and damage to the blocks.

use super::{Place, Verdict, World};
use crate::ops::{Harm, Rng};
use crate::oracle::End;
use firstseen::disk::sim::SimDisk;

impl World {
    pub(super) fn harm(&mut self, harm: Harm) {
        let Place::Simulated { blocks, copies, .. } = &self.place else { return };
        let damage = |seed: u64, change: &dyn Fn(&mut Rng, &mut Vec<u8>) -> bool| {
            let mut rng = Rng(seed);
            blocks.damage(|bytes| rng.below(3) > 0 || change(&mut rng, bytes));
        };
        match harm {
            Harm::Spared => return,
            Harm::Dropped => blocks.clear(),
            Harm::Stale(seed) => {
                if let Some(copy) = copies.get(seed as usize % copies.len().max(1)) {
                    blocks.put_back(copy);
                }
            }
            Harm::Missing(seed) => damage(seed, &|_, _| false),
            Harm::Flipped(seed) => damage(seed, &|rng, bytes| {
                let at = rng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
                true
            }),
            Harm::Cut(seed) => damage(seed, &|rng, bytes| {
                bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
                true
            }),
        }
        self.harmed = true;
    }

    fn die(&mut self, disk: SimDisk) {
        self.start_clock(self.course.time());
        if let Place::Simulated { disk: place, .. } = &mut self.place {
            *place = disk;
        }
        self.drop_store();
    }

    /// Kills the process and starts another.
    pub(crate) fn kill(&mut self) -> Verdict {
        let next = self.disk().kill();
        self.die(next);
        self.reopen(End::Kill)
    }

    /// Cuts the power and starts another process.
    pub(crate) fn power_cut(&mut self, seed: u64, harm: Harm) -> Verdict {
        let next = self.disk().crash(seed);
        self.die(next);
        self.harm(harm);
        self.reopen(End::PowerCut)
    }
}
