//! Text for people, JSON for scripts.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// Whoever was to read what is printed has gone, as `head` does when it has enough.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// What was asked for is done all the same, and it is no failure that nobody reads on.
fn print(text: &str) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        UNREAD.store(true, Ordering::Relaxed);
    }
}

/// Whether nobody reads what is printed any more.
pub(crate) fn unread() -> bool {
    UNREAD.load(Ordering::Relaxed)
}

/// Prints a result: as JSON where that was asked for, else as `text` makes of it.
pub(crate) fn show(json: bool, value: &Value, text: impl FnOnce(&Value)) {
    if json {
        print(&format!("{value:#}"));
    } else {
        text(value);
    }
}

/// Prints a line.
pub(crate) fn line(text: impl AsRef<str>) {
    print(text.as_ref());
}

/// Prints rows under headings, each column as wide as its widest cell and at most 60 characters.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    const WIDEST: usize = 60;
    let cut = |cell: &str| -> String {
        let cell: String = cell
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if cell.chars().count() > WIDEST {
            cell.chars().take(WIDEST - 1).chain(['…']).collect()
        } else {
            cell
        }
    };
    let mut lines: Vec<Vec<String>> = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect()));
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in lines {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        print(padded.join("  ").trim_end());
    }
}

/// The text of a field, or a dash where there is none.
pub(crate) fn text(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        // Figures are floating point on their way; people read whole ones as such.
        Value::Number(number) => number
            .as_f64()
            .filter(|n| n.fract() == 0.0)
            .map_or_else(|| number.to_string(), |n| format!("{n:.0}")),
        other => other.to_string(),
    }
}

/// Bytes as people write them.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A moment in milliseconds since 1970, as people write it.
pub(crate) fn time(at: Option<i64>) -> String {
    at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
        .map_or_else(|| "–".to_owned(), |at| format!("{at:.0}"))
}
