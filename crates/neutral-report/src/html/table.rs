//! Tables as HTML.

use std::fmt::Write;

use crate::columns::Grid;
use crate::escape::escaped;

/// The comparison; the first column stays where it is when the others are moved.
pub(super) fn table(grid: &Grid) -> String {
    let mut out = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    let class = |number: bool| if number { " class=\"n\"" } else { "" };
    for column in &grid.columns {
        let _ = write!(out, "<th{}>{}", class(column.number), escaped(&column.title));
        if !column.of.is_empty() {
            let _ = write!(out, "<small>{}</small>", escaped(&column.of));
        }
        out.push_str("</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &grid.rows {
        out.push_str("<tr>");
        for (i, (cell, column)) in row.cells.iter().zip(&grid.columns).enumerate() {
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

/// Rows of a name and numbers.
pub(super) fn number_table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    for (i, head) in heads.iter().enumerate() {
        let class = if i == 0 { "" } else { " class=\"n\"" };
        let _ = write!(out, "<th{class}>{}</th>", escaped(head));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (i, cell) in row.iter().enumerate() {
            let text = escaped(cell);
            let cell = if i == 0 {
                format!("<th>{text}</th>")
            } else {
                format!("<td class=\"n\">{text}</td>")
            };
            out.push_str(&cell);
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}
