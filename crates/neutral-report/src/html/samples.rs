//! Text coloured by the share of gates that are open when it is read.

use std::fmt::Write;

use crate::against_base::Sample;
use crate::escape::escaped;

/// Shades above none.
const SHADES: usize = 5;

/// What follows is said to depart from the base above so many nats.
const FAR_NATS: f64 = 0.1;

/// What the colours mean.
pub(super) fn legend() -> String {
    let mut out = "<p class=\"key\">Open gates: <span>none</span>".to_owned();
    for shade in 1..=SHADES {
        let _ = write!(out, "<span class=\"g{shade}\">to {} %</span>", 100 * shade / SHADES);
    }
    let _ = writeln!(
        out,
        " <span class=\"k\">underlined</span>: KL of what follows is above {FAR_NATS} nats. Numbers of a \
         token show where the pointer rests.</p>"
    );
    out
}

/// A text, a span a token.
pub(super) fn sample(sample: &Sample) -> String {
    let mut out = "<div class=\"sample\" translate=\"no\">".to_owned();
    let numbers = sample.open_gates.iter().zip(&sample.mean_gate).zip(&sample.kl_nats);
    for (text, ((open, gate), kl)) in sample.text.iter().zip(numbers) {
        let shade = (open * SHADES as f64).ceil().clamp(0.0, SHADES as f64) as usize;
        let mut classes = Vec::new();
        if shade > 0 {
            classes.push(format!("g{shade}"));
        }
        if *kl > FAR_NATS {
            classes.push("k".to_owned());
        }
        let class = match classes.as_slice() {
            [] => String::new(),
            some => format!(" class=\"{}\"", some.join(" ")),
        };
        let _ = write!(
            out,
            "<span{class} title=\"open {:.0} %, gate {gate}, KL {kl} nats\">{}</span>",
            100.0 * open,
            escaped(text)
        );
    }
    out.push_str("</div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stays_whole_and_its_shade_is_the_share_of_open_gates() {
        let text = ["a", " <b>", "", "\n"].map(str::to_owned).to_vec();
        let page = sample(&Sample {
            document: "d".to_owned(),
            text,
            open_gates: vec![0.0, 0.2, 0.25, 1.0],
            mean_gate: vec![0.0, 0.1, 0.1, 2.0],
            kl_nats: vec![0.0, 0.2, 0.01, 3.0],
        });
        let classes: Vec<_> =
            page.split("<span").skip(1).map(|s| s.split(" title").next().unwrap()).collect();
        assert_eq!(classes, ["", " class=\"g1 k\"", " class=\"g2\"", " class=\"g5 k\""]);
        assert!(page.contains("> &lt;b&gt;</span>") && page.contains(">\n</span>"));
        assert!(page.contains("open 20 %, gate 0.1, KL 0.2 nats"));
    }
}
