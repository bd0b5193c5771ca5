//! What is printed.

use crate::arguments::Arguments;
use crate::measure::Measured;
use std::fs;

pub(crate) fn head(arguments: &Arguments) {
    let Arguments { messages, rounds, payload, workers, in_flight, work, .. } = arguments;
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kind = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kind = kind.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    println!(
        "{messages} messages of {payload} bytes, {workers} workers, {in_flight} in flight, handlers of {work:?}; medians of \
         {rounds} runs, least and most in brackets; {cpus} processors ({}), with the server on them.\n",
        kind.unwrap_or("of a kind that is not known")
    );
    println!(
        "| broker | without dedup, events/s | ledger, events/s | its price | reservations, events/s | its price |"
    );
    println!("|---|---|---|---|---|---|");
}

pub(crate) fn line(name: &str, [plain, ledger, reservations]: &Measured) {
    let price = |with: &[f64]| format!("{:.0} %", (1.0 - median(with) / median(plain)) * 100.0);
    println!(
        "| {name} | {} | {} | {} | {} | {} |",
        shown(plain),
        shown(ledger),
        price(ledger),
        shown(reservations),
        price(reservations)
    );
}

fn shown(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{} ({}–{})", thousands(median(figures)), thousands(least), thousands(most))
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(low, high)
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_thousands_are_set_apart() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        let shown: Vec<String> = [7.0, 999.6, 1_234.0, 1_234_567.0].map(thousands).to_vec();
        assert_eq!(shown, ["7", "1,000", "1,234", "1,234,567"]);
    }
}
