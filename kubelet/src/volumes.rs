//! The volumes of a pod, on this node's file system.
//!
//! Entry: [`plan`] (pure: which type, which contents), [`Volumes::set_up`] and [`Volumes::tear_down`]. Invariants: a
//! volume is complete before a container may see it; set-up repeated changes nothing that is right already; a node
//! without a file system (a simulated one) resolves the same references and writes nothing.

mod atomic;
mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod payload;
mod projected;
mod secret;
mod sub_path;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};

pub use self::payload::{Payload, Tokens};
pub use self::projected::token_requests;
pub use self::sub_path::resolve as resolve_sub_path;
use crate::downward::{DownwardError, NodeFacts};
use crate::env::Objects;

/// Why a volume cannot be set up; the words go into FailedMount events.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("{kind} references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error("no service account token for audience {0:?}")]
    NoToken(String),
    #[error("hostPath type check failed: {path} is not {expected}")]
    HostPathType { path: String, expected: &'static str },
    #[error("no volume plugin matched name: {0}")]
    Unsupported(String),
    #[error("subPath {0:?} leaves its volume")]
    SubPath(String),
    #[error(transparent)]
    Downward(#[from] DownwardError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

impl VolumeError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    EmptyDir { in_memory: bool, size_limit: Option<i64> },
    HostPath { path: String, kind: String },
    Files(Payload),
}

/// Everything the contents of a pod's volumes depend on.
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub node: &'a NodeFacts,
    pub pod_ips: &'a [String],
    pub objects: &'a Objects,
    pub tokens: &'a Tokens,
}

/// Decides what one volume is made of.
pub fn plan(context: &Context, volume: &Volume) -> Result<Plan, VolumeError> {
    if let Some(source) = &volume.empty_dir {
        return Ok(empty_dir::plan(source));
    }
    if let Some(source) = &volume.host_path {
        return Ok(Plan::HostPath { path: source.path.clone(), kind: source.type_.clone().unwrap_or_default() });
    }
    if let Some(source) = &volume.config_map {
        return config_map::plan(context, source).map(Plan::Files);
    }
    if let Some(source) = &volume.secret {
        return secret::plan(context, source).map(Plan::Files);
    }
    if let Some(source) = &volume.downward_api {
        return downward_api::plan(context, source).map(Plan::Files);
    }
    if let Some(source) = &volume.projected {
        return projected::plan(context, source).map(Plan::Files);
    }
    if is_bare(volume) {
        return Ok(Plan::EmptyDir { in_memory: false, size_limit: None });
    }
    Err(VolumeError::Unsupported(volume.name.clone()))
}

/// A volume without a source is an emptyDir.
fn is_bare(volume: &Volume) -> bool {
    *volume == Volume { name: volume.name.clone(), ..Volume::default() }
}

/// The names of the objects that a pod refers to, in its volumes and environments.
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    let spec = pod.spec.clone().unwrap_or_default();
    for volume in spec.volumes.iter().flatten() {
        maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    for member in crate::members::members(pod) {
        for from in member.container.env_from.iter().flatten() {
            maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
            secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
        }
        for source in member.container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            maps.extend(source.config_map_key_ref.iter().map(|source| source.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|source| source.name.clone()));
        }
    }
    secrets.extend(spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.clone()));
    for list in [&mut maps, &mut secrets] {
        list.sort();
        list.dedup();
        list.retain(|name| !name.is_empty());
    }
    (maps, secrets)
}

/// The volumes of all pods below one directory; `None`: a node without a file system.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: Option<PathBuf>,
}

impl Volumes {
    /// Volumes below `root/pods/<uid>/volumes`.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// The directory of one pod.
    pub fn pod_dir(&self, uid: &str) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("pods").join(uid))
    }

    /// Makes every volume of the pod; where each one lies, by name.
    pub fn set_up(&self, context: &Context) -> Result<BTreeMap<String, PathBuf>, (String, VolumeError)> {
        let mut places = BTreeMap::new();
        let uid = context.pod.metadata.uid.as_deref().unwrap_or_default();
        for volume in context.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let name = &volume.name;
            let plan = plan(context, volume).map_err(|error| (name.clone(), error))?;
            if let Some(dir) = self.pod_dir(uid) {
                let place = make(context, &dir, name, &plan).map_err(|error| (name.clone(), error))?;
                places.insert(name.clone(), place);
            }
        }
        Ok(places)
    }

    /// Removes everything of a pod: unmounts what is mounted there, then deletes its directory.
    pub fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        let Some(dir) = self.pod_dir(uid) else { return Ok(()) };
        if !dir.exists() {
            return Ok(());
        }
        empty_dir::unmount_below(&dir)?;
        std::fs::remove_dir_all(&dir).map_err(VolumeError::io(&dir))
    }

    /// True if nothing of the pod lies here.
    pub fn is_clean(&self, uid: &str) -> bool {
        self.pod_dir(uid).is_none_or(|dir| !dir.exists())
    }

    /// The uids that have a directory here.
    pub fn known_uids(&self) -> Vec<String> {
        let Some(root) = &self.root else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(root.join("pods")) else { return Vec::new() };
        let mut uids: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        uids.sort();
        uids
    }
}

fn make(context: &Context, pod_dir: &Path, name: &str, plan: &Plan) -> Result<PathBuf, VolumeError> {
    let fs_group = context.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()).and_then(|s| s.fs_group);
    match plan {
        Plan::EmptyDir { in_memory, size_limit } => {
            let dir = pod_dir.join("volumes/kubernetes.io~empty-dir").join(name);
            empty_dir::make(&dir, *in_memory, *size_limit, fs_group)?;
            Ok(dir)
        }
        Plan::HostPath { path, kind } => {
            host_path::check(path, kind)?;
            Ok(PathBuf::from(path))
        }
        Plan::Files(payload) => {
            let dir = pod_dir.join("volumes/kubernetes.io~projected").join(name);
            atomic::write(&dir, payload, fs_group)?;
            Ok(dir)
        }
    }
}

/// When a token that expires at `expiry` and was issued at `issued` is to be replaced: after 80 % of its life.
pub fn refresh_at(issued: Timestamp, expiry: Timestamp) -> Timestamp {
    let life = expiry.duration_since(issued);
    issued.checked_add(life * 4 / 5).unwrap_or(expiry)
}
