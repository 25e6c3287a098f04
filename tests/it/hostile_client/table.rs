//! A table of text: one line a kind, one column a door. Compared cell by cell; printed whole where it differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was observed, in the order of its making.
pub(super) struct Observed {
    doors: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<String>)>,
}

impl Observed {
    pub(super) fn at(doors: Vec<&'static str>) -> Self {
        Self { doors, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, kind: &'static str, cells: Vec<String>) {
        assert_eq!(cells.len(), self.doors.len(), "{kind}");
        self.rows.push((kind, cells));
    }

    /// Fails with each cell that differs, and with the table as it would have to be.
    pub(super) fn compare(&self, expected: &str) {
        let expected = parsed(expected);
        let mut differing: Vec<String> = Vec::new();
        let mut known = 0;
        for (kind, cells) in &self.rows {
            for (door, cell) in self.doors.iter().zip(cells) {
                let right = expected.get(&((*kind).to_owned(), (*door).to_owned()));
                known += usize::from(right.is_some());
                if right != Some(cell) {
                    let right = right.map_or("nothing", String::as_str);
                    differing.push(format!("{kind}, {door}: {cell}, expected {right}"));
                }
            }
        }
        if known < expected.len() {
            differing.push(format!("{} cells are of kinds or doors that are not tried", expected.len() - known));
        }
        assert!(differing.is_empty(), "{}\n\n{}", differing.join("\n"), self.text());
    }

    fn text(&self) -> String {
        let first = self.rows.iter().map(|(kind, _)| kind.len()).max().unwrap_or(0);
        let width = |at: usize| {
            let cells = self.rows.iter().map(|(_, cells)| cells[at].len());
            cells.chain([self.doors[at].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.doors.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |kind: &str, cells: &[&str]| {
            let mut line = format!("{kind:first$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(line, " | {cell:width$}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line("kind", &self.doors);
        for (kind, cells) in &self.rows {
            line(kind, &cells.iter().map(String::as_str).collect::<Vec<_>>());
        }
        text
    }
}

/// The cells of a table by kind and door. Lines that begin with `#` are for readers.
fn parsed(text: &str) -> BTreeMap<(String, String), String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let cells = |line: &str| line.split(" |").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let doors = cells(lines.next().unwrap_or_default());
    let mut table = BTreeMap::new();
    for line in lines {
        let row = cells(line);
        assert_eq!(row.len(), doors.len(), "a line of the table: {line}");
        for (door, cell) in doors.iter().zip(&row).skip(1) {
            let twice = table.insert((row[0].clone(), door.clone()), cell.clone());
            assert!(twice.is_none(), "twice in the table: {}", row[0]);
        }
    }
    table
}

#[test]
fn a_table_is_compared_cell_by_cell() {
    let mut observed = Observed::at(vec!["a", "b"]);
    observed.row("one", vec!["200 +".into(), String::new()]);
    observed.compare("# for readers\nkind | a | b\none | 200 + |\n");
    for wrong in
        ["kind | a | b\none | 200 | \n", "kind | a | b\none | 200 + |\ntwo | 1 | 2\n", "kind | a\none | 200 +\n"]
    {
        assert!(std::panic::catch_unwind(|| observed.compare(wrong)).is_err(), "{wrong}");
    }
}
