//! Cells in rows and columns, shaded by a share, with their numbers.

use std::fmt::Write;

use super::colour::cell;
use super::{WIDTH, open};
use crate::escape::escaped;
use crate::format::shorten;

const LEFT: f64 = 62.0;
const RIGHT: f64 = 468.0;
const ROW: f64 = 24.0;
const HEAD_LINE: f64 = 17.0;

/// A heatmap to be drawn.
pub(super) struct Heatmap<'a> {
    pub title: &'a str,
    pub subtitle: &'a str,
    /// What the rows are: `block`.
    pub row: &'a str,
    pub rows: Vec<String>,
    /// Each in as many lines as it has.
    pub columns: Vec<Vec<String>>,
    /// Shares from 0 to 1, a row a row; a cell without a number is empty.
    pub cells: Vec<Vec<Option<f64>>>,
    pub decimals: usize,
}

impl Heatmap<'_> {
    /// As SVG, with a legend of the shades.
    pub(super) fn draw(&self) -> String {
        let width = (RIGHT - LEFT) / self.columns.len().max(1) as f64;
        let lines = self.columns.iter().map(Vec::len).max().unwrap_or(0);
        let top = 58.0 + HEAD_LINE * lines as f64 + 8.0;
        let bottom = top + ROW * self.rows.len() as f64;
        let mut out = open(self.title, bottom + 52.0);
        let _ = writeln!(
            out,
            r##"<text x="12" y="24" font-size="17" font-weight="bold">{}</text>
<text x="12" y="45" fill="#555">{}</text>
<text x="12" y="{:.1}" font-size="14" fill="#444">{}</text>"##,
            escaped(&shorten(self.title, 48)),
            escaped(self.subtitle),
            top - 8.0,
            escaped(self.row)
        );
        for (i, column) in self.columns.iter().enumerate() {
            let x = LEFT + width * (i as f64 + 0.5);
            for (line, text) in column.iter().rev().enumerate() {
                // A letter of this size is about 8 wide.
                let text = escaped(&shorten(text, (width / 7.6) as usize));
                let y = top - 8.0 - HEAD_LINE * line as f64;
                let _ = writeln!(
                    out,
                    r##"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" font-size="14" fill="#444">{text}</text>"##
                );
            }
        }
        for (i, (name, cells)) in self.rows.iter().zip(&self.cells).enumerate() {
            let y = top + ROW * i as f64;
            let _ = writeln!(
                out,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="end" font-size="14" fill="#444">{}</text>"##,
                LEFT - 8.0,
                y + 17.0,
                escaped(name)
            );
            for (j, share) in cells.iter().enumerate() {
                if let Some(share) = share {
                    self.cell(&mut out, *share, [LEFT + width * j as f64, y, width]);
                }
            }
        }
        legend(&mut out, bottom + 16.0);
        out.push_str("</svg>\n");
        out
    }

    fn cell(&self, out: &mut String, share: f64, [x, y, width]: [f64; 3]) {
        let (fill, letters) = cell(share);
        let percent = format!("{:.*}", self.decimals, 100.0 * share);
        let _ = writeln!(
            out,
            r##"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" rx="2" fill="{fill}" stroke="#d8d8d8" stroke-width="0.5"/><text x="{:.1}" y="{:.1}" text-anchor="middle" font-size="14" fill="{letters}">{percent}</text>"##,
            x + 1.0,
            y + 1.0,
            width - 2.0,
            ROW - 2.0,
            x + width / 2.0,
            y + 17.0,
        );
    }
}

/// Shades from 0 to 100 %.
fn legend(out: &mut String, y: f64) {
    const STEPS: usize = 5;
    let width = 34.0;
    for step in 0..=STEPS {
        let share = step as f64 / STEPS as f64;
        let (fill, letters) = cell(share);
        let x = WIDTH - 12.0 - width * (STEPS + 1 - step) as f64;
        let _ = writeln!(
            out,
            r##"<rect x="{x:.1}" y="{y:.1}" width="{width}" height="20" fill="{fill}" stroke="#d8d8d8" stroke-width="0.5"/><text x="{:.1}" y="{:.1}" text-anchor="middle" font-size="12" fill="{letters}">{:.0}</text>"##,
            x + width / 2.0,
            y + 14.5,
            100.0 * share
        );
    }
    let _ = writeln!(
        out,
        r##"<text x="{:.1}" y="{:.1}" text-anchor="end" font-size="14" fill="#444">%</text>"##,
        WIDTH - 18.0 - width * (STEPS + 1) as f64,
        y + 15.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_shaded_numbered_and_may_be_empty() {
        let svg = Heatmap {
            title: "a < b",
            subtitle: "",
            row: "block",
            rows: vec!["0".to_owned(), "1".to_owned()],
            columns: vec![vec!["one".to_owned()], vec!["two".to_owned(), "lines".to_owned()]],
            cells: vec![vec![Some(0.123), Some(1.0)], vec![None, Some(0.0)]],
            decimals: 1,
        }
        .draw();
        for number in [">12.3<", ">100.0<", ">0.0<"] {
            assert_eq!(svg.matches(number).count(), 1, "{number}");
        }
        assert!(svg.contains(r##"fill="#08306b""##) && svg.contains("a &lt; b"));
    }
}
