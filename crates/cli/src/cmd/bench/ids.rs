//! Where the ids of a trial come from: random ones, or the lines of the user's file.

use std::collections::HashSet;
use std::path::Path;

use firstseen::limits::ID_BYTES_MAX;

use crate::output::Failure;

/// How much of a file is read: enough for some ten million ids, which stay in memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Ids for a trial. Any number of threads may draw from them.
#[derive(Debug)]
pub(super) enum Ids {
    /// Random ids of one length, some of them repeated.
    Random { bytes: usize, duplicates_percent: u8 },
    /// Lines, in order.
    Lines { text: Vec<u8>, ends: Vec<(usize, usize)> },
}

impl Ids {
    pub(super) fn of_file(path: &Path) -> Result<Self, Failure> {
        use std::io::Read as _;
        let fault = |e| Failure::data(format!("cannot read {}: {e}", path.display()));
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(fault)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(fault)?;
        let mut ends = Vec::new();
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &text).chain([text.len()]) {
            if (1..=ID_BYTES_MAX).contains(&(end - from)) {
                ends.push((from, end));
            }
            from = end + 1;
        }
        if ends.is_empty() {
            return Err(Failure::data(format!("{} has no line that can be an id", path.display())));
        }
        Ok(Self::Lines { text, ends })
    }

    /// Describes the ids for a person.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Random { bytes, duplicates_percent } => {
                format!("random ids of {bytes} bytes, {duplicates_percent} % of them seen before")
            }
            Self::Lines { ends, .. } => format!("{} lines of a file", ends.len()),
        }
    }

    /// Returns the ids for one of several threads.
    pub(super) fn draw(&self, thread: u64, threads: u64) -> Draw<'_> {
        Draw {
            ids: self,
            thread,
            threads,
            count: 0,
            count_max: u64::MAX,
            new: 0,
            random: 0x5851_f42d_4c95_7f2d ^ thread,
        }
    }

    /// Returns how many different ids there are among the first ones of each thread: `claims` says how many of each.
    pub(super) fn different(&self, claims: &[u64]) -> u64 {
        let threads = claims.len() as u64;
        let draws = || (0..).zip(claims).map(|(n, count)| self.draw(n, threads).at_most(*count));
        match self {
            Self::Random { .. } => draws().map(|mut draw| draw.count_new()).sum(),
            Self::Lines { text, .. } => {
                let mut seen = HashSet::new();
                for mut draw in draws() {
                    while let Some((from, to)) = draw.next_line() {
                        seen.insert(&text[from..to]);
                    }
                }
                seen.len() as u64
            }
        }
    }
}

/// One thread's pass over the ids.
#[derive(Debug)]
pub(super) struct Draw<'a> {
    ids: &'a Ids,
    thread: u64,
    threads: u64,
    count: u64,
    count_max: u64,
    new: u64,
    random: u64,
}

impl Draw<'_> {
    /// Ends after so many ids.
    pub(super) fn at_most(self, count_max: u64) -> Self {
        Self { count_max, ..self }
    }

    /// Returns the next id, or `None` at the end. `buf` may be used to build it.
    pub(super) fn next<'b>(&'b mut self, buf: &'b mut [u8; ID_BYTES_MAX]) -> Option<&'b [u8]> {
        match self.ids {
            Ids::Lines { text, .. } => {
                let (from, to) = self.next_line()?;
                Some(&text[from..to])
            }
            Ids::Random { bytes, .. } => {
                let number = self.next_number()?;
                let mut word = mix(number * self.threads + self.thread + 1);
                for part in buf[..*bytes].chunks_mut(8) {
                    part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
                    word = mix(word);
                }
                Some(&buf[..*bytes])
            }
        }
    }

    /// Returns where the next line begins and ends.
    fn next_line(&mut self) -> Option<(usize, usize)> {
        let Ids::Lines { ends, .. } = self.ids else { return None };
        let at = self.count * self.threads + self.thread;
        let line = ends.get(usize::try_from(at).ok()?).filter(|_| self.count < self.count_max)?;
        self.count += 1;
        Some(*line)
    }

    /// Returns which of this thread's random ids is next: a new one has the next higher number.
    fn next_number(&mut self) -> Option<u64> {
        let Ids::Random { duplicates_percent, .. } = self.ids else { return None };
        if self.count == self.count_max {
            return None;
        }
        self.count += 1;
        if self.new > 0 && self.random() % 100 < u64::from(*duplicates_percent) {
            return Some(self.random() % self.new);
        }
        self.new += 1;
        Some(self.new - 1)
    }

    /// Draws all random ids and returns how many were new.
    fn count_new(&mut self) -> u64 {
        while self.next_number().is_some() {}
        self.new
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }
}

/// Applies the finalizer of splitmix64: different numbers stay different.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn threads_draw_different_ids_and_repeat_about_as_many_as_asked() {
        let ids = Ids::Random { bytes: 16, duplicates_percent: 20 };
        let mut buf = [0; ID_BYTES_MAX];
        let mut seen = BTreeSet::new();
        for thread in 0..3 {
            let mut draw = ids.draw(thread, 3);
            for _ in 0..10_000 {
                seen.insert(draw.next(&mut buf).unwrap().to_vec());
            }
        }
        assert!((23_500..24_500).contains(&seen.len()), "{} different of 30,000", seen.len());
        assert_eq!(ids.different(&[10_000; 3]), seen.len() as u64);
        assert_eq!(ids.different(&[0, 1, 0]), 1);
    }

    #[test]
    fn lines_are_drawn_once_in_order_and_those_that_are_no_ids_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        std::fs::write(&path, format!("a\n\nb\n{}\nc", "x".repeat(2000))).unwrap();
        let ids = Ids::of_file(&path).unwrap();
        let mut buf = [0; ID_BYTES_MAX];
        let all = |thread, threads, buf: &mut [u8; ID_BYTES_MAX]| {
            let mut draw = ids.draw(thread, threads);
            let mut all = Vec::new();
            while let Some(id) = draw.next(buf) {
                all.extend_from_slice(id);
            }
            all
        };
        assert_eq!(all(0, 1, &mut buf), b"abc");
        assert_eq!(all(0, 2, &mut buf), b"ac");
        assert_eq!(all(1, 2, &mut buf), b"b");
        assert_eq!(ids.draw(0, 1).at_most(0).next(&mut buf), None);
    }

    #[test]
    fn a_line_that_two_threads_draw_is_one_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        std::fs::write(&path, "a\na\nb\nc\nb").unwrap();
        let ids = Ids::of_file(&path).unwrap();
        assert_eq!(ids.different(&[5]), 3);
        assert_eq!(ids.different(&[3, 2]), 3);
        assert_eq!(ids.different(&[1, 1]), 1, "the first two lines");
    }
}
