//! Prints each step of the doctor as it is taken: what was found, and how to fix what is wrong.

use std::fmt::Display;
use std::io::Write;

use serde_json::json;

/// What is wrong with a step, and how to fix it.
pub(super) struct Problem {
    pub(super) words: String,
    pub(super) fix: String,
}

impl Problem {
    pub(super) fn new(words: impl Display, fix: impl Into<String>) -> Self {
        Self { words: words.to_string(), fix: fix.into() }
    }
}

/// What a step found that did not fail.
pub(super) enum Found {
    /// It is as it should be, in words.
    Well(String),
    /// A pull works, and something is wrong all the same.
    Doubtful(Problem),
}

/// Reports each step as it is taken.
pub(super) struct Reporter<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) json: bool,
    pub(super) steps: Vec<serde_json::Value>,
}

impl Reporter<'_> {
    /// Reports the step; `None` if it failed.
    pub(super) fn step<T>(&mut self, step: &str, outcome: Result<(T, Found), Problem>) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok((value, Found::Well(words))) => self.print("ok", step, &words, None).map(|()| Some(value)),
            Ok((value, Found::Doubtful(problem))) => {
                self.print("warn", step, &problem.words, Some(&problem.fix)).map(|()| Some(value))
            }
            Err(problem) => self.print("FAIL", step, &problem.words, Some(&problem.fix)).map(|()| None),
        }
    }

    fn print(&mut self, how: &str, step: &str, words: &str, fix: Option<&str>) -> anyhow::Result<()> {
        if self.json {
            let (ok, warning) = (how != "FAIL", how == "warn");
            self.steps.push(json!({"step": step, "ok": ok, "warning": warning, "found": words, "cure": fix}));
            return Ok(());
        }
        writeln!(self.out, "{how:4}  {step}: {words}")?;
        if let Some(fix) = fix {
            writeln!(self.out, "      fix: {fix}")?;
        }
        Ok(())
    }
}
