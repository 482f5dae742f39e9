//! THE TABLE of the processes of a cluster: names, order and command lines.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crate::cluster::{Cluster, NodeSpec, Runtime, Store};

/// Domain of the cluster's DNS names.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// The issuer of service-account tokens, as upstream's kubeadm sets it.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// One process of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// The etcd that kubelab runs with `--store etcd` and no `--etcd-servers`.
    Etcd,
    /// The API server.
    Apiserver,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// A node's kubelet with its runtime.
    Kubelet(NodeSpec),
}

/// What to execute.
#[derive(Debug)]
pub struct CommandLine {
    /// The program; None is this binary.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<String>,
}

/// The disk of a laptop is mostly full; upstream's tenth of it would keep pods away from a laboratory's only node.
const EVICTION_HARD: &str = "memory.available<100Mi,nodefs.available<1%,nodefs.inodesFree<1%";

/// Names that `--without` accepts.
pub const OPTIONAL: [&str; 3] = ["controller-manager", "scheduler", "kubelet"];

impl Component {
    /// Its name in logs, status and `--without`.
    pub fn name(&self) -> String {
        match self {
            Self::Etcd => "etcd".into(),
            Self::Apiserver => "apiserver".into(),
            Self::ControllerManager => "controller-manager".into(),
            Self::Scheduler => "scheduler".into(),
            Self::Kubelet(node) => format!("kubelet-{}", node.name),
        }
    }
}

/// The processes of a cluster in starting order.
pub fn of(cluster: &Cluster) -> Vec<Component> {
    let spec = &cluster.spec;
    let wanted = |name: &str| !spec.without.iter().any(|without| without == name);
    let mut components = Vec::new();
    if runs_etcd(cluster) {
        components.push(Component::Etcd);
    }
    components.push(Component::Apiserver);
    if wanted("controller-manager") {
        components.push(Component::ControllerManager);
    }
    if wanted("scheduler") {
        components.push(Component::Scheduler);
    }
    if wanted("kubelet") {
        components.extend(spec.nodes.iter().cloned().map(Component::Kubelet));
    }
    components
}

/// Whether kubelab runs the cluster's etcd itself.
pub fn runs_etcd(cluster: &Cluster) -> bool {
    cluster.spec.store == Store::Etcd && cluster.spec.etcd_servers.is_empty()
}

/// What to execute for a component.
pub fn command_line(cluster: &Cluster, component: &Component) -> CommandLine {
    match component {
        Component::Etcd => CommandLine { program: Some("etcd".into()), args: etcd(cluster) },
        Component::Apiserver => own("apiserver", apiserver(cluster)),
        Component::ControllerManager => own("controller-manager", controller_manager(cluster)),
        Component::Scheduler => own("scheduler", scheduler(cluster)),
        Component::Kubelet(node) => own("kubelet", kubelet(cluster, node)),
    }
}

fn own(component: &str, mut args: Vec<String>) -> CommandLine {
    args.insert(0, component.to_owned());
    CommandLine { program: None, args }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn etcd(cluster: &Cluster) -> Vec<String> {
    let client = format!("https://127.0.0.1:{}", cluster.spec.etcd_port);
    let peer = format!("http://127.0.0.1:{}", cluster.spec.etcd_peer_port);
    let server = cluster.pki().pair("etcd-server");
    vec![
        flag("name", &cluster.spec.name),
        flag("data-dir", cluster.dir.join("etcd").display()),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("{}={peer}", cluster.spec.name)),
        flag("cert-file", server.cert.display()),
        flag("key-file", server.key.display()),
        flag("trusted-ca-file", cluster.pki().pair("etcd-ca").cert.display()),
        "--client-cert-auth".into(),
        flag("logger", "zap"),
    ]
}

