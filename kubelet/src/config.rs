//! What a kubelet is told when it starts.
//!
//! Entry: [`KubeletConfig`]. Invariant: everything that differs between a real and a simulated node is in [`Host`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::dns::Resolvers;
use crate::node::Thresholds;

/// The settings of one kubelet.
#[derive(Clone, Debug)]
pub struct KubeletConfig {
    pub node_name: String,
    pub node_ips: Vec<String>,
    pub node_labels: BTreeMap<String, String>,
    /// Whether it makes its own Node object.
    pub register_node: bool,
    pub host: Host,
    /// Handed to the runtime, which gives pods their addresses.
    pub pod_cidr: Option<String>,
    pub resolvers: Resolvers,
    pub max_pods: u32,
    /// Parent of all pods' cgroups.
    pub cgroup_root: String,
    /// A directory of manifests to run beside the API's pods.
    pub pod_manifest_path: Option<PathBuf>,
    /// The HTTPS server for logs, exec, statistics; a simulated node may do without.
    pub server: Option<ServerConfig>,
    /// Whether this kubelet also carries the traffic of services on its machine.
    pub service_proxy: bool,
}

/// What the kubelet stands on.
#[derive(Clone, Debug)]
pub enum Host {
    /// A real machine: volumes and logs are files, capacity is measured, probes are sent.
    Machine { root_dir: PathBuf, pod_logs_dir: PathBuf, thresholds: Thresholds },
    /// A node on paper: nothing is measured, and nothing written but the logs of containers, if they have a place;
    /// probes of running containers succeed.
    Simulated { capacity: BTreeMap<String, String>, pod_logs_dir: Option<PathBuf> },
}

impl Host {
    /// The node's file system, if it has one.
    pub fn root_dir(&self) -> Option<PathBuf> {
        match self {
            Self::Machine { root_dir, .. } => Some(root_dir.clone()),
            Self::Simulated { .. } => None,
        }
    }

    /// Whether this node exists on paper only.
    pub fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated { .. })
    }
}

/// How the kubelet serves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub address: String,
    pub port: u16,
    pub certificate_file: PathBuf,
    pub private_key_file: PathBuf,
    /// Only clients with a certificate of this authority get in.
    pub client_ca_file: PathBuf,
}

impl KubeletConfig {
    /// A simulated node: 8 cpus, 32 GiB, 110 pods unless `capacity` says otherwise.
    pub fn simulated(node_name: &str, capacity: BTreeMap<String, String>) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ips: vec!["127.0.0.1".into()],
            node_labels: BTreeMap::new(),
            register_node: true,
            host: Host::Simulated { capacity, pod_logs_dir: None },
            pod_cidr: None,
            resolvers: Resolvers { cluster_domain: "cluster.local".into(), ..Resolvers::default() },
            max_pods: 110,
            cgroup_root: String::new(),
            pod_manifest_path: None,
            server: None,
            service_proxy: false,
        }
    }

    /// Where the logs of one pod's containers lie.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> Option<PathBuf> {
        let pod_logs_dir = match &self.host {
            Host::Machine { pod_logs_dir, .. } => Some(pod_logs_dir),
            Host::Simulated { pod_logs_dir, .. } => pod_logs_dir.as_ref(),
        };
        Some(pod_logs_dir?.join(format!("{namespace}_{name}_{uid}")))
    }
}
