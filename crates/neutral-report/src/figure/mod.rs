//! The figures of `report.html`: SVG without scripts or fonts, narrow and with large letters, so that
//! they can be read on a telephone. One file a figure.

mod chart;
mod colour;
mod curves;
mod gates;
mod heatmap;
mod spectra;

pub(crate) use curves::curves;
pub(crate) use gates::{gate_heatmap, gate_histograms};
pub(crate) use spectra::spectra;

/// Width of every figure.
const WIDTH: f64 = 480.0;

/// The beginning of a figure; its title is what is read aloud.
fn open(title: &str, height: f64) -> String {
    let title = crate::escape::escaped(title);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" role="img" font-family="sans-serif" font-size="15" fill="#1a1a1a">
<title>{title}</title>
<rect width="{WIDTH}" height="{height:.0}" fill="#fff"/>
"##
    )
}
