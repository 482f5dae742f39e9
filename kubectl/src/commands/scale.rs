//! `kubectl scale`, through the `/scale` subresource.

use http::Method;
use serde_json::json;

use super::DryRun;
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TYPE NAME... or TYPE/NAME...
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selection: Selection,
    /// All objects of the types
    #[arg(long)]
    all: bool,
    /// The new number of replicas
    #[arg(long, allow_hyphen_values = true)]
    replicas: i64,
    /// Only if this is the present number; -1 is any
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    current_replicas: i64,
    /// Only at this revision
    #[arg(long)]
    resource_version: Option<String>,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
}

/// Scales each object.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    if args.replicas < 0 {
        return Err(Failure::usage(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        ));
    }
    let targets = targets::resolve(session, &args.args, &args.selection, args.all, &args.files).await?;
    if targets.is_empty() {
        return Err(Failure::usage("no objects passed to scale"));
    }
    let mut failures = Vec::new();
    for target in &targets {
        match scale(session, &args, &target.path()).await {
            Ok(()) => output::line(&format!("{} scaled{}", target.display(), args.dry_run.suffix()))?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::join(failures)
}

async fn scale(session: &Session, args: &Args, path: &str) -> Result<()> {
    let path = format!("{path}/scale");
    let mut patch = json!({"spec": {"replicas": args.replicas}});
    if args.current_replicas >= 0 || args.resource_version.is_some() || args.dry_run == DryRun::Client {
        let scale = session.get(&path).await?;
        let present = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if args.current_replicas >= 0 && present != args.current_replicas {
            return Err(Failure::usage(format!("Expected replicas to be {}, was {present}", args.current_replicas)));
        }
        let revision = args.resource_version.clone().map_or(scale["metadata"]["resourceVersion"].clone(), Into::into);
        patch["metadata"]["resourceVersion"] = revision;
    }
    if args.dry_run != DryRun::Client {
        let query = args.dry_run.query();
        session
            .send(
                Method::PATCH,
                &format!("{path}?fieldManager=kubectl-scale{query}"),
                "application/merge-patch+json",
                &patch,
            )
            .await?;
    }
    Ok(())
}
