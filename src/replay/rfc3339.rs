//! Times as RFC 3339 writes them.

use crate::time::Timestamp;

/// Reads a time such as `2026-11-29T23:10:55.25+01:00`, to the millisecond, later digits cut. `None` if it is not one, or
/// before 1970.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, byte)| head[*at] == *byte)
        || !matches!(head[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let part = |from: usize, to: usize| number(&head[from..to]);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    // A leap second counts as the first of the next minute.
    if !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let first = fraction[..digits].iter().map(|digit| i64::from(digit - b'0'));
        millis = first.chain([0; 3]).take(3).fold(0, |millis, digit| millis * 10 + digit);
        rest = &fraction[digits..];
    }
    let seconds = ((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let millis = (seconds - offset(rest)?) * 1_000 + millis;
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}

/// Reads the offset from UTC, in seconds.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 5 && rest[2] == b':' => {
            let (hours, minutes) = (number(&rest[..2])?, number(&rest[3..])?);
            let seconds = (hours * 60 + minutes) * 60;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01 to this one, in the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_millisecond() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.0019z", 1),
            ("2000-02-29 12:00:00Z", 951_825_600_000),
            ("2026-11-29T23:10:55.25Z", 1_795_993_855_250),
            ("2026-11-30T00:10:55.250+01:00", 1_795_993_855_250),
            ("2026-11-29T18:40:55.250000001-04:30", 1_795_993_855_250),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-29",
            "2026-11-29T23:10:55",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T23:60:00Z",
            "2026-11-29T23:10:61Z",
            "2026-11-29T23:10:55.Z",
            "2026-11-29T23:10:55+0100",
            "2026-11-29T23:10:55+24:00",
            "2026-11-29T23:10:55Zx",
            "1969-12-31T23:59:59Z",
            "+026-11-29T23:10:55Z",
            "2026-11-29T23:10:5\u{663}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
