//! A cluster on disk: where its folder is, what was asked for, and which processes it runs.
//!
//! `$KUBELAB_HOME/NAME` (default `~/.kubelab/NAME`) is the folder, or a link to the one that `--data-dir` named. `cluster.json` in it is
//! the [`Spec`]; `run/` holds one file for each process that was started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::pki::Pki;

/// Which store the API server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// The embedded store, in the cluster's folder.
    Embedded,
    /// etcd: the servers given, or one that kubelab starts from PATH.
    Etcd,
}

/// Which runtime the kubelets use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Real containers where this machine can, else simulated ones.
    Auto,
    /// Real containers.
    Linux,
    /// No processes; behaviour scripted by annotations.
    Simulated,
}

/// A node that this machine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name of the Node object.
    pub name: String,
    /// Port of its kubelet.
    pub kubelet_port: u16,
}

/// What was asked for; kept in `cluster.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The cluster's name, also its kubeconfig context.
    pub name: String,
    /// Port of the API server.
    pub port: u16,
    /// The store.
    pub store: Store,
    /// External etcd servers; empty with `store: etcd` means that kubelab runs one.
    pub etcd_servers: Vec<String>,
    /// Client port of the etcd that kubelab runs.
    pub etcd_port: u16,
    /// Peer port of the etcd that kubelab runs.
    pub etcd_peer_port: u16,
    /// What was asked for.
    pub runtime: Runtime,
    /// Nodes, the first named as the cluster.
    pub nodes: Vec<NodeSpec>,
    /// Components left out.
    pub without: Vec<String>,
    /// Which controllers run, as `--controllers` of kube-controller-manager has it.
    #[serde(default = "all_controllers")]
    pub controllers: Vec<String>,
    /// Whether the API server keeps an audit log.
    #[serde(default)]
    pub audit_log: bool,
    /// Pod addresses of the cluster.
    pub pod_cidr: String,
    /// Service addresses of the cluster.
    pub service_cidr: String,
    /// The kubeconfig file that holds the context.
    pub kubeconfig: PathBuf,
}

/// `--controllers` of a cluster that has them all.
pub fn all_controllers() -> Vec<String> {
    vec!["*".into()]
}

/// A cluster's folder and spec.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The folder.
    pub dir: PathBuf,
    /// What was asked for.
    pub spec: Spec,
}

const AUDIT_POLICY: &str = include_str!("audit-policy.yaml");

/// Serialises start, stop and delete of one cluster.
pub struct Lock(#[allow(dead_code)] Flock<fs::File>);

/// `$KUBELAB_HOME` or `~/.kubelab`.
pub fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("KUBELAB_HOME").filter(|home| !home.is_empty()) {
        return Ok(std::path::absolute(home)?);
    }
    let home = std::env::var_os("HOME").context("neither KUBELAB_HOME nor HOME is set; set one of them")?;
    Ok(Path::new(&home).join(".kubelab"))
}

/// The folder of a cluster, whether or not it exists.
pub fn dir(name: &str, data_dir: Option<&Path>) -> Result<PathBuf> {
    match data_dir {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => Ok(home()?.join(name)),
    }
}

/// The names of all clusters under [`home`].
pub fn names() -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(home()?) else { return Ok(vec![]) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("cluster.json").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

impl Cluster {
    /// Reads a cluster that was started before.
    pub fn open(name: &str, data_dir: Option<&Path>) -> Result<Self> {
        let dir = dir(name, data_dir)?;
        Self::read(&dir)?.ok_or_else(|| match names() {
            Ok(names) if !names.is_empty() => anyhow!("there is no cluster {name:?}; there is: {}", names.join(", ")),
            _ => anyhow!("there is no cluster {name:?}; `kubelab start` makes one"),
        })
    }

    /// Reads the cluster in a folder, if there is one.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("cluster.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
        };
        let spec = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(Self { dir: fs::canonicalize(dir)?, spec }))
    }

    /// What the audit log records.
    pub fn audit_policy(&self) -> PathBuf {
        self.dir.join("audit-policy.yaml")
    }

    /// Writes the audit policy, unless there is one that somebody may have edited.
    pub fn ensure_audit_policy(&self) -> Result<()> {
        let path = self.audit_policy();
        if self.spec.audit_log && !path.exists() {
            fs::write(&path, AUDIT_POLICY).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes `cluster.json`.
    pub fn save(&self) -> Result<()> {
        let path = self.dir.join("cluster.json");
        let partial = self.dir.join("cluster.json.partial");
        fs::write(&partial, serde_json::to_vec_pretty(&self.spec)?)
            .with_context(|| format!("can't write {}", partial.display()))?;
        Ok(fs::rename(&partial, &path)?)
    }

    /// Takes the cluster's lock, or says who is in the way.
    pub fn lock(dir: &Path) -> Result<Lock> {
        let path = dir.join("lock");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let file =
            file.with_context(|| format!("can't write {}; choose another folder with --data-dir", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err(_) => bail!(
                "another kubelab is starting, stopping or deleting this cluster ({}); wait for it to end",
                dir.display()
            ),
        }
    }

    /// The certificates.
    pub fn pki(&self) -> Pki {
        Pki::at(self.dir.join("pki"))
    }

    /// The kubeconfig of a component (or `admin`).
    pub fn component_kubeconfig(&self, identity: &str) -> PathBuf {
        self.dir.join("kubeconfig").join(format!("{identity}.conf"))
    }

    /// The log of a component.
    pub fn log(&self, component: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{component}.log"))
    }

    /// The folder of a node: kubelet and runtime state.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    /// The runtime's socket of a node. Socket paths are limited to 107 bytes; a long folder gets one under /run or /tmp.
    pub fn runtime_socket(&self, node: &str) -> PathBuf {
        let inside = self.node_dir(node).join("runtime.sock");
        if inside.as_os_str().len() <= 100 {
            return inside;
        }
        let digest = {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(inside.as_os_str().as_encoded_bytes());
            digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        std::env::temp_dir().join(format!("kubelab-{digest}.sock"))
    }

    /// The API server's address for clients on this machine.
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.spec.port)
    }
}
