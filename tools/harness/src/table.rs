//! The tables of a page, for tests that compare them with something.

use std::fs;

use crate::root;

/// A row below the head of a table.
pub struct Row {
    /// Its line in the page.
    pub line: usize,
    /// The Markdown of its cells.
    pub cells: Vec<String>,
}

impl Row {
    /// The words in code spans of a cell.
    pub fn codes(&self, cell: usize) -> Vec<&str> {
        self.cells[cell].split('`').skip(1).step_by(2).map(str::trim).collect()
    }
}

/// The rows of the tables of a page, `src/reference/features.md`, below a heading `## …` and above the next one.
///
/// # Panics
///
/// If there are none.
#[track_caller]
pub fn rows(page: &str, heading: &str) -> Vec<Row> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let lines = (1..).zip(text.lines());
    let below =
        lines.skip_while(|(_, text)| *text != format!("## {heading}")).skip(1);
    let mut rows: Vec<Row> = Vec::new();
    for (line, text) in below.take_while(|(_, text)| !text.starts_with("## ")) {
        if text.starts_with("|--") {
            // What stood above was the head.
            rows.pop();
        } else if let Some(row) = text.strip_prefix('|') {
            let cells = row.trim_end_matches('|').split('|');
            let cells = cells.map(|cell| cell.trim().to_owned()).collect();
            rows.push(Row { line, cells });
        }
    }
    assert!(!rows.is_empty(), "{page}: there is no table below `## {heading}`");
    rows
}
