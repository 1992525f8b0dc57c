//! What was measured: one table for a person, `target/bench.json` for a program.

use serde_json::json;

/// A figure of ours beside its limit.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    limit: Option<f64>,
    /// What the figure is compared with, and what is asked of it.
    note: String,
}

/// The figures of a run.
#[derive(Default)]
pub(crate) struct Table {
    figures: Vec<Figure>,
}

impl Table {
    /// Adds a figure and prints it at once.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        limit: Option<f64>,
        note: impl Into<String>,
    ) {
        let figure = Figure { name, value, unit, limit, note: note.into() };
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    /// Prints the whole table and writes `target/bench.json`.
    pub(crate) fn finish(&self) {
        println!("\n{:<22} {:>12} {:<11} {:>12} {:>6}  ", "name", "value", "unit", "limit", "ratio");
        for figure in &self.figures {
            println!("{}", figure.line());
        }
        let list: Vec<_> = self
            .figures
            .iter()
            .map(|f| {
                json!({
                    "name": f.name, "value": f.value, "unit": f.unit, "limit": f.limit, "ratio": f.ratio(),
                    "note": f.note,
                })
            })
            .collect();
        let path = hutong_tests::root().join("target/bench.json");
        std::fs::write(&path, serde_json::to_string_pretty(&list).unwrap() + "\n").unwrap();
        println!("\nwritten to target/bench.json");
    }
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.value / limit)
    }

    fn line(&self) -> String {
        let limit = self.limit.map_or(String::new(), short);
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        format!(
            "{:<22} {:>12} {:<11} {:>12} {:>6}  {}",
            self.name,
            short(self.value),
            self.unit,
            limit,
            ratio,
            self.note
        )
    }
}

/// Writes a number with as many digits as it is worth.
fn short(n: f64) -> String {
    if n.abs() >= 100.0 { format!("{n:.0}") } else { format!("{n:.2}") }
}
