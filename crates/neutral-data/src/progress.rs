//! The bars of long steps over text, which look like the runner's.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A bar of `total` bytes; it is cleared when dropped, so a step that fails leaves no stump.
pub(crate) fn bytes_bar(progress: &MultiProgress, total: u64, title: &str) -> ProgressBar {
    let template = "{prefix:28!} {bar:24} {bytes:>9}/{total_bytes:9} {elapsed:>4}, {eta:>4} left";
    add(progress, ProgressBar::new(total), template, title)
}

/// A bar of files, whose number is set once it is known; cleared when dropped.
#[cfg(feature = "corpora")]
pub(crate) fn files_bar(progress: &MultiProgress, title: &str) -> ProgressBar {
    let template = "{prefix:28!} {bar:24} {pos:>9}/{len:9} {elapsed:>4}, {eta:>4} left";
    add(progress, ProgressBar::no_length(), template, title)
}

/// A spinner, for a step whose length nobody knows; cleared when dropped.
#[cfg(feature = "corpora")]
pub(crate) fn spinner(progress: &MultiProgress, title: &str) -> ProgressBar {
    add(progress, ProgressBar::new_spinner(), "{prefix} {spinner} {elapsed:>4}", title)
}

fn add(progress: &MultiProgress, bar: ProgressBar, template: &str, title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ");
    let bar = bar
        .with_style(style)
        .with_prefix(title.to_owned())
        .with_finish(indicatif::ProgressFinish::AndClear);
    let bar = progress.add(bar);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
