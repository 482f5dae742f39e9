//! `kubectl create`: objects from files, or from a generator (`create/`), one file a topic.

mod data;
mod generator;
mod policy;
mod rbac;
mod service;
mod token;
mod workload;

use http::{Method, Request};
use serde_json::Value;

use self::generator::Generator;
use super::{DryRun, format, report};
use crate::failure::{Failure, Result};
use crate::manifest::{Files, Manifest};
use crate::session::Session;

/// Flags.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    write: Write,
    /// Send a raw body to this path
    #[arg(long, value_name = "PATH")]
    raw: Option<String>,
    #[command(subcommand)]
    generator: Option<Generator>,
}

/// How a write is done and shown.
#[derive(Debug, clap::Args)]
pub struct Write {
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

/// Creates what files or a generator say.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    match args.generator {
        Some(Generator::Token(args)) => token::run(session, args).await,
        Some(generator) => generator::run(session, generator).await,
        None => {
            if let Some(path) = &args.raw {
                return raw(session, path, &args.files).await;
            }
            let mut failures = Vec::new();
            for manifest in args.files.read()? {
                let source = manifest.source.clone();
                let created = create(session, manifest, &args.write, "kubectl-create").await;
                failures
                    .extend(created.err().map(|failure| failure.when(&format!("error when creating \"{source}\""))));
            }
            Failure::join(failures)
        }
    }
}

async fn raw(session: &Session, path: &str, files: &Files) -> Result<()> {
    let [manifest] = &files.read()?[..] else {
        return Err(Failure::usage("--raw can only use a single local file or stdin"));
    };
    let request = Request::builder().method(Method::POST).uri(path).header("Content-Type", "application/json");
    let request = request.body(serde_json::to_vec(&manifest.object)?);
    let request = request.map_err(|error| Failure::usage(error.to_string()))?;
    crate::output::line(&session.client.request_text(request).await?)
}

/// Creates one object and says so.
pub async fn create(session: &Session, manifest: Manifest, write: &Write, manager: &str) -> Result<()> {
    create_as(session, manifest, write, manager, "created").await
}

/// Creates one object and says it with this word.
pub async fn create_as(session: &Session, manifest: Manifest, write: &Write, manager: &str, done: &str) -> Result<()> {
    let generated = manifest.source.is_empty();
    let mut located = manifest.locate(session).await?;
    if generated && write.dry_run == DryRun::Client && !session.namespace_given {
        // What is only shown is good for any namespace.
        located.manifest.object["metadata"].as_object_mut().map(|metadata| metadata.remove("namespace"));
    }
    let object = &located.manifest.object;
    let path = format!(
        "{}?fieldManager={manager}&fieldValidation={}{}",
        located.resource.collection(Some(&located.namespace)),
        validation(&write.validate)?,
        write.dry_run.query()
    );
    let created = if write.dry_run == DryRun::Client { object.clone() } else { session.post(&path, object).await? };
    let display = format!("{}/{}", located.resource.prefix(), created["metadata"]["name"].as_str().unwrap_or_default());
    report(format(write.output.as_deref())?.as_ref(), &display, done, write.dry_run, &created)
}

/// `--validate` as the server's fieldValidation.
pub fn validation(validate: &str) -> Result<&'static str> {
    match validate {
        "strict" | "true" => Ok("Strict"),
        "warn" => Ok("Warn"),
        "ignore" | "false" => Ok("Ignore"),
        other => Err(Failure::usage(format!("invalid - validate option \"{other}\""))),
    }
}

/// An object with nothing but its name.
fn named(api_version: &str, kind: &str, name: &str) -> Value {
    serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}
