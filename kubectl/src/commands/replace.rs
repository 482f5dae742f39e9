//! `kubectl replace`: objects become exactly what files say; with `--force` by deleting them first.

use http::{Method, Request};
use serde_json::{Value, json};

use super::create::validation;
use super::wait::until_gone;
use super::{DryRun, format, report};
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Manifest};
use crate::output;
use crate::session::Session;
use crate::targets::Target;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// Delete and create instead of updating
    #[arg(long)]
    force: bool,
    /// With --force: seconds that pods get to end
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    grace_period: i64,
    /// Send nothing (client), or store nothing (server)
    #[arg(long, value_enum, default_value = "none", default_missing_value = "client", num_args = 0..=1, require_equals = true)]
    dry_run: DryRun,
    /// Output format: json, yaml, name, jsonpath=…
    #[arg(short, long)]
    output: Option<String>,
    /// What unknown fields do: strict, warn, ignore
    #[arg(long, default_value = "strict", default_missing_value = "strict", num_args = 0..=1, require_equals = true)]
    validate: String,
}

/// Replaces every object of the files.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let mut failures = Vec::new();
    let manifests = args.files.read()?;
    if args.force {
        for manifest in &manifests {
            failures.extend(delete(session, &args, manifest).await.err());
        }
    }
    for manifest in manifests {
        let source = manifest.source.clone();
        let replaced = replace(session, &args, manifest).await;
        failures.extend(replaced.err().map(|failure| failure.when(&format!("error when replacing \"{source}\""))));
    }
    Failure::join(failures)
}

async fn replace(session: &Session, args: &Args, manifest: Manifest) -> Result<()> {
    let mut located = manifest.locate(session).await?;
    if let Some(metadata) = located.manifest.object["metadata"].as_object_mut().filter(|_| args.force) {
        metadata.remove("resourceVersion");
    }
    let object = &located.manifest.object;
    let query =
        format!("fieldManager=kubectl-replace&fieldValidation={}{}", validation(&args.validate)?, args.dry_run.query());
    let path = match args.force {
        true => located.resource.collection(Some(&located.namespace)),
        false => located.resource.object(&located.namespace, located.manifest.metadata("name")),
    };
    let answer: Value = match (args.dry_run, args.force) {
        (DryRun::Client, _) => object.clone(),
        (_, true) => session.post(&format!("{path}?{query}"), object).await?,
        (_, false) => session.send(Method::PUT, &format!("{path}?{query}"), "application/json", object).await?,
    };
    let display = format!("{}/{}", located.resource.prefix(), answer["metadata"]["name"].as_str().unwrap_or_default());
    report(format(args.output.as_deref())?.as_ref(), &display, "replaced", args.dry_run, &answer)
}

async fn delete(session: &Session, args: &Args, manifest: &Manifest) -> Result<()> {
    let located = Manifest { source: manifest.source.clone(), object: manifest.object.clone() }.locate(session).await?;
    let name = located.manifest.metadata("name").to_owned();
    let target = Target { resource: located.resource, namespace: located.namespace, name };
    let mut options = json!({"propagationPolicy": "Background"});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = args.grace_period.into();
    }
    let request = Request::delete(target.path()).header("Content-Type", "application/json");
    let request = request.body(serde_json::to_vec(&options)?).map_err(|error| Failure::usage(error.to_string()))?;
    match session.client.request::<Value>(request).await.map_err(Failure::from) {
        Ok(answer) => {
            let uid = answer["details"]["uid"].as_str().or(answer["metadata"]["uid"].as_str()).map(str::to_owned);
            output::line(&format!("{} \"{}\" deleted", target.resource.prefix(), target.name))?;
            until_gone(session, &target, uid, None).await
        }
        Err(failure) if failure.is_not_found() => Ok(()),
        Err(failure) => Err(failure),
    }
}
