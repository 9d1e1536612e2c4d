//! Figure: one measured size or ratio, with the budget it is held against.
use serde_json::json;

/// What a budget allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    AtMost(f64),
    AtLeast(f64),
    /// Only told, e.g. to explain another figure.
    None,
}

#[derive(Clone, Debug)]
pub struct Figure {
    pub what: String,
    pub value: f64,
    /// `MB`, `ms`, `s`, `pods/s`, or `x` for a ratio.
    pub unit: &'static str,
    pub budget: Budget,
    /// What it was made of.
    pub detail: String,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, budget: Budget, detail: impl Into<String>) -> Self {
        Self { what: what.into(), value, unit, budget, detail: detail.into() }
    }
    /// Whether it keeps its budget; `None` if it has none.
    pub fn within(&self) -> Option<bool> {
        match self.budget {
            Budget::AtMost(most) => Some(self.value <= most),
            Budget::AtLeast(least) => Some(self.value >= least),
            Budget::None => None,
        }
    }
}

/// The figures as lines for a person.
pub fn table(figures: &[Figure]) -> String {
    let cells: Vec<[String; 5]> = figures
        .iter()
        .map(|figure| {
            let budget = match figure.budget {
                Budget::AtMost(most) => format!("<= {} {}", number(most), figure.unit),
                Budget::AtLeast(least) => format!(">= {} {}", number(least), figure.unit),
                Budget::None => String::new(),
            };
            let verdict = match figure.within() {
                Some(true) => "ok",
                Some(false) => "OVER",
                None => "",
            };
            [figure.what.clone(), format!("{} {}", number(figure.value), figure.unit), budget, verdict.to_owned(), figure.detail.clone()]
        })
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let line = format!(
            "{:what$}  {:>value$}  {:>budget$}  {:verdict$}  {}",
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            what = widths[0],
            value = widths[1],
            budget = widths[2],
            verdict = widths[3]
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The figures for programs.
pub fn json(figures: &[Figure]) -> String {
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| {
            let (at_most, at_least) = match figure.budget {
                Budget::AtMost(most) => (json!(most), json!(null)),
                Budget::AtLeast(least) => (json!(null), json!(least)),
                Budget::None => (json!(null), json!(null)),
            };
            json!({ "what": figure.what, "value": figure.value, "unit": figure.unit, "atMost": at_most, "atLeast": at_least, "within": figure.within(), "detail": figure.detail })
        })
        .collect();
    serde_json::to_string_pretty(&json!({ "figures": rows })).expect("figures encode") + "\n"
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The value that this share of the samples does not exceed; sorts them.
pub fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() as f64 * share).ceil() as usize;
    samples.get(at.saturating_sub(1).min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_that_enough_do_not_exceed() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile(&mut samples, share)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile(&mut [7.0], 0.5), 7.0);
    }

    #[test]
    fn a_row_over_its_budget_says_so() {
        let figures = [
            Figure::new("memory", 41.0, "MB", Budget::AtMost(40.0), "RSS"),
            Figure::new("reads", 0.5, "x", Budget::AtLeast(0.5), ""),
            Figure::new("rows", 1234.0, "", Budget::None, ""),
        ];
        let table = table(&figures);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines, ["memory  41.0 MB  <= 40.0 MB  OVER  RSS", "reads    0.50 x   >= 0.50 x  ok", "rows      1234"]);
    }
}
