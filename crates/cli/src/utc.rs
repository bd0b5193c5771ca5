//! A time as people write it.

use firstseen::Timestamp;

const DAY_MS: u64 = 86_400_000;

/// Formats a time as RFC 3339 text in UTC, to the millisecond.
pub(crate) fn text(moment: Timestamp) -> String {
    let ms = moment.as_millis();
    let (year, month, day) = civil(ms / DAY_MS);
    let (hour, minute) = (ms / 3_600_000 % 24, ms / 60_000 % 60);
    let (second, milli) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Returns the year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// The year begins in March here, so that the leap day is its last and the first days of the months are on a straight
/// line: (153 m + 2) / 5.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097); // 400 years have 146,097 days
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::text;
    use firstseen::Timestamp;

    #[test]
    fn writes_known_moments() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(Timestamp::from_millis(ms)), expected);
        }
    }

    #[test]
    fn does_not_overflow_at_the_end_of_time() {
        assert!(text(Timestamp::from_millis(u64::MAX - 1)).ends_with('Z'));
    }
}
