//! `kubectl delete`.

use http::Request;
use serde_json::{Value, json};

use super::DryRun;
use super::wait::until_gone;
use crate::duration::{self, Limit};
use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::output;
use crate::session::Session;
use crate::targets::{self, Selection, Target};

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
    /// Seconds that pods get to end; -1 is what they ask for
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// End at once, without waiting for confirmation
    #[arg(long)]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long)]
    now: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait; 0 is as long as it takes
    #[arg(long, default_value = "0s", value_parser = duration::argument)]
    timeout: Limit,
    /// What happens to dependents: background, foreground, orphan
    #[arg(long, default_value = "background", default_missing_value = "background", num_args = 0..=1, require_equals = true)]
    cascade: String,
    /// What is not there is no error
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    ignore_not_found: Option<bool>,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
    /// Output mode: name
    #[arg(short, long)]
    output: Option<String>,
}

/// Deletes objects and, unless told otherwise, waits until they are gone.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    if args.files.is_empty() && args.args.is_empty() {
        return Err(Failure::usage("You must provide one or more resources by argument or filename."));
    }
    let options = options(&args)?;
    let by_query = args.all || args.selection.is_query();
    let targets = targets::resolve(session, &args.args, &args.selection, args.all, &args.files).await?;
    if targets.is_empty() && by_query {
        eprintln!("No resources found");
        return Ok(());
    }
    if args.force && args.dry_run == DryRun::None {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    let ignore = args.ignore_not_found.unwrap_or(by_query);
    let (mut failures, mut waiting) = (Vec::new(), Vec::new());
    for target in &targets {
        match delete(session, target, &options, args.dry_run).await {
            Ok(uid) => {
                print_deleted(&args, target)?;
                waiting.push((target, uid));
            }
            Err(failure) if failure.is_not_found() && ignore => {}
            Err(failure) => failures.push(failure),
        }
    }
    if args.wait && !args.force && args.dry_run == DryRun::None {
        let limit = args.timeout.0.filter(|limit| !limit.is_zero());
        for (target, uid) in waiting {
            failures.extend(until_gone(session, target, uid, limit).await.err());
        }
    }
    Failure::join(failures)
}

fn options(args: &Args) -> Result<Value> {
    let policy = match args.cascade.as_str() {
        "background" | "true" => "Background",
        "foreground" => "Foreground",
        "orphan" | "false" => "Orphan",
        other => {
            return Err(Failure::usage(format!(
                "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
            )));
        }
    };
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
    let grace = match (args.force, args.now) {
        (true, _) if args.grace_period > 0 => {
            return Err(Failure::usage("--force and --grace-period greater than 0 cannot be specified together"));
        }
        (true, _) => 0,
        (_, true) if args.grace_period != -1 => {
            return Err(Failure::usage("--now and --grace-period cannot be specified together"));
        }
        (_, true) => 1,
        // Without --force, 0 could leave the container running unseen.
        _ if args.grace_period == 0 => 1,
        _ => args.grace_period,
    };
    // The server reads options from the body or from the query, never from both.
    if args.dry_run == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    if grace >= 0 {
        options["gracePeriodSeconds"] = grace.into();
    }
    Ok(options)
}

/// Answers the uid of what was deleted, where the server says it.
async fn delete(session: &Session, target: &Target<'_>, options: &Value, dry_run: DryRun) -> Result<Option<String>> {
    if dry_run == DryRun::Client {
        return target.get(session).await.map(|_| None);
    }
    let request = Request::delete(target.path()).header("Content-Type", "application/json");
    let request = request.body(serde_json::to_vec(options)?).map_err(|error| Failure::usage(error.to_string()))?;
    let answer: Value = session.client.request(request).await?;
    let uid = answer["details"]["uid"].as_str().or(answer["metadata"]["uid"].as_str());
    Ok(uid.map(str::to_owned))
}

fn print_deleted(args: &Args, target: &Target<'_>) -> Result<()> {
    if args.output.as_deref() == Some("name") {
        return output::line(&target.display());
    }
    let what = if args.force { "force deleted" } else { "deleted" };
    let place =
        if target.namespace.is_empty() { String::new() } else { format!(" from {} namespace", target.namespace) };
    output::line(&format!("{} \"{}\" {what}{place}{}", target.resource.prefix(), target.name, args.dry_run.suffix()))
}