fn apiserver(cluster: &Cluster) -> Vec<String> {
    let (pki, spec) = (cluster.pki(), &cluster.spec);
    let (server, kubelet) = (pki.pair("apiserver"), pki.pair("apiserver-kubelet-client"));
    let mut args = vec![
        flag("bind-address", "0.0.0.0"),
        flag("secure-port", spec.port),
        flag("service-cluster-ip-range", &spec.service_cidr),
        flag("tls-cert-file", server.cert.display()),
        flag("tls-private-key-file", server.key.display()),
        flag("client-ca-file", pki.ca().display()),
        flag("kubelet-client-certificate", kubelet.cert.display()),
        flag("kubelet-client-key", kubelet.key.display()),
        flag("kubelet-certificate-authority", pki.ca().display()),
        flag("service-account-key-file", pki.service_account_key().display()),
        flag("service-account-signing-key-file", pki.service_account_key().display()),
        flag("service-account-issuer", ISSUER),
    ];
    if spec.audit_log {
        args.extend([
            flag("audit-log-path", cluster.dir.join("audit.log").display()),
            flag("audit-policy-file", cluster.audit_policy().display()),
        ]);
    }
    match spec.store {
        Store::Embedded => {
            args.extend([flag("store", "embedded"), flag("data-dir", cluster.dir.join("store").display())])
        }
        Store::Etcd if spec.etcd_servers.is_empty() => {
            let client = pki.pair("apiserver-etcd-client");
            args.extend([
                flag("store", "etcd"),
                flag("etcd-servers", format!("https://127.0.0.1:{}", spec.etcd_port)),
                flag("etcd-cafile", pki.pair("etcd-ca").cert.display()),
                flag("etcd-certfile", client.cert.display()),
                flag("etcd-keyfile", client.key.display()),
            ]);
        }
        Store::Etcd => args.extend([flag("store", "etcd"), flag("etcd-servers", spec.etcd_servers.join(","))]),
    }
    args
}

fn controller_manager(cluster: &Cluster) -> Vec<String> {
    vec![
        flag("kubeconfig", cluster.component_kubeconfig("controller-manager").display()),
        flag("root-ca-file", cluster.pki().ca().display()),
        flag("service-account-private-key-file", cluster.pki().service_account_key().display()),
        flag("cluster-cidr", &cluster.spec.pod_cidr),
        flag("controllers", cluster.spec.controllers.join(",")),
        // There is one of each: a lease would only keep a restarted one waiting for its predecessor's.
        flag("leader-elect", false),
    ]
}

fn scheduler(cluster: &Cluster) -> Vec<String> {
    vec![
        flag("kubeconfig", cluster.component_kubeconfig("scheduler").display()),
        flag("leader-elect", false),
        flag("secure-port", 0),
    ]
}

fn kubelet(cluster: &Cluster, node: &NodeSpec) -> Vec<String> {
    let server = cluster.pki().node_server(&node.name);
    let dir = cluster.node_dir(&node.name);
    vec![
        flag("kubeconfig", cluster.component_kubeconfig(&format!("node-{}", node.name)).display()),
        flag("hostname-override", &node.name),
        flag("port", node.kubelet_port),
        flag("eviction-hard", EVICTION_HARD),
        flag("root-dir", dir.join("kubelet").display()),
        flag("tls-cert-file", server.cert.display()),
        flag("tls-private-key-file", server.key.display()),
        flag("client-ca-file", cluster.pki().ca().display()),
        flag("cluster-domain", CLUSTER_DOMAIN),
        // Services are the same on every node of this machine: one proxy serves them all.
        flag("service-proxy", cluster.spec.runtime == Runtime::Linux && cluster.spec.nodes.first() == Some(node)),
        flag("runtime", runtime_name(cluster.spec.runtime)),
        flag("runtime-root", dir.join("runtime").display()),
        flag("container-runtime-endpoint", format!("unix://{}", cluster.runtime_socket(&node.name).display())),
    ]
}

fn runtime_name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Auto => "auto",
        Runtime::Linux => "linux",
        Runtime::Simulated => "simulated",
    }
}

/// The addresses that serving certificates must name.
pub fn serving_addresses(service_cidr: &str) -> Vec<IpAddr> {
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), process::reachable_address(Ipv4Addr::UNSPECIFIED.into())];
    if let Some(IpAddr::V4(base)) = service_cidr.split('/').next().and_then(|base| base.parse().ok()) {
        addresses.push(IpAddr::V4((u32::from(base) + 1).into()));
    }
    addresses.dedup();
    addresses
}
