//! Logs on stderr, one line per event, through `tracing`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries whose debug output hides ours.
const QUIET: &str =
    "hyper=warn,hyper_util=warn,h2=warn,tower=warn,rustls=warn,kube=warn,kube_client=warn,kube_runtime=warn";

/// The flag that every process takes.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Verbosity {
    /// How much to log: 0 what happens, 1 why, 2 everything.
    #[arg(short = 'v', long = "v", default_value_t = 0, value_name = "LEVEL")]
    pub level: u8,
}

impl Verbosity {
    /// Starts logging at this level.
    pub fn start(self, component: &str) {
        init(component, self.level);
    }
}

/// Starts logging. Verbosity 0 is info, 1 debug, 2 trace; RUST_LOG overrides it. A second call does nothing, so tests
/// and components in one process may all call it.
pub fn init(component: &str, verbosity: u8) {
    let level = match verbosity {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{level},{QUIET}")));
    let already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbosity > 0)
        .finish()
        .try_init()
        .is_err();
    if !already_started {
        tracing::debug!(component, "logging started");
    }
}
