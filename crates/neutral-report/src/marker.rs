//! Markers of the plot: a colour and a shape a method, an inner mark a label of it.
//!
//! The colours are Okabe and Ito's, which stay apart for colour-blind readers; shapes and inner
//! marks carry the same in black and white.

use std::fmt::Write;

use crate::series::method_rank;

/// What a series looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// As in SVG.
    pub colour: &'static str,
    shape: usize,
    inner: usize,
}

const COLOURS: [&str; 7] =
    ["#D55E00", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8A7F00"];

/// Corners of the shapes in units of the radius; no corners: a circle.
const SHAPES: [&[(f64, f64)]; 7] = [
    &[],
    &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
    &[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
    &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    &[(0.0, -1.15), (1.1, -0.35), (0.68, 0.95), (-0.68, 0.95), (-1.1, -0.35)],
    &[(-1.1, -0.55), (1.1, -0.55), (1.1, 0.55), (-1.1, 0.55)],
];

const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "12 4"];

/// How much of a line's colour gives way, to black below 0 and to white above: those first that differ most.
const SHADES: [f64; 7] = [0.0, -0.5, 0.45, -0.75, 0.22, -0.25, -0.62];

/// Nothing (the shape is filled), nothing (it is hollow), a dot, a plus, a cross; after them letters.
const INNERS: usize = 5;

impl Marker {
    /// The marker of a method's `variant`-th label; `others` are the methods that the paper does
    /// not have, in order.
    pub(crate) fn of(method: &str, others: &[&str], variant: usize) -> Self {
        let other = others.iter().position(|m| *m == method).unwrap_or(0);
        let place = method_rank(method) + other;
        // Where colours begin again, letters tell the method: not those that a method's sixth label has.
        let (again, place) = (place / COLOURS.len(), place % COLOURS.len());
        Self { colour: COLOURS[place], shape: place, inner: variant + again * (INNERS + 8) }
    }

    /// The colour and dashes of this label's lines, as in SVG. Where dashes begin again the colour is darker or lighter,
    /// which colour-blind readers see too.
    pub(crate) fn line(self) -> (String, &'static str) {
        let shade = SHADES[self.inner / DASHES.len() % SHADES.len()];
        (shaded(self.colour, shade), DASHES[self.inner % DASHES.len()])
    }

    /// Draws it at a place.
    pub(crate) fn draw(self, out: &mut String, x: f64, y: f64, radius: f64) {
        // A filled shape has a white rim, so that neighbours stay apart.
        let paint = if self.inner == 0 {
            format!(r##"fill="{}" stroke="#fff" stroke-width="1""##, self.colour)
        } else {
            format!(r##"fill="#fff" stroke="{}" stroke-width="1.8""##, self.colour)
        };
        let corners = SHAPES[self.shape];
        if corners.is_empty() {
            let _ = write!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" {paint}/>"#);
        } else {
            let points: Vec<_> = corners
                .iter()
                .map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * radius, y + dy * radius))
                .collect();
            let _ = write!(out, r#"<polygon points="{}" {paint}/>"#, points.join(" "));
        }
        let (colour, s) = (self.colour, 0.45 * radius);
        let stroke = |out: &mut String, path: String| {
            let _ = write!(out, r#"<path d="{path}" stroke="{colour}" stroke-width="1.5"/>"#);
        };
        match self.inner {
            2 => {
                let r = 0.35 * radius;
                let _ =
                    write!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r:.1}" fill="{colour}"/>"#);
            }
            3 => stroke(
                out,
                format!("M{:.1} {y:.1}h{:.1}M{x:.1} {:.1}v{:.1}", x - s, 2.0 * s, y - s, 2.0 * s),
            ),
            4 => stroke(
                out,
                format!(
                    "M{:.1} {:.1}l{d:.1} {d:.1}m0 -{d:.1}l-{d:.1} {d:.1}",
                    x - s,
                    y - s,
                    d = 2.0 * s
                ),
            ),
            // A letter needs more room than the shape has: it covers its middle.
            n @ INNERS.. => {
                let letter = char::from(b'a' + ((n - INNERS) % 26) as u8);
                let (size, y) = (1.9 * radius, y + 0.55 * radius);
                let _ = write!(
                    out,
                    r##"<text x="{x:.1}" y="{y:.1}" text-anchor="middle" font-size="{size:.1}" font-weight="bold" fill="#1a1a1a">{letter}</text>"##
                );
            }
            _ => {}
        }
    }
}

/// A colour, `#RRGGBB`, with a share of it given to white, or below 0 to black.
fn shaded(colour: &str, shade: f64) -> String {
    let other = if shade > 0.0 { 255.0 } else { 0.0 };
    let channel = |at: usize| {
        let own = u8::from_str_radix(&colour[at..at + 2], 16).map_or(0.0, f64::from);
        (own + (other - own) * shade.abs()).round() as u8
    };
    format!("#{:02X}{:02X}{:02X}", channel(1), channel(3), channel(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn methods_differ_in_colour_and_shape_and_labels_in_the_inner_mark() {
        let methods = ["finetune", "lora", "adapter", "neutral_residues", "x", "y"];
        let markers = methods.map(|m| Marker::of(m, &["x", "y"], 0));
        assert_eq!(markers.iter().map(|m| m.colour).collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(markers.iter().map(|m| m.shape).collect::<BTreeSet<_>>().len(), 6);
        // Where there are more methods than colours, no two look alike.
        let others = ["a", "b", "c", "d", "e", "f", "g"];
        let looks: BTreeSet<_> = ["finetune", "lora", "adapter", "neutral_residues"]
            .iter()
            .chain(&others)
            .map(|method| {
                let mut out = String::new();
                Marker::of(method, &others, 0).draw(&mut out, 0.0, 0.0, 5.0);
                out
            })
            .collect();
        assert_eq!(looks.len(), 11);
        let drawn: BTreeSet<_> = (0..INNERS + 26)
            .map(|variant| {
                let mut out = String::new();
                Marker::of("lora", &[], variant).draw(&mut out, 0.0, 0.0, 5.0);
                out
            })
            .collect();
        assert_eq!(drawn.len(), INNERS + 26);
    }

    #[test]
    fn lines_of_labels_differ_in_dashes_and_then_in_lightness() {
        let line = |variant| Marker::of("lora", &[], variant).line();
        assert_eq!(line(0), (Marker::of("lora", &[], 0).colour.to_owned(), ""));
        assert_eq!((0..INNERS + 26).map(line).collect::<BTreeSet<_>>().len(), INNERS + 26);
        // As bright as they are to all eyes, in parts of white.
        let light = |variant| {
            let (colour, _) = line(variant);
            let channel = |at| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap());
            (0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)) / 255.0
        };
        let mut shades = [0, 5, 10, 15].map(light);
        shades.sort_by(f64::total_cmp);
        assert!(shades.windows(2).all(|pair| pair[1] - pair[0] > 0.08), "{shades:?}");
    }
}
