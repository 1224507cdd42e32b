//! Figures, as a table for people and as JSON.

use serde_json::{Value, json};
use std::time::Instant;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// One figure: the median of its samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    samples: Vec<f64>,
    target: Option<Target>,
}

impl Figure {
    pub(crate) fn of(name: &str, unit: &'static str, samples: &[f64]) -> Self {
        Self { name: name.to_owned(), unit, samples: samples.to_vec(), target: None }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn missed(&self) -> bool {
        self.target.is_some_and(|t| !t.holds(median(&self.samples)))
    }

    fn line(&self) -> String {
        let middle = number(median(&self.samples));
        let judged = match self.target {
            None => String::new(),
            Some(Target::AtLeast(least)) => format!(">= {}  {}", number(least), self.word()),
            Some(Target::AtMost(most)) => format!("<= {}  {}", number(most), self.word()),
        };
        let all: Vec<String> = self.samples.iter().map(|s| number(*s)).collect();
        let all = if all.len() > 1 { all.join(" ") } else { String::new() };
        format!("{:<46} {middle:>9} {:<7} {judged:<16} {all}", self.name, self.unit).trim_end().to_owned()
    }

    fn word(&self) -> &'static str {
        if self.missed() { "MISSED" } else { "held" }
    }

    fn json(&self) -> Value {
        let target = self.target.map(|t| match t {
            Target::AtLeast(v) => json!({ "at-least": v }),
            Target::AtMost(v) => json!({ "at-most": v }),
        });
        json!({
            "name": self.name, "unit": self.unit, "median": median(&self.samples), "samples": self.samples,
            "target": target, "held": self.target.map(|_| !self.missed()),
        })
    }
}

/// Collects figures.
#[derive(Debug)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    started: Instant,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { figures: Vec::new(), started: Instant::now() }
    }

    /// Says on stderr what goes on.
    pub(crate) fn doing(&self, what: &str) {
        eprintln!("[{:6.1} s] {what}", self.started.elapsed().as_secs_f64());
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    pub(crate) fn missed(&self) -> bool {
        self.figures.iter().any(Figure::missed)
    }

    pub(crate) fn table(&self) -> String {
        let lines: Vec<String> = self.figures.iter().map(Figure::line).collect();
        format!("{:<46} {:>9} {:<7} {:<16} {}\n{}", "figure", "median", "", "target", "samples", lines.join("\n"))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "figures": self.figures.iter().map(Figure::json).collect::<Vec<_>>() })
    }
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(middle), 1) => *middle,
        (Some(upper), _) => f64::midpoint(sorted[sorted.len() / 2 - 1], *upper),
        (None, _) => f64::NAN,
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_target_is_judged_by_the_median_and_nothing_measured_is_missed() {
        let figure = Figure::of("CPU", "x", &[1.0, 9.0, 2.0]).target(Target::AtMost(2.0));
        assert!(!figure.missed());
        assert_eq!(
            figure.line(),
            format!("{:<46} {:>9} {:<7} {:<16} 1.00 9.00 2.00", "CPU", "2.00", "x", "<= 2.00  held")
        );
        assert!(Figure::of("CPU", "x", &[2.1]).target(Target::AtMost(2.0)).missed());
        assert!(Figure::of("speed", "x", &[0.6]).target(Target::AtLeast(0.7)).missed());
        assert!(Figure::of("speed", "x", &[]).target(Target::AtLeast(0.7)).missed());
        assert_eq!(figure.json()["held"], true);
    }
}
