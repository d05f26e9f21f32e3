//! `tradeoff.svg`: learning against forgetting, the paper's Figure 1; and `tradeoff-corpora.svg`, the same by corpus.
//!
//! Across: forgetting; up: learning; their means over corpora on the one, a panel a corpus of the original domain on the
//! other ([`crate::panel`]). The base is the origin; up and to the left is better. Points of a label that
//! differ in one swept value are joined by a line; seeds are faint beside their mean, whose 95 % intervals
//! are bars. A broken line is the front: what no other point beats in both. The picture is
//! narrow and its letters are large, so that it can be read on a telephone; the legend stands above
//! the panels and covers nothing.

use std::fmt::Write;

use crate::curve::{Point, front};
use crate::escape::escaped;
use crate::format::shorten;
use crate::interval::Interval;
use crate::legend::{cross, legend};
use crate::marker::Marker;
use crate::notes::notes;
use crate::panel::{Panel, Placed, far_outside, floor, mean};
use crate::results::{Results, TrialResult};
use crate::scale::Scale;
use crate::series::{Group, groups, method_rank, name};

pub(crate) const WIDTH: f64 = 480.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 464.0;
/// Height of a panel's frame.
const FRAME: f64 = 250.0;
/// Height of a panel with its texts.
const PANEL: f64 = FRAME + 84.0;
pub(crate) const RADIUS: f64 = 6.0;

/// All points of one label of a method.
pub(crate) struct Series<'a> {
    pub name: String,
    pub marker: Marker,
    pub groups: Vec<Group<'a>>,
}

/// Means over corpora, or the one corpus, as SVG without external fonts, styles or scripts.
pub fn tradeoff_svg(results: &Results) -> String {
    let panels = panels(results);
    svg(results, &panels[..panels.len().min(1)])
}

/// The same with a panel a corpus of the original domain, if there are several corpora.
pub fn tradeoff_corpora_svg(results: &Results) -> Option<String> {
    has_several_corpora(results).then(|| svg(results, &panels(results)[1..]))
}

/// Whether means over corpora are more than one corpus, and so [`tradeoff_corpora_svg`] has something to show.
pub(crate) fn has_several_corpora(results: &Results) -> bool {
    panels(results).len() > 1
}

fn panels(results: &Results) -> Vec<Panel<'_>> {
    let metrics = &results.base.metrics;
    let [original, new] = [&metrics.original, &metrics.new]
        .map(|corpora| corpora.keys().map(String::as_str).collect::<Vec<_>>());
    Panel::all(&original, &new, results.is_of_many_domains())
}

fn svg(results: &Results, panels: &[Panel<'_>]) -> String {
    let series = series(results);
    let (legend, legend_bottom) = legend(&series);
    let height = legend_bottom + PANEL * panels.len() as f64;
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="sans-serif" font-size="15" fill="#1a1a1a">
<title>{}: learning against forgetting</title>
<rect width="{WIDTH}" height="{height}" fill="#fff"/>
<text x="12" y="25" font-size="17" font-weight="bold">Learning against forgetting</text>
<text x="12" y="46" fill="#555">up and left is better · dashes: the front · bars: 95 %, seeds</text>
"##,
        escaped(&results.experiment)
    );
    out.push_str(&legend);
    for (i, of) in panels.iter().enumerate() {
        panel(&mut out, &series, *of, legend_bottom + PANEL * i as f64);
    }
    out.push_str("</svg>\n");
    out
}

/// The labels of all methods, in the order of tables.
pub(crate) fn series(results: &Results) -> Vec<Series<'_>> {
    let groups = groups(results);
    let mut others: Vec<&str> = Vec::new();
    for group in &groups {
        let method = group.first().method.as_str();
        if method_rank(method) == method_rank("") && !others.contains(&method) {
            others.push(method);
        }
    }
    let mut all: Vec<Series<'_>> = Vec::new();
    for group in groups {
        let trial = group.first();
        let same = |s: &&mut Series<'_>| {
            let other = s.groups[0].first();
            (&other.method, &other.label) == (&trial.method, &trial.label)
        };
        if let Some(found) = all.iter_mut().find(same) {
            found.groups.push(group);
            continue;
        }
        let variant = all.iter().filter(|s| s.groups[0].first().method == trial.method).count();
        let marker = Marker::of(&trial.method, &others, variant);
        // A legend's lines are no wider than the plot; tables have names whole.
        all.push(Series { name: shorten(&name(trial), 50), marker, groups: vec![group] });
    }
    all
}

