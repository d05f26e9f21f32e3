//! Lines over two axes, with a legend above.

use std::fmt::Write;

use super::{WIDTH, open};
use crate::escape::escaped;
use crate::format::shorten;
use crate::legend::letter;
use crate::scale::Scale;

const LEFT: f64 = 62.0;
const RIGHT: f64 = 464.0;
const FRAME: f64 = 220.0;
const LEGEND_LINE: f64 = 22.0;

/// One line.
pub(super) struct Line {
    /// In the legend, once for all lines of one name; none if it is not said.
    pub name: Option<String>,
    /// Shown where the pointer rests.
    pub title: String,
    pub colour: String,
    /// As in SVG's `stroke-dasharray`.
    pub dash: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A chart to be drawn.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub logarithmic: bool,
    /// The lines go from 0 to 1, whatever they are.
    pub share: bool,
    pub lines: Vec<Line>,
}

impl Chart<'_> {
    /// As SVG; nothing if no line has a point.
    pub(super) fn draw(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        points().next()?;
        let (legend, top) = self.legend();
        let bottom = top + FRAME;
        let x = Scale::over(points().map(|p| p.0).chain([0.0]), 6, LEFT, RIGHT);
        let y = if self.logarithmic {
            Scale::logarithmic(points().map(|p| p.1), 6, bottom, top)
        } else if self.share {
            Scale::over([0.0, 1.0].into_iter(), 5, bottom, top)
        } else {
            Scale::over(points().map(|p| p.1), 6, bottom, top)
        };
        let mut out = open(self.title, bottom + 46.0);
        let _ = writeln!(
            out,
            r##"<text x="12" y="24" font-size="17" font-weight="bold">{}</text>
<text x="12" y="45" fill="#555">{}</text>"##,
            escaped(&shorten(self.title, 48)),
            escaped(&shorten(self.y, 56)),
        );
        out.push_str(&legend);
        frame(&mut out, &x, &y, [top, bottom]);
        let _ = writeln!(
            out,
            r##"<text x="{RIGHT}" y="{:.1}" text-anchor="end" fill="#444">{}</text>"##,
            bottom + 39.0,
            escaped(self.x)
        );
        for line in &self.lines {
            draw_line(&mut out, line, &x, &y);
        }
        out.push_str("</svg>\n");
        Some(out)
    }

    /// The legend in as many lines as it takes, and where the frame begins.
    fn legend(&self) -> (String, f64) {
        let (mut out, mut x, mut y) = (String::new(), 14.0, 69.0);
        let mut said: Vec<&str> = Vec::new();
        for line in &self.lines {
            let Some(name) = line.name.as_deref().filter(|name| !said.contains(name)) else {
                continue;
            };
            said.push(name);
            let width = 32.0 + name.chars().map(letter).sum::<f64>() + 14.0;
            if x > 14.0 && x + width > WIDTH + 10.0 {
                (x, y) = (14.0, y + LEGEND_LINE);
            }
            let _ = writeln!(
                out,
                r#"<path d="M{x:.1} {:.1}h26" stroke="{}" stroke-width="3" stroke-dasharray="{}"/><text x="{:.1}" y="{y:.1}">{}</text>"#,
                y - 5.0,
                line.colour,
                line.dash,
                x + 32.0,
                escaped(name)
            );
            x += width;
        }
        (out, if said.is_empty() { 58.0 } else { y + 14.0 })
    }
}

fn frame(out: &mut String, x: &Scale, y: &Scale, [top, bottom]: [f64; 2]) {
    for (value, text) in x.ticks() {
        let at = x.place(value);
        let _ = writeln!(
            out,
            r##"<path d="M{at:.1} {top:.1}V{bottom:.1}" stroke="#e4e4e4"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" font-size="14" fill="#444">{text}</text>"##,
            bottom + 19.0
        );
    }
    for (value, text) in y.ticks() {
        let at = y.place(value);
        let _ = writeln!(
            out,
            r##"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="#e4e4e4"/><text x="{:.1}" y="{:.1}" text-anchor="end" font-size="14" fill="#444">{text}</text>"##,
            LEFT - 7.0,
            at + 5.0
        );
    }
}

fn draw_line(out: &mut String, line: &Line, x: &Scale, y: &Scale) {
    let points: Vec<_> = (line.points.iter())
        .map(|(a, b)| format!("{:.1} {:.1}", x.place(*a), y.place(*b)))
        .collect();
    if points.is_empty() {
        return;
    }
    // A line of one point would not be seen.
    if let [(a, b)] = line.points[..] {
        let _ = writeln!(
            out,
            r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{}"><title>{}</title></circle>"#,
            x.place(a),
            y.place(b),
            line.colour,
            escaped(&line.title)
        );
        return;
    }
    let _ = writeln!(
        out,
        r#"<path d="M{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" stroke-dasharray="{}"><title>{}</title></path>"#,
        points.join("L"),
        line.colour,
        line.dash,
        escaped(&line.title)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line {
            name: Some(name.to_owned()),
            title: format!("<{name}>"),
            colour: "#123456".to_owned(),
            dash: "",
            points: points.to_vec(),
        }
    }

    fn chart(lines: Vec<Line>) -> Chart<'static> {
        Chart { title: "t", x: "x", y: "y", logarithmic: false, share: false, lines }
    }

    #[test]
    fn equal_names_are_said_once_and_titles_are_escaped() {
        let svg = chart(vec![line("a", &[(0.0, 1.0), (1.0, 2.0)]), line("a", &[(0.0, 3.0)])]);
        let svg = svg.draw().unwrap();
        assert_eq!(svg.matches(">a</text>").count(), 1);
        assert_eq!(svg.matches("<title>&lt;a&gt;</title>").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn without_points_there_is_no_chart() {
        assert!(chart(vec![]).draw().is_none());
        assert!(chart(vec![line("a", &[])]).draw().is_none());
    }
}
