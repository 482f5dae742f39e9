//! `kubectl create configmap` and `secret`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Write, named};
use crate::failure::{Failure, Result};

/// Flags of `configmap`.
#[derive(Debug, clap::Args)]
pub struct ConfigMap {
    name: String,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    pub write: Write,
}

/// The kinds of secrets.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Create a secret from literals or files
    Generic(Generic),
    /// Create a TLS secret
    Tls(Tls),
    /// Create a secret for use with a container registry
    DockerRegistry(Registry),
}

/// Flags of `secret generic`.
#[derive(Debug, clap::Args)]
pub struct Generic {
    name: String,
    /// The secret's type
    #[arg(long = "type")]
    kind: Option<String>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    write: Write,
}

/// Flags of `secret tls`.
#[derive(Debug, clap::Args)]
pub struct Tls {
    name: String,
    /// PEM file of the certificate
    #[arg(long)]
    cert: PathBuf,
    /// PEM file of its key
    #[arg(long)]
    key: PathBuf,
    #[command(flatten)]
    write: Write,
}

/// Flags of `secret docker-registry`.
#[derive(Debug, clap::Args)]
pub struct Registry {
    name: String,
    #[arg(long, default_value = "https://index.docker.io/v1/")]
    docker_server: String,
    #[arg(long)]
    docker_username: String,
    #[arg(long)]
    docker_password: String,
    #[arg(long, default_value = "")]
    docker_email: String,
    #[command(flatten)]
    write: Write,
}

#[derive(Debug, clap::Args)]
struct Data {
    /// key=value
    #[arg(long)]
    from_literal: Vec<String>,
    /// key=path, or path (its file name is the key; a folder is all its files)
    #[arg(long)]
    from_file: Vec<String>,
    /// A file with a key=value on each line
    #[arg(long)]
    from_env_file: Vec<PathBuf>,
}

impl ConfigMap {
    /// Text as data, the rest as binaryData.
    pub fn object(&self) -> Result<Value> {
        let mut object = named("v1", "ConfigMap", &self.name);
        for (key, bytes) in self.data.read()? {
            match String::from_utf8(bytes) {
                Ok(text) => object["data"][key] = text.into(),
                Err(binary) => object["binaryData"][key] = STANDARD.encode(binary.as_bytes()).into(),
            }
        }
        Ok(object)
    }
}

impl Secret {
    /// The secret.
    pub fn object(&self) -> Result<Value> {
        match self {
            Self::Generic(args) => {
                let mut object = named("v1", "Secret", &args.name);
                if let Some(kind) = &args.kind {
                    object["type"] = kind.clone().into();
                }
                for (key, bytes) in args.data.read()? {
                    object["data"][key] = STANDARD.encode(bytes).into();
                }
                Ok(object)
            }
            Self::Tls(args) => {
                let mut object = named("v1", "Secret", &args.name);
                object["type"] = "kubernetes.io/tls".into();
                for (key, path) in [("tls.crt", &args.cert), ("tls.key", &args.key)] {
                    object["data"][key] = STANDARD.encode(read(path)?).into();
                }
                Ok(object)
            }
            Self::DockerRegistry(args) => {
                let mut object = named("v1", "Secret", &args.name);
                object["type"] = "kubernetes.io/dockerconfigjson".into();
                let auth = STANDARD.encode(format!("{}:{}", args.docker_username, args.docker_password));
                let mut login =
                    json!({"username": args.docker_username, "password": args.docker_password, "auth": auth});
                if !args.docker_email.is_empty() {
                    login["email"] = args.docker_email.clone().into();
                }
                let config = json!({"auths": {&args.docker_server: login}});
                object["data"][".dockerconfigjson"] = STANDARD.encode(config.to_string()).into();
                Ok(object)
            }
        }
    }

    /// How it is written.
    pub fn into_write(self) -> Write {
        match self {
            Self::Generic(args) => args.write,
            Self::Tls(args) => args.write,
            Self::DockerRegistry(args) => args.write,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("error reading {}: {error}", path.display())))
}

impl Data {
    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut data = BTreeMap::new();
        let mut add = |key: String, bytes: Vec<u8>| match data.insert(key.clone(), bytes) {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!(
                "cannot add key \"{key}\", another key by that name already exists in Data"
            ))),
        };
        for literal in &self.from_literal {
            let (key, value) = literal
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("invalid literal source {literal}, expected key=value")))?;
            let unquoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
            add(key.to_owned(), unquoted.as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            let (key, path) = source.split_once('=').map_or((None, source.as_str()), |(key, path)| (Some(key), path));
            for (name, bytes) in files(Path::new(path))? {
                add(key.map_or(name, str::to_owned), bytes)?;
            }
        }
        for path in &self.from_env_file {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let (key, value) = line.split_once('=').unwrap_or((line, ""));
                add(key.to_owned(), value.as_bytes().to_vec())?;
            }
        }
        Ok(data)
    }
}

/// A file by its name, or all files of a folder.
fn files(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !path.is_dir() {
        return Ok(vec![(name(path), read(path)?)]);
    }
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.iter().map(|path| Ok((name(path), read(path)?))).collect()
}