fn panel<'a>(out: &mut String, series: &[Series<'a>], of: Panel, top: f64) {
    let (frame_top, bottom) = (top + 28.0, top + 28.0 + FRAME);
    let groups = || series.iter().flat_map(|s| &s.groups);
    let all: Vec<_> = groups().filter_map(|g| mean(&of.points(g, |_| true))).collect();
    let outside = |point| far_outside(point, &all);
    let near: Vec<_> = all.iter().copied().filter(|point| !outside(*point)).collect();
    let floor = floor(&near);
    let below = |point: (f64, f64)| !outside(point) && floor.is_some_and(|floor| point.1 < floor);
    let shown = |point| !below(point) && !outside(point);
    let points = || groups().flat_map(|g| of.points(g, shown)).map(|(_, point)| point);
    let x = Scale::around(points().map(|p| p.0), 6, LEFT, RIGHT);
    let learning = points().map(|p| p.1);
    let y = match floor {
        None => Scale::around(learning, 6, bottom, frame_top),
        Some(_) => Scale::roomy(learning, 6, bottom, frame_top),
    };
    frame(out, &x, &y, frame_top, bottom);
    let _ = writeln!(
        out,
        r#"<text x="12" y="{:.1}">learning {}, bits/byte</text>
<text x="{:.1}" y="{:.1}" text-anchor="end">forgetting {}, bits/byte</text>"#,
        top + 18.0,
        escaped(&of.learning.name()),
        RIGHT,
        bottom + 41.0,
        escaped(&of.forgetting.name()),
    );
    let ids = |which: &dyn Fn((f64, f64)) -> bool| {
        let those = groups().flat_map(|g| of.points(g, which));
        those.map(|(t, _)| t.id.as_str()).collect::<Vec<_>>()
    };
    let (below, outside) = (ids(&below), ids(&outside));
    let mut feet = Vec::new();
    if floor.is_none() {
        cross(out, x.place(0.0), y.place(0.0));
        out.push('\n');
    } else {
        let trials = match below.len() {
            0 => String::new(),
            n => format!(", {n} that hardly learnt"),
        };
        feet.push((format!("below: base{trials}"), below));
    }
    if !outside.is_empty() {
        feet.push((format!("far outside: {}", outside.len()), outside));
    }
    let on_picture: Vec<_> = points().map(|(a, b)| (x.place(a), y.place(b))).collect();
    notes(out, &feet, &on_picture, [[LEFT, RIGHT], [frame_top, bottom]]);
    let placed = |g: &Group<'a>| -> Vec<Placed<'a>> {
        let place = |(t, (a, b)): Placed<'a>| (t, (x.place(a), y.place(b)));
        of.points(g, shown).into_iter().map(place).collect()
    };
    // Those seeds that are left of several would favour what is unstable.
    let whole = groups().filter(|g| g.finished().count() == g.trials.len());
    draw_front(out, whole.filter_map(|g| mean(&placed(g))).collect());
    for s in series {
        draw_seeds(out, s, &placed);
    }
    for s in series {
        draw_means(out, s, &placed, [frame_top, bottom]);
    }
}

fn frame(out: &mut String, x: &Scale, y: &Scale, top: f64, bottom: f64) {
    let line = |value: f64| if value == 0.0 { "#8c8c8c" } else { "#e4e4e4" };
    for (value, text) in x.ticks() {
        let (at, colour) = (x.place(value), line(value));
        let _ = writeln!(
            out,
            r##"<path d="M{at:.1} {top:.1}V{bottom:.1}" stroke="{colour}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" font-size="14" fill="#444">{text}</text>"##,
            bottom + 19.0
        );
    }
    for (value, text) in y.ticks() {
        let (at, colour) = (y.place(value), line(value));
        let _ = writeln!(
            out,
            r##"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="{colour}"/><text x="{:.1}" y="{:.1}" text-anchor="end" font-size="14" fill="#444">{text}</text>"##,
            LEFT - 7.0,
            at + 5.0
        );
    }
}

