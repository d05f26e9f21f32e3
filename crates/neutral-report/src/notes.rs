//! Lines on a panel about the trials that are not on it.

use std::fmt::Write;

use crate::escape::escaped;

/// Letters and lines of 14 pixels, and how far a point reaches with its marker.
const LETTER: f64 = 7.0;
const LINE: f64 = 18.0;
const REACH: f64 = 12.0;

/// Writes each line, with the trials' names as its title, into the corner where little is learnt and much forgotten,
/// or into another one where points are there.
///
/// `frame`: left and right, top and bottom. Points are where they are on the picture.
pub(crate) fn notes(
    out: &mut String,
    lines: &[(String, Vec<&str>)],
    points: &[(f64, f64)],
    [[left, right], [top, bottom]]: [[f64; 2]; 2],
) {
    let width = LETTER * lines.iter().map(|(text, _)| text.len()).max().unwrap_or(0) as f64;
    let height = LINE * lines.len() as f64;
    let near = |a: f64, b: f64, length: f64| (a - b).abs() < length + REACH;
    let is_free = |[to_the_left, above]: [bool; 2]| {
        let corner = (if to_the_left { left } else { right }, if above { top } else { bottom });
        !points.iter().any(|p| near(p.0, corner.0, width) && near(p.1, corner.1, height))
    };
    let corners = [[false, false], [true, false], [false, true], [true, true]];
    let [to_the_left, above] = corners.into_iter().find(|c| is_free(*c)).unwrap_or_default();
    let (x, anchor) = if to_the_left { (left + 6.0, "start") } else { (right - 6.0, "end") };
    let last = if above { top + height } else { bottom - 8.0 };
    for (i, (text, ids)) in lines.iter().enumerate() {
        let _ = writeln!(
            out,
            r##"<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}" font-size="14" fill="#444">{}<title>{}</title></text>"##,
            last - LINE * i as f64,
            escaped(text),
            escaped(&ids.join(", "))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hide_no_point_where_a_corner_is_free() {
        let place = |points: &[(f64, f64)]| {
            let lines = [("below: base".to_owned(), vec![]), ("far".to_owned(), vec!["a-s0"])];
            let mut out = String::new();
            notes(&mut out, &lines, points, [[60.0, 460.0], [100.0, 350.0]]);
            let first = out.lines().next().unwrap();
            let (place, _) = first.split_once(" font-size").unwrap();
            assert!(out.contains(">far<title>a-s0</title>"), "{out}");
            place.to_owned()
        };
        let right_below = r#"<text x="454.0" y="342.0" text-anchor="end""#;
        assert_eq!(place(&[(300.0, 200.0)]), right_below);
        let left_below = r#"<text x="66.0" y="342.0" text-anchor="start""#;
        assert_eq!(place(&[(400.0, 340.0)]), left_below);
        let right_above = r#"<text x="454.0" y="136.0" text-anchor="end""#;
        assert_eq!(place(&[(400.0, 340.0), (70.0, 330.0)]), right_above);
        let everywhere = [(400.0, 340.0), (70.0, 330.0), (450.0, 110.0), (70.0, 110.0)];
        assert_eq!(place(&everywhere), right_below);
    }
}
