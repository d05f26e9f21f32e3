//! Progress bars, and log lines that do not tear them.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

/// Sends tracing's lines to standard error above the bars; `RUST_LOG` chooses which.
pub(crate) fn init() -> MultiProgress {
    let bars = MultiProgress::new();
    let writer = AboveBars(bars.clone());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_writer(move || writer.clone())
        .init();
    bars
}

/// A bar for one long step.
pub(crate) fn bar(bars: &MultiProgress, title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:28!} {bar:24} {pos:>6}/{len:6} {elapsed:>4}, {eta:>4} left  {msg}",
    )
    .expect("a template that indicatif knows")
    .progress_chars("━╸ ");
    let bar = bars.add(ProgressBar::new(0).with_style(style).with_prefix(title.to_owned()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[derive(Clone)]
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