/// Where the trials of a group stand on the picture.
type Place<'p, 'a> = &'p dyn Fn(&Group<'a>) -> Vec<Placed<'a>>;

/// A staircase: between two points of the front nothing is better than the left one's learning.
fn draw_front(out: &mut String, means: Vec<(f64, f64)>) {
    // Higher on the picture is a smaller y.
    let point = |(x, y): (f64, f64)| Point { forgetting: x, learning: -y };
    let front = front(means.into_iter().map(point).collect());
    let [first, rest @ ..] = &front[..] else { return };
    if rest.is_empty() {
        return;
    }
    let mut steps = String::new();
    for point in rest {
        let _ = write!(steps, "H{:.1}V{:.1}", point.forgetting, -point.learning);
    }
    let _ = writeln!(
        out,
        r##"<path d="M{:.1} {:.1}{steps}" fill="none" stroke="#777" stroke-dasharray="5 4"><title>front</title></path>"##,
        first.forgetting, -first.learning
    );
}

/// Single seeds, faint, where there are several.
fn draw_seeds<'a>(out: &mut String, series: &Series<'a>, placed: Place<'_, 'a>) {
    let several = series.groups.iter().map(placed).filter(|points| points.len() > 1);
    for (trial, (x, y)) in several.flatten() {
        titled(out, &trial.id, 0.35, |out| series.marker.draw(out, x, y, 0.75 * RADIUS));
    }
}

/// Trials, or the means of their seeds, and the line that joins a sweep.
fn draw_means<'a>(out: &mut String, series: &Series<'a>, placed: Place<'_, 'a>, frame: [f64; 2]) {
    let mut means = Vec::new();
    for group in &series.groups {
        let points = placed(group);
        let (Some((first, _)), Some((x, y))) = (points.first(), mean(&points)) else { continue };
        draw_intervals(out, &points, series.marker.colour, frame);
        let title = match points.len() {
            1 => first.id.clone(),
            seeds => format!("{}: mean of {seeds} seeds", series.name),
        };
        means.push((swept_value(first), title, x, y));
    }
    if means.len() > 1 && means.iter().all(|(value, ..)| value.is_some()) {
        means.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        let path: Vec<_> = means.iter().map(|(_, _, x, y)| format!("{x:.1} {y:.1}")).collect();
        let (path, colour) = (path.join("L"), series.marker.colour);
        let _ = writeln!(
            out,
            r#"<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.6"/>"#
        );
    }
    for (_, title, x, y) in means {
        titled(out, &title, 1.0, |out| series.marker.draw(out, x, y, RADIUS));
    }
}

