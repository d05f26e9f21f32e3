//! Colours along a scale, which stay in order for colour-blind readers and in black and white.

/// From white to dark blue: Cynthia Brewer's Blues, the ends stretched.
const BLUES: [[f64; 3]; 5] = [
    [255.0, 255.0, 255.0],
    [198.0, 219.0, 239.0],
    [107.0, 174.0, 214.0],
    [33.0, 113.0, 181.0],
    [8.0, 48.0, 107.0],
];

/// From yellow-green to dark violet: viridis without its palest end, which is too faint for a line.
const VIRIDIS: [[f64; 3]; 5] = [
    [159.0, 190.0, 30.0],
    [53.0, 183.0, 121.0],
    [33.0, 145.0, 140.0],
    [59.0, 82.0, 139.0],
    [68.0, 1.0, 84.0],
];

/// The fill of a cell of a value from 0 to 1, and the colour of letters on it.
pub(super) fn cell(value: f64) -> (String, &'static str) {
    (at(&BLUES, value), if value > 0.55 { "#fff" } else { "#1a1a1a" })
}

/// The colour of a line of a place from 0 to 1.
pub(super) fn line(place: f64) -> String {
    at(&VIRIDIS, place)
}

fn at(stops: &[[f64; 3]], value: f64) -> String {
    let place = value.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let below = (place as usize).min(stops.len() - 2);
    let channel = |i: usize| {
        let [low, high] = [stops[below][i], stops[below + 1][i]];
        (low + (high - low) * (place - below as f64)).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_values_are_darker() {
        let luminance = |colour: &str| {
            let channel = |i| f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap());
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        for scale in [|v| cell(v).0, line] {
            let shades: Vec<f64> =
                (0..=20).map(|i| luminance(&scale(f64::from(i) / 20.0))).collect();
            assert!(shades.is_sorted_by(|a, b| a > b), "{shades:?}");
        }
        assert_eq!((cell(0.0).0.as_str(), cell(1.0).0.as_str()), ("#ffffff", "#08306b"));
    }
}
