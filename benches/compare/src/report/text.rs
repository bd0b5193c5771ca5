//! Figures in readable form.

use std::fmt::Write;

/// `1234567` as `1,234,567`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio or a size, to its significant digits.
pub fn figure(number: f64) -> String {
    match number.abs() {
        ..1.0 => format!("{number:.2}"),
        ..100.0 => format!("{number:.1}"),
        _ => grouped(number),
    }
}

pub fn time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.1} µs", ns / 1e3),
        ..1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

pub fn seconds(s: f64) -> String {
    time(s * 1e9)
}

/// Ids or claims, short enough for a heading or an axis.
pub fn count(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0}"),
        ..1e6 => format!("{} k", trimmed(number / 1e3)),
        _ => format!("{} M", trimmed(number / 1e6)),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A table in Markdown. The first column is text and the others are figures.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    aligned(heads, "---:|", rows)
}

/// A table of text.
pub fn text_table(heads: &[&str], rows: &[Vec<String>]) -> String {
    aligned(heads, "---|", rows)
}

fn aligned(heads: &[&str], others: &str, rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|---|{}\n", heads.join(" | "), others.repeat(heads.len() - 1));
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(123.0), "123");
        assert_eq!(count(2_500_000.0), "2.5 M");
        assert_eq!(count(100e6), "100 M");
        assert_eq!(time(1_500.0), "1.5 µs");
        assert_eq!(seconds(0.25), "250.0 ms");
        assert_eq!(
            table(&["a", "b"], &[vec!["x".into(), "1".into()]]),
            "| a | b |\n|---|---:|\n| x | 1 |\n"
        );
    }
}