/// Bars of the 95 % intervals of both means, where there are several seeds; they end at the frame.
fn draw_intervals(out: &mut String, points: &[Placed<'_>], colour: &str, frame: [f64; 2]) {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|(_, point)| *point).unzip();
    let (Some(x), Some(y)) = (Interval::of(&x), Interval::of(&y)) else { return };
    let _ = writeln!(
        out,
        r#"<path d="M{:.1} {:.1}H{:.1}M{:.1} {:.1}V{:.1}" stroke="{colour}" stroke-width="1.5" opacity="0.7"/>"#,
        x.low.max(LEFT),
        y.mean,
        x.high.min(RIGHT),
        x.mean,
        y.low.max(frame[0]),
        y.high.min(frame[1])
    );
}

/// The one number that the sweep set; none if it set several, or something else.
fn swept_value(trial: &TrialResult) -> Option<f64> {
    match trial.varied()[..] {
        [(_, value)] => value.as_f64(),
        _ => None,
    }
}

fn titled(out: &mut String, title: &str, opacity: f64, draw: impl FnOnce(&mut String)) {
    let _ = write!(out, r#"<g opacity="{opacity}"><title>{}</title>"#, escaped(title));
    draw(out);
    out.push_str("</g>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// Writes the pictures for people to look at, where a folder is named.
    fn keep(name: &str, svg: &str) {
        if let Some(folder) = std::env::var_os("NEUTRAL_KEEP_PLOTS") {
            std::fs::write(std::path::Path::new(&folder).join(name), svg).unwrap();
        }
    }

    fn corpora(results: &Results) -> String {
        tradeoff_corpora_svg(results).expect("several corpora")
    }

    #[test]
    fn quick_has_a_panel_of_means_another_a_corpus_and_a_marker_a_trial() {
        let (means, each) = (tradeoff_svg(&sample::quick()), corpora(&sample::quick()));
        keep("quick.svg", &means);
        keep("quick-corpora.svg", &each);
        for (svg, panels) in [(&means, 1), (&each, 2)] {
            assert_eq!(svg.matches(">forgetting ").count(), panels);
            assert_eq!(svg.matches("<title>lora-s0</title>").count(), panels);
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
        assert!(means.contains(">forgetting mean of 2 corpora"));
    }

    #[test]
    fn a_training_that_went_wrong_is_named_and_does_not_squash_the_others() {
        let mut results = sample::quick();
        let wrong = results.trials.iter_mut().find(|t| t.id == "lora-s0").unwrap();
        wrong.forgetting.as_mut().unwrap().values_mut().for_each(|f| *f = 40.0);
        wrong.learning.as_mut().unwrap().values_mut().for_each(|l| *l = 0.01);
        let svg = corpora(&results);
        assert_eq!(svg.matches("far outside: 1<title>lora-s0</title>").count(), 2);
        assert!(!svg.contains(">40") && !svg.contains(">30"), "{svg}");
    }

    #[test]
    fn of_a_group_all_seeds_are_shown_or_none_is_and_all_are_named() {
        let mut results = sample::seeds();
        for (seeds_that_went_wrong, shown) in [("lora-s1", 4), ("lora-s2", 3)] {
            let wrong = results.trials.iter_mut().find(|t| t.id == seeds_that_went_wrong).unwrap();
            wrong.forgetting.as_mut().unwrap().values_mut().for_each(|f| *f = 40.0);
            wrong.learning.as_mut().unwrap().values_mut().for_each(|l| *l = 0.01);
            let svg = tradeoff_svg(&results);
            assert_eq!(svg.matches("mean of 3 seeds").count(), shown, "{svg}");
            assert!(!svg.contains("mean of 2 seeds"), "{svg}");
            let named = "far outside: 3<title>lora-s0, lora-s1, lora-s2</title>";
            assert_eq!(svg.contains(named), shown == 3, "{svg}");
        }
    }

    #[test]
    fn a_control_is_a_point_of_its_own() {
        let svg = tradeoff_svg(&sample::control());
        keep("control.svg", &svg);
        assert_eq!(svg.matches("<title>english-alone-s0</title>").count(), 1);
        assert_eq!(svg.matches(">fine-tuning: English alone</text>").count(), 1);
    }

    #[test]
    fn seeds_are_faint_beside_their_mean() {
        let svg = tradeoff_svg(&sample::seeds());
        keep("seeds.svg", &svg);
        assert_eq!(svg.matches(r#"opacity="0.35""#).count(), 12);
        assert_eq!(svg.matches("mean of 3 seeds").count(), 4);
        let bars = r#"stroke-width="1.5" opacity="0.7""#;
        assert_eq!(svg.matches(bars).count(), 4);
    }

    #[test]
    fn a_sweep_is_joined_by_a_line_a_label_and_leaves_out_what_failed() {
        let svg = tradeoff_svg(&sample::sweep());
        keep("sweep.svg", &svg);
        assert_eq!(svg.matches(r#"stroke-width="1.5" opacity="0.6""#).count(), 2);
        assert!(!svg.contains(">elu-lr0.008"));
    }

    #[test]
    fn many_labels_and_no_points_are_no_trouble() {
        let mut results = sample::quick();
        let neutral = results.trials[3].clone();
        let labels = [
            "neutral residues, ELU gate",
            "neutral residues, sigmoid gate, domain classifier",
            "neutral residues, no gate",
            "neutral residues, gate <per> channel & bias",
        ];
        for (i, label) in labels.into_iter().enumerate() {
            let mut trial = neutral.clone();
            trial.label = label.to_owned();
            trial.forgetting.as_mut().unwrap()[0] -= 0.007 * (i + 1) as f64;
            trial.learning.as_mut().unwrap()[0] -= 0.3 * i as f64;
            results.trials.push(trial);
        }
        let svg = tradeoff_svg(&results);
        keep("labels.svg", &svg);
        assert!(svg.contains("&lt;per&gt; channel &amp; bias"));
        results.trials.clear();
        assert!(tradeoff_svg(&results).contains(">base<"));
    }
}
