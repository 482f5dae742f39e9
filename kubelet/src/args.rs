//! The kubelet as a process: its flags, and what they make of a configuration.
//!
//! Entry: [`run`]. Invariant: flags are read here only; the rest of the crate sees a [`KubeletConfig`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use process::{Clock, Rng, signals};

use crate::config::{Host, KubeletConfig, ServerConfig};
use crate::dns::{Resolvers, parse_resolv_conf};
use crate::node::Thresholds;

/// The flags of the kubelet.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubelet", about = "Runs the pods that are bound to its node")]
pub struct Args {
    /// How to reach the API server.
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// The node's name; the machine's host name if not given.
    #[arg(long, alias = "hostname-override")]
    pub node_name: Option<String>,
    /// Where volumes and the kubelet's own files lie.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Where the logs of containers lie; `pod-logs` in the root directory if not given.
    #[arg(long)]
    pub pod_logs_dir: Option<PathBuf>,
    /// The container runtime's CRI socket.
    #[arg(long, default_value = "unix:///run/kubelab/runtime.sock")]
    pub container_runtime_endpoint: String,
    /// The node's addresses; the one that leads out of the machine if not given.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<String>,
    /// The addresses that this node's pods get; the runtime's own setting if not given.
    #[arg(long)]
    pub pod_cidr: Option<String>,
    /// The cluster's name servers.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The file that says how the node resolves names.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Where to serve; 0 leaves the server out.
    #[arg(long, default_value_t = 10250)]
    pub port: u16,
    #[arg(long, default_value = "0.0.0.0")]
    pub address: String,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// The authority whose clients are let in.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether to make the node's record if there is none.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub register_node: bool,
    /// Labels of the node: `a=b,c=d`.
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// A directory of pod manifests to run beside the API's pods.
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// How little of memory, disk or process ids puts the node under pressure (upstream's default if not given).
    #[arg(long)]
    pub eviction_hard: Option<Thresholds>,
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// The parent of all pods' cgroups.
    #[arg(long, default_value = "/")]
    pub cgroup_root: String,
    /// Carry the traffic of services (ClusterIP, NodePort) with nftables.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub service_proxy: bool,
    /// The node exists on paper only: nothing is written or measured (for a simulated runtime).
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub simulated: bool,
    /// What a simulated node has: `cpu=8,memory=32Gi`.
    #[arg(long, value_delimiter = ',')]
    pub simulated_capacity: Vec<String>,
    #[command(flatten)]
    pub verbosity: process::logging::Verbosity,
}

impl Args {
    fn config(&self) -> anyhow::Result<KubeletConfig> {
        let node_name = match &self.node_name {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let node_ips = if self.node_ip.is_empty() {
            vec![process::reachable_address(Ipv4Addr::UNSPECIFIED.into()).to_string()]
        } else {
            self.node_ip.clone()
        };
        let host = if self.simulated {
            Host::Simulated { capacity: pairs(&self.simulated_capacity)?, pod_logs_dir: Some(self.logs_dir()) }
        } else {
            std::fs::create_dir_all(&self.root_dir)
                .with_context(|| format!("cannot use {} (--root-dir)", self.root_dir.display()))?;
            Host::Machine {
                root_dir: self.root_dir.clone(),
                pod_logs_dir: self.logs_dir(),
                thresholds: self.eviction_hard.clone().unwrap_or_default(),
            }
        };
        let resolv_conf = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        Ok(KubeletConfig {
            node_name,
            node_ips,
            node_labels: pairs(&self.node_labels)?,
            register_node: self.register_node,
            host,
            pod_cidr: self.pod_cidr.clone(),
            resolvers: Resolvers {
                cluster_dns: self.cluster_dns.clone(),
                cluster_domain: self.cluster_domain.clone(),
                host: parse_resolv_conf(&resolv_conf),
            },
            max_pods: self.max_pods,
            cgroup_root: self.cgroup_root.clone(),
            pod_manifest_path: self.pod_manifest_path.clone(),
            server: self.server()?,
            service_proxy: self.service_proxy,
        })
    }

    fn logs_dir(&self) -> PathBuf {
        self.pod_logs_dir.clone().unwrap_or_else(|| self.root_dir.join("pod-logs"))
    }

    fn server(&self) -> anyhow::Result<Option<ServerConfig>> {
        if self.port == 0 {
            return Ok(None);
        }
        let needed = |file: &Option<PathBuf>, flag: &str| {
            file.clone().with_context(|| format!("--{flag} is needed to serve (or --port 0)"))
        };
        Ok(Some(ServerConfig {
            address: self.address.clone(),
            port: self.port,
            certificate_file: needed(&self.tls_cert_file, "tls-cert-file")?,
            private_key_file: needed(&self.tls_private_key_file, "tls-private-key-file")?,
            client_ca_file: needed(&self.client_ca_file, "client-ca-file")?,
        }))
    }
}

fn pairs(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').with_context(|| format!("{text:?} is not key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().filter(|text| !text.is_empty()).map(pair).collect()
}

/// Runs a kubelet until the process is told to end. Its pods go on running.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.verbosity.start("kubelet");
    let token = signals::shutdown_token();
    let config = args.config()?;
    let client = client::kube_client(&args.kubeconfig, "kubelet").await?;
    let runtime = cri::transport::connect(&args.container_runtime_endpoint)?;
    let (clock, rng) = (Clock::system(), Rng::from_entropy());
    let kubelet = crate::start(config, client, runtime, clock, rng, token.clone()).await?;
    token.cancelled().await;
    kubelet.stopped().await;
    Ok(())
}
