//! Tables as HTML.

use std::fmt::Write;

use crate::columns::Grid;
use crate::escape::escaped;

/// The comparison; the first column stays where it is when the others are moved. Sizes come last, so
/// that a narrow screen shows what was measured.
pub(super) fn table(grid: &Grid) -> String {
    let size = |&i: &usize| ["weights", "%"].contains(&&*grid.columns[i].title);
    let (sizes, mut order): (Vec<_>, Vec<_>) = (0..grid.columns.len()).partition(size);
    order.extend(sizes);
    let mut out = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    let class = |number: bool| if number { " class=\"n\"" } else { "" };
    for column in order.iter().map(|&i| &grid.columns[i]) {
        let _ = write!(out, "<th{}>{}", class(column.number), escaped(&column.title));
        if !column.of.is_empty() {
            let _ = write!(out, "<small>{}</small>", escaped(&column.of));
        }
        out.push_str("</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &grid.rows {
        out.push_str("<tr>");
        for &i in &order {
            let (cell, column) = (&row.cells[i], &grid.columns[i]);
            let text = escaped(&cell.text);
            let text = if cell.best { format!("<strong>{text}</strong>") } else { text };
            let tag = if i == 0 { "th" } else { "td" };
            let _ = write!(out, "<{tag}{}>{text}</{tag}>", class(column.number));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

/// Rows of so many texts, then numbers.
pub(super) fn number_table(heads: &[&str], texts: usize, rows: &[Vec<String>]) -> String {
    let mut out = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    for (i, head) in heads.iter().enumerate() {
        let class = if i < texts { "" } else { " class=\"n\"" };
        let _ = write!(out, "<th{class}>{}</th>", escaped(head));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let class = if i < texts { "" } else { " class=\"n\"" };
            let tag = if i == 0 { "th" } else { "td" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}
