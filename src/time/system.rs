//! The machine's clocks: the only file that reads the system time (I5).

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Clock, Timestamp};

/// This machine's clocks, which a store uses by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system time is read")]
    fn wall(&self) -> Timestamp {
        // Before the epoch the clock is plainly wrong; 0 is then clamped like any backward step.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed_ms(&self) -> u64 {
        elapsed_ms()
    }

    fn boot_id(&self) -> u128 {
        static BOOT_ID: OnceLock<u128> = OnceLock::new();
        *BOOT_ID.get_or_init(|| read_boot_id().unwrap_or_else(process_id))
    }
}

/// Returns milliseconds since boot.
///
/// `Boottime` rather than `Monotonic`, which stops while the machine sleeps: after a night's sleep the wall clock would
/// look as if it had been set.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn elapsed_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// Returns milliseconds since the first call in this process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[expect(clippy::disallowed_methods, reason = "elapsed time where the boot clock is not at hand")]
fn elapsed_ms() -> u64 {
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Returns the kernel's id of this boot; `None` if there is none, or no clock that spans the boot.
fn read_boot_id() -> Option<u128> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        parse_boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
    } else {
        None
    }
}

/// Parses a UUID: 32 hexadecimal digits with hyphens between them.
fn parse_boot_id(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let well_formed = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
}

/// Stands in for the boot id, so that a process never compares elapsed times with an earlier one.
fn process_id() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_le_bytes(bytes),
        Err(_) => u128::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_of_this_century() {
        let wall_ms = SystemClock.wall().as_millis();
        assert!(wall_ms > 1_600_000_000_000 && wall_ms < 4_100_000_000_000, "{wall_ms}");
    }

    #[test]
    fn elapsed_time_does_not_run_backwards() {
        let mut before = SystemClock.elapsed_ms();
        for _ in 0..1_000 {
            let now = SystemClock.elapsed_ms();
            assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn the_boot_id_stays_the_same() {
        assert_eq!(SystemClock.boot_id(), SystemClock.boot_id());
        assert_ne!(SystemClock.boot_id(), 0);
    }

    #[test]
    fn boot_ids_are_parsed_strictly() {
        let text = "1b4e28ba-2fa1-11d2-883f-0016d3cca427\n";
        assert_eq!(parse_boot_id(text), Some(0x1b4e_28ba_2fa1_11d2_883f_0016_d3cc_a427));
        for text in ["", "1b4e28ba", "+b4e28ba-2fa1-11d2-883f-0016d3cca427", "not a uuid at all"] {
            assert_eq!(parse_boot_id(text), None, "{text}");
        }
    }

    #[test]
    fn stand_ins_differ() {
        assert_ne!(process_id(), process_id());
    }
}
