//! The runtime's records on disk, from which a new server knows everything again.
//!
//! `sandboxes/<id>/sandbox.json` and `containers/<id>/container.json`, beside what the shim keeps there. A record is
//! written before what it describes is made, so that nothing exists that no record names.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cri::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};

const SANDBOX_FILE: &str = "sandbox.json";
const CONTAINER_FILE: &str = "container.json";

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Being made; left so, it is rubbish.
    Making,
    /// Made.
    Ready,
    /// Stopped.
    Stopped,
}

/// A sandbox on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: String,
    config: String,
    pub runtime_handler: String,
    pub created_at: i64,
    pub ip: Option<Ipv4Addr>,
    pub progress: Progress,
}

/// A container on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    config: String,
    pub image_id: String,
    pub image_ref: String,
    pub created_at: i64,
    pub log_path: String,
    pub layers: Vec<PathBuf>,
    pub cgroup: String,
    pub stop_signal: i32,
}

impl SandboxRecord {
    /// Of a sandbox at some point.
    pub fn new(sandbox: &crate::record::Sandbox, progress: Progress) -> Self {
        Self {
            id: sandbox.id.clone(),
            config: STANDARD.encode(sandbox.config.encode_to_vec()),
            runtime_handler: sandbox.runtime_handler.clone(),
            created_at: sandbox.created_at,
            ip: sandbox.ip,
            progress,
        }
    }

    /// The request it was made from.
    pub fn config(&self) -> io::Result<v1::PodSandboxConfig> {
        v1::PodSandboxConfig::decode(&decode(&self.config)?[..]).map_err(io::Error::other)
    }

    /// Reads the record in a sandbox's directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        read(&directory.join(SANDBOX_FILE))
    }

    /// Writes it there.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        write(&directory.join(SANDBOX_FILE), self)
    }
}

impl ContainerRecord {
    /// Of a new container.
    pub fn new(container: &crate::record::Container, layers: Vec<PathBuf>, cgroup: String, stop_signal: i32) -> Self {
        Self {
            id: container.id.clone(),
            sandbox_id: container.sandbox_id.clone(),
            config: STANDARD.encode(container.config.encode_to_vec()),
            image_id: container.image_id.clone(),
            image_ref: container.image_ref.clone(),
            created_at: container.created_at,
            log_path: container.log_path.clone(),
            layers,
            cgroup,
            stop_signal,
        }
    }

    /// The request it was made from.
    pub fn config(&self) -> io::Result<v1::ContainerConfig> {
        v1::ContainerConfig::decode(&decode(&self.config)?[..]).map_err(io::Error::other)
    }

    /// Reads the record in a container's directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        read(&directory.join(CONTAINER_FILE))
    }

    /// Writes it there.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        write(&directory.join(CONTAINER_FILE), self)
    }
}

/// Reads a JSON file.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a JSON file under another name first, so that it is whole or not there.
pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(value)?)?;
    fs::rename(partial, path)
}

fn decode(text: &str) -> io::Result<Vec<u8>> {
    STANDARD.decode(text).map_err(io::Error::other)
}
