//! `kubectl create -f`, and the generators for namespaces, config maps, secrets and service accounts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

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
    #[command(subcommand)]
    generator: Option<Generator>,
}

#[derive(Debug, clap::Args)]
struct Write {
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

#[derive(Debug, Subcommand)]
enum Generator {
    /// Create a namespace with the specified name
    #[command(visible_alias = "ns")]
    Namespace {
        name: String,
        #[command(flatten)]
        write: Write,
    },
    /// Create a service account with the specified name
    #[command(visible_alias = "sa")]
    Serviceaccount {
        name: String,
        #[command(flatten)]
        write: Write,
    },
    /// Create a config map from literals or files
    #[command(visible_alias = "cm")]
    Configmap {
        name: String,
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        write: Write,
    },
    /// Create a secret: kubectl create secret generic NAME
    Secret {
        /// generic
        kind: String,
        name: String,
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        write: Write,
    },
}

#[derive(Debug, clap::Args)]
struct Data {
    /// key=value
    #[arg(long)]
    from_literal: Vec<String>,
    /// key=path, or path (its file name is the key)
    #[arg(long)]
    from_file: Vec<String>,
}

/// Creates what files or a generator say.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let Some(generator) = args.generator else {
        let mut failures = Vec::new();
        for manifest in args.files.read()? {
            let source = manifest.source.clone();
            let created = create(session, manifest, &args.write).await;
            failures.extend(created.err().map(|failure| failure.when(&format!("error when creating \"{source}\""))));
        }
        return Failure::join(failures);
    };
    let (object, write) = generate(generator)?;
    create(session, Manifest { source: String::new(), object }, &write).await
}

async fn create(session: &Session, manifest: Manifest, write: &Write) -> Result<()> {
    let located = manifest.locate(session).await?;
    let object = &located.manifest.object;
    let path = format!(
        "{}?fieldManager=kubectl-create&fieldValidation={}{}",
        located.resource.collection(Some(&located.namespace)),
        validation(&write.validate)?,
        write.dry_run.query()
    );
    let created = if write.dry_run == DryRun::Client { object.clone() } else { session.post(&path, object).await? };
    let display = format!("{}/{}", located.resource.prefix(), created["metadata"]["name"].as_str().unwrap_or_default());
    report(format(write.output.as_deref())?.as_ref(), &display, "created", write.dry_run, &created)
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

fn generate(generator: Generator) -> Result<(Value, Write)> {
    let object = |kind: &str, name: String| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    Ok(match generator {
        Generator::Namespace { name, write } => (object("Namespace", name), write),
        Generator::Serviceaccount { name, write } => (object("ServiceAccount", name), write),
        Generator::Configmap { name, data, write } => {
            let mut object = object("ConfigMap", name);
            for (key, bytes) in data.read()? {
                match String::from_utf8(bytes) {
                    Ok(text) => object["data"][key] = text.into(),
                    Err(binary) => object["binaryData"][key] = STANDARD.encode(binary.as_bytes()).into(),
                }
            }
            (object, write)
        }
        Generator::Secret { kind, name, data, write } => {
            if kind != "generic" {
                return Err(Failure::usage(format!(
                    "unknown kind of secret {kind:?}; kubectl create secret generic NAME"
                )));
            }
            let mut object = object("Secret", name);
            object["type"] = "Opaque".into();
            for (key, bytes) in data.read()? {
                object["data"][key] = STANDARD.encode(bytes).into();
            }
            (object, write)
        }
    })
}

impl Data {
    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut data = BTreeMap::new();
        for literal in &self.from_literal {
            let (key, value) = literal
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("invalid literal source {literal}, expected key=value")))?;
            data.insert(key.to_owned(), value.as_bytes().to_vec());
        }
        for source in &self.from_file {
            let path = PathBuf::from(source.split_once('=').map_or(source.as_str(), |(_, path)| path));
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let key = source.split_once('=').map_or(name, |(key, _)| key.to_owned());
            let bytes = std::fs::read(&path)
                .map_err(|error| Failure::usage(format!("error reading {}: {error}", path.display())))?;
            data.insert(key, bytes);
        }
        Ok(data)
    }
}
