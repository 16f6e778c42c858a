//! Markdown tables and the figures in them.

use std::fmt::Write as _;

use crate::stats::Spread;

/// The median, with the lowest and the highest round where they differ.
pub(crate) fn show(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    if min == max {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}

/// With three digits that count, as far as the whole number does not need more.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size >= 99.95 || size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A Markdown table; the first column to the left, all others to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |at: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<_> = head.iter().enumerate().map(|(at, title)| width_of(at, title)).collect();
    let mut out = String::new();
    let mut line = |cells: &[&str]| {
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = if at == 0 {
                write!(out, "| {cell:<width$} ")
            } else {
                write!(out, "| {cell:>width$} ")
            };
        }
        out.push_str("|\n");
    };
    line(head);
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(at, width)| match at {
            0 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width - 1)),
        })
        .collect();
    line(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["bcde".to_owned(), "µ".into()]];
        let expected = "| x    |   y |\n| ---- | --: |\n| a    |   1 |\n| bcde |   µ |\n";
        assert_eq!(table(&["x", "y"], &rows), expected);
    }

    #[test]
    fn a_spread_without_width_is_one_figure() {
        assert_eq!(show(Spread { median: 2.0, min: 2.0, max: 2.0 }, 1), "2.0");
        assert_eq!(show(Spread { median: 2.0, min: 1.0, max: 2.5 }, 1), "2.0 (1.0..2.5)");
    }

    #[test]
    fn three_digits_count() {
        let shown = [0.02912, 0.9999, 5.128, 17.837, 99.99, 2336.2, 0.0].map(short);
        assert_eq!(shown, ["0.029", "1.00", "5.13", "17.8", "100", "2336", "0"]);
    }
}
