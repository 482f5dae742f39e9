//! `kubectl patch`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::Value;

use super::{DryRun, format, report};
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::session::Session;
use crate::targets::{self, Selection};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME or TYPE/NAME
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// The patch, JSON or YAML
    #[arg(short, long)]
    patch: Option<String>,
    /// File that holds the patch
    #[arg(long)]
    patch_file: Option<PathBuf>,
    /// What kind of patch
    #[arg(long = "type", value_enum, default_value = "strategic")]
    kind: Kind,
    /// A subresource: status or scale
    #[arg(long)]
    subresource: Option<String>,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
    /// Output format: json, yaml, name, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

impl Kind {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// Patches each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let patch = read(&args)?;
    let format = format(args.output.as_deref())?;
    let mut failures = Vec::new();
    for target in &targets::resolve(session, &args.args, &Selection::default(), false, &args.files).await? {
        let subresource = args.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        let path = format!("{}{subresource}?fieldManager=kubectl-patch{}", target.path(), args.dry_run.query());
        let result = async {
            let before = target.get(session).await?;
            let after = match args.dry_run {
                DryRun::Client => before.clone(),
                _ => session.send(http::Method::PATCH, &path, args.kind.content_type(), &patch).await?,
            };
            let changed = before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]
                || args.dry_run != DryRun::None;
            // A subresource may be of another kind: a scale.
            let display = match after["kind"].as_str() {
                Some("Scale") => format!("scale.autoscaling/{}", target.name),
                _ => target.display(),
            };
            report(
                format.as_ref(),
                &display,
                if changed { "patched" } else { "patched (no change)" },
                args.dry_run,
                &after,
            )
        };
        failures.extend(result.await.err());
    }
    Failure::join(failures)
}

fn read(args: &Args) -> Result<Value> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), None) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("unable to read patch file: {error}")))?,
        _ => return Err(Failure::usage("must specify --patch or --patch-file containing the contents of the patch")),
    };
    serde_yaml::from_str(&text).map_err(|error| Failure::usage(format!("unable to parse \"{text}\": yaml: {error}")))
}
