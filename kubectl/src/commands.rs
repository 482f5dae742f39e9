//! One file a verb.

pub mod api_resources;
pub mod api_versions;
pub mod apply;
pub mod auth;
pub mod autoscale;
pub mod certificate;
pub mod cluster_info;
pub mod config;
pub mod cordon;
pub mod create;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod drain;
pub mod edit;
pub mod events;
pub mod exec;
pub mod explain;
pub mod expose;
pub mod get;
pub mod label;
pub mod logs;
pub mod patch;
pub mod port_forward;
pub mod replace;
pub mod rollout;
pub mod run;
pub mod scale;
pub mod set;
pub mod taint;
pub mod version;
pub mod wait;

use serde_json::Value;

use crate::failure::Result;
use crate::output::{self, Format};

/// `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Send nothing.
    Client,
    /// Let the server do everything but store it.
    Server,
}

impl DryRun {
    /// The query parameter, `&` included.
    pub fn query(self) -> &'static str {
        if self == Self::Server { "&dryRun=All" } else { "" }
    }

    /// What messages end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// Prints what a write did: `pod/x created`, or the object where `-o` asks for it.
pub fn report(format: Option<&Format>, display: &str, done: &str, dry_run: DryRun, object: &Value) -> Result<()> {
    match format {
        None => output::line(&format!("{display} {done}{}", dry_run.suffix())),
        Some(Format::Name | Format::Table { .. }) => output::line(display),
        Some(format) => output::print(format, object, false),
    }
}

/// Parses the `-o` of a write.
pub fn format(output: Option<&str>) -> Result<Option<Format>> {
    output.map(|output| Format::parse(Some(output))).transpose()
}
