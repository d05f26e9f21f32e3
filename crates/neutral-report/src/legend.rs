//! The legend of `tradeoff.svg`, and the base's marker.

use std::fmt::Write;

use crate::escape::escaped;
use crate::plot::{RADIUS, Series, WIDTH};

const LEGEND_LINE: f64 = 23.0;

/// Width of a letter of the legend; generous, since every system has another font.
pub(crate) fn letter(letter: char) -> f64 {
    match letter {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | ' ' | '-' | '.' | ',' | '(' | ')' => 5.8,
        'm' | 'w' | 'M' | 'W' => 14.0,
        'A'..='Z' => 11.0,
        _ => 9.4,
    }
}

/// The legend in as many lines as it takes, and where it ends.
pub(crate) fn legend(series: &[Series<'_>]) -> (String, f64) {
    let (mut out, mut x, mut y) = (String::new(), 20.0, 72.0);
    let mut entry = |name: &str, draw: &dyn Fn(&mut String, f64, f64)| {
        let width = 16.0 + name.chars().map(letter).sum::<f64>() + 18.0;
        if x > 20.0 && x + width > WIDTH + 10.0 {
            (x, y) = (20.0, y + LEGEND_LINE);
        }
        draw(&mut out, x, y - 5.0);
        let _ = writeln!(out, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, x + 14.0, escaped(name));
        x += width;
    };
    entry("base", &cross);
    for s in series {
        entry(&s.name, &|out, x, y| s.marker.draw(out, x, y, RADIUS));
    }
    (out, y + 14.0)
}

/// The base's marker.
pub(crate) fn cross(out: &mut String, x: f64, y: f64) {
    let _ = write!(
        out,
        r##"<path d="M{:.1} {:.1}l12 12m0 -12l-12 12" stroke="#1a1a1a" stroke-width="2.5"/>"##,
        x - 6.0,
        y - 6.0
    );
}
