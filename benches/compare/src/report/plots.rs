//! Plots as SVG. Text stays text, so drawing needs no font.

use super::rows::{Row, growth, rows, sized};
use super::text::{count, figure, time};
use crate::peers::{Kind, SUBJECTS, Subject};
use crate::results::Results;
use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const SIZE: (u32, u32) = (1_000, 520);
const NAMES_WIDTH: u32 = 190;
const TEXT: (&str, u32) = ("sans-serif", 16);
const OURS: RGBColor = RGBColor(200, 30, 30);
/// For the others; can be told apart with red-green colour blindness.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 94, 240),
    RGBColor(110, 110, 110),
    RGBColor(150, 100, 40),
    RGBColor(0, 0, 0),
];

/// A line of a plot.
struct Line {
    name: String,
    is_ours: bool,
    points: Vec<(f64, f64)>,
}

struct Axes<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// Of the log axis of x.
    x_base: f64,
    x_text: &'a dyn Fn(&f64) -> String,
    y_text: &'a dyn Fn(&f64) -> String,
}

/// The range of the values, with a margin for a log axis.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    least * 0.8..most * 1.25
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(path: &Path, axes: &Axes<'_>, lines: &[Line]) -> Result<()> {
    draw_lines(path, axes, lines).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw_lines(path: &Path, axes: &Axes<'_>, lines: &[Line]) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().count() == 0 {
        return Ok(());
    }
    let x = range(points().map(|point| point.0)).log_scale().base(axes.x_base);
    let y = range(points().map(|point| point.1)).log_scale();
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    // Names go beside the plot, where they hide nothing.
    let (plot, names) = area.split_horizontally(SIZE.0 - NAMES_WIDTH);
    let mut chart = ChartBuilder::on(&plot)
        .caption(axes.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(x, y)?;
    mesh(&mut chart, axes)?;
    let mut colours = COLOURS.iter().cycle();
    for (n, line) in (0..).zip(lines) {
        let colour = if line.is_ours { OURS } else { *colours.next().unwrap_or(&BLACK) };
        let style = colour.stroke_width(if line.is_ours { 4 } else { 2 });
        chart.draw_series(LineSeries::new(line.points.clone(), style).point_size(4))?;
        let at = 60 + 26 * n;
        names.draw(&PathElement::new([(0, at), (22, at)], style))?;
        names.draw(&Text::new(line.name.clone(), (28, at - 8), TEXT))?;
    }
    Ok(area.present()?)
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn mesh<X, Y>(chart: &mut Chart<'_, '_, X, Y>, axes: &Axes<'_>) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(BLACK.mix(0.06)).bold_line_style(BLACK.mix(0.15));
    mesh.x_desc(axes.x).y_desc(axes.y).label_style(TEXT).axis_desc_style(TEXT);
    mesh.x_label_formatter(axes.x_text).y_label_formatter(axes.y_text);
    mesh.draw().map_err(|error| error.to_string().into())
}

/// One line per subject, over the growth cases.
fn over_ids(results: &Results, y: impl Fn(&Row<'_>) -> Option<f64>) -> Vec<Line> {
    let cases = growth(results);
    let all = SUBJECTS.iter().map(|subject| Line {
        name: plain(*subject),
        is_ours: subject.kind == Kind::Ours,
        points: cases
            .iter()
            .filter_map(|(_, name)| {
                let row = rows(results, name).into_iter().find(|row| row.subject == *subject)?;
                Some((row.outcome.claims.first_seen as f64, y(&row)?))
            })
            .collect(),
    });
    all.filter(|line| !line.points.is_empty()).collect()
}

/// Draws every plot that has results.
pub fn all(results: &Results, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let ids = |x: &f64| count(*x);
    let secs = |y: &f64| time(*y * 1e9);
    let axes = Axes {
        title: "Claims a second by number of ids (one thread, no sync)",
        x: "ids in the store at the end",
        y: "claims a second",
        x_base: 10.0,
        x_text: &ids,
        y_text: &ids,
    };
    draw(&folder.join("claims.svg"), &axes, &over_ids(results, |row| Some(row.rate())))?;
    let axes = Axes { title: "Opening after a clean close", y: "", y_text: &secs, ..axes };
    let closed = over_ids(results, |row| Some(row.reopened.after_close?.seconds));
    draw(&folder.join("open-closed.svg"), &axes, &closed)?;
    let axes = Axes { title: "Opening after a kill", ..axes };
    let killed = over_ids(results, |row| Some(row.reopened.after_kill?.seconds));
    draw(&folder.join("open-killed.svg"), &axes, &killed)?;
    latency(results, &folder.join("latency.svg"))?;
    bars(results, "Memory, bytes an id", &folder.join("memory.svg"), |row| {
        row.outcome.memory_per_id()
    })?;
    bars(results, "Disk, bytes an id", &folder.join("disk.svg"), |row| row.outcome.disk_per_id())
}

/// Draws claims a second by the number of threads, a line for each subject.
pub fn by_threads(
    path: &Path,
    title: &str,
    lines: impl IntoIterator<Item = (Subject, Vec<(u64, f64)>)>,
) -> Result<()> {
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|(subject, rates)| Line {
            name: plain(subject),
            is_ours: subject.kind == Kind::Ours,
            points: rates.into_iter().map(|(threads, rate)| (threads as f64, rate)).collect(),
        })
        .collect();
    let axes = Axes {
        title,
        x: "threads",
        y: "claims a second",
        x_base: 2.0,
        // Between powers of two the axis has marks that are no number of threads.
        x_text: &|x| {
            let whole = x.round();
            if (x - whole).abs() < 1e-6 { format!("{whole}") } else { String::new() }
        },
        y_text: &|y| count(*y),
    };
    draw(path, &axes, &lines)
}

/// Claim latency by percentile.
fn latency(results: &Results, path: &Path) -> Result<()> {
    let mut lines: Vec<Line> = rows(results, "one")
        .iter()
        .filter(|row| {
            ["firstseen", "sled", "fjall", "rocksdb", "lmdb", "sqlite", "redis"]
                .contains(&row.subject.name)
        })
        .map(|row| line_of(row, row.subject.title, row.subject.kind == Kind::Ours))
        .collect();
    let expiring = rows(results, "ttl");
    lines.extend(expiring.iter().map(|row| line_of(row, "firstseen, expiring", false)));
    let part = |x: &f64| match *x {
        ..15.0 => "half".to_owned(),
        x if x >= 9_000.0 => "worst".to_owned(),
        x => format!("{} %", trimmed(100.0 - 100.0 / x)),
    };
    let axes = Axes {
        title: "Time of a claim: the fastest half, 99 %, 99.9 %, the worst (one thread, no sync)",
        x: "",
        y: "",
        x_base: 10.0,
        x_text: &part,
        y_text: &|y: &f64| time(*y),
    };
    draw(path, &axes, &lines)
}

fn trimmed(percent: f64) -> String {
    format!("{percent:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn line_of(row: &Row<'_>, name: &str, is_ours: bool) -> Line {
    let c = &row.outcome.claims;
    let points =
        [(10.0, c.p50_ns), (100.0, c.p99_ns), (1_000.0, c.p999_ns), (10_000.0, c.worst_ns)];
    let points = points.map(|(x, ns)| (x, ns.max(1) as f64)).to_vec();
    Line { name: name.to_owned(), is_ours, points }
}

/// One bar per subject, the shortest at the top.
fn bars(
    results: &Results,
    title: &str,
    path: &Path,
    value: impl Fn(&Row<'_>) -> f64,
) -> Result<()> {
    let rows = sized(results);
    let mut bars: Vec<_> = rows.iter().map(|row| (row.subject, value(row))).collect();
    bars.retain(|(_, value)| *value > 0.0);
    bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    draw_bars(title, path, &bars).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw_bars(title: &str, path: &Path, bars: &[(Subject, f64)]) -> Drawn {
    let Some(most) = bars.first().map(|bar| bar.1) else { return Ok(()) };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .margin_right(80)
        .x_label_area_size(30)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..most, (0..bars.len() - 1).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(n) => bars.get(*n).map_or(String::new(), |bar| plain(bar.0)),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(bars.len())
        .label_style(TEXT)
        .x_label_formatter(&|x| count(*x))
        .y_label_formatter(&name)
        .draw()?;
    let beside = TextStyle::from(TEXT.into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for (n, (subject, value)) in bars.iter().enumerate() {
        let colour = if subject.kind == Kind::Ours { OURS } else { COLOURS[6] };
        let (from, to) = (SegmentValue::Exact(n), SegmentValue::Exact(n + 1));
        let mut bar = Rectangle::new([(0.0, from), (*value, to)], colour.filled());
        bar.set_margin(3, 3, 0, 0);
        chart.draw_series([bar])?;
        let at = (*value, SegmentValue::CenterOf(n));
        chart.plotting_area().draw(&Text::new(
            format!(" {}", figure(*value)),
            at,
            beside.clone(),
        ))?;
    }
    Ok(area.present()?)
}

/// A subject's title without Markdown.
fn plain(subject: Subject) -> String {
    subject.title.replace('`', "")
}
