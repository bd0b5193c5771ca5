//! The progress bar: on a terminal only, and at most ten times a second.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::grouped;

use super::summary::{Stopwatch, Tally};

/// Milliseconds between two updates of the bar.
const EVERY_MS: u64 = 100;

/// A bar on standard error, or nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    watch: Stopwatch,
    next_ms: u64,
}

impl Progress {
    /// Creates a bar if somebody can see it, unless lines go to the same screen, where the two would garble each other.
    pub(super) fn new(total_bytes: Option<u64>, as_json: bool, watch: Stopwatch) -> Self {
        let visible = io::stderr().is_terminal() && !io::stdout().is_terminal() && !as_json;
        let bar = visible.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(total_bytes, target);
            let style = match total_bytes {
                Some(_) => "{wide_bar} {bytes}/{total_bytes}, {eta} left, {msg}",
                None => "{spinner} {bytes}, {elapsed}, {msg}",
            };
            // The templates are ours; if one were wrong, the plain bar would do.
            match ProgressStyle::with_template(style) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Self { bar, watch, next_ms: EVERY_MS }
    }

    /// Updates the bar, if it is due.
    pub(super) fn show(&mut self, tally: &Tally) {
        let Some(bar) = &self.bar else { return };
        let now_ms = self.watch.ms();
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + EVERY_MS;
        bar.set_message(format!("{} first seen", grouped(tally.first_seen)));
        bar.set_position(tally.bytes);
    }
}

impl Drop for Progress {
    /// Clears the line for the summary or an error.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
