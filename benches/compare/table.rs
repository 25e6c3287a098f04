//! The one table: a line for each figure, a column for each program, medians over the rounds, ratios to ours.

use std::fmt;

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// A fact, not a contest.
    Neither,
}

#[derive(Debug)]
struct Line {
    what: String,
    unit: &'static str,
    better: Better,
    columns: Vec<(String, Vec<f64>)>,
}

/// All figures so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    lines: Vec<Line>,
    absent: Vec<String>,
}

impl Table {
    /// Notes one figure of one round. The first column is what the others are compared with.
    pub(crate) fn note(&mut self, what: &str, unit: &'static str, better: Better, column: &str, value: f64) {
        if !self.columns.iter().any(|known| known == column) {
            self.columns.push(column.to_owned());
        }
        let at = self.lines.iter().position(|line| line.what == what && line.unit == unit).unwrap_or_else(|| {
            self.lines.push(Line { what: what.to_owned(), unit, better, columns: Vec::new() });
            self.lines.len() - 1
        });
        let columns = &mut self.lines[at].columns;
        match columns.iter_mut().find(|(name, _)| name == column) {
            Some((_, values)) => values.push(value),
            None => columns.push((column.to_owned(), vec![value])),
        }
        eprintln!("  {what} [{unit}] {column}: {}", Number(value));
    }

    /// Names a program that is not here.
    pub(crate) fn absent(&mut self, name: String) {
        self.absent.push(name);
    }
}

impl Line {
    fn median(&self, column: &str) -> Option<f64> {
        let (_, values) = self.columns.iter().find(|(name, _)| name == column)?;
        let mut values = values.clone();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// How many times better ours is.
    fn ratio(&self, ours: f64, theirs: f64) -> Option<f64> {
        match self.better {
            Better::Higher => Some(ours / theirs),
            Better::Lower => Some(theirs / ours),
            Better::Neither => None,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | unit | {} |", self.columns.join(" | "))?;
        writeln!(f, "|---|---|{}", "---|".repeat(self.columns.len()))?;
        for line in &self.lines {
            write!(f, "| {} | {} |", line.what, line.unit)?;
            let ours = self.columns.first().and_then(|first| line.median(first));
            for (index, column) in self.columns.iter().enumerate() {
                let value = line.median(column);
                let ratio = ours.zip(value).and_then(|(ours, theirs)| line.ratio(ours, theirs));
                match (value, ratio.filter(|ratio| index > 0 && ratio.is_finite())) {
                    (Some(value), Some(ratio)) => write!(f, " {} (×{ratio:.2}) |", Number(value))?,
                    (Some(value), None) => write!(f, " {} |", Number(value))?,
                    (None, _) => write!(f, " - |")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f, "\n(×N): the first column is N times better than this one; below 1 it is worse.")?;
        if !self.absent.is_empty() {
            writeln!(f, "Absent on this machine: {}.", self.absent.join(", "))?;
        }
        Ok(())
    }
}

/// Three digits that matter.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            value if value >= 100.0 => write!(f, "{:.0}", self.0),
            value if value >= 10.0 => write!(f, "{:.1}", self.0),
            value if value >= 0.1 => write!(f, "{:.2}", self.0),
            _ => write!(f, "{:.4}", self.0),
        }
    }
}
