//! What `start` shows while it works: one line for each step with its time, a spinner while a step runs on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// The lines of one command.
pub struct Progress {
    spinner: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// Begins now.
    pub fn begin() -> Self {
        let spinner = if std::io::stdout().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        spinner.set_style(ProgressStyle::with_template("  {spinner} {msg}").expect("the template is constant"));
        spinner.enable_steady_tick(Duration::from_millis(80));
        Self { spinner, begun: Instant::now() }
    }

    /// What is being waited for.
    pub fn doing(&self, what: &str) {
        self.spinner.set_message(what.to_owned());
    }

    /// A step is done; `since` is when it began.
    pub fn done(&self, what: &str, since: Instant, detail: &str) {
        let time = format!("{:.0} ms", since.elapsed().as_secs_f64() * 1000.0);
        self.line(format!("  ✓ {what:<28} {time:>8}  {detail}").trim_end());
    }

    /// Prints a line above the spinner.
    pub fn line(&self, text: &str) {
        self.spinner.suspend(|| println!("{text}"));
    }

    /// Takes the spinner away and answers how long it all took.
    pub fn end(&self) -> Duration {
        self.spinner.finish_and_clear();
        self.begun.elapsed()
    }
}
