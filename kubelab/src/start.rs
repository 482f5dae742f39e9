//! `kubelab start`: makes or continues a cluster, and returns when it is usable.
//!
//! Invariant: on failure every process that this run started is stopped again, and a folder that this run made is removed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use process::Clock;
use tokio::time::Instant;

use crate::cluster::{self, Cluster, NodeSpec, Runtime, Spec, Store};
use crate::components::{self, Component};
use crate::progress::Progress;
use crate::{kubeconfig, launch, pki, ready, stop};

/// Where Kubernetes' API server usually listens.
const DEFAULT_PORT: u16 = 6443;
/// Where kubelets usually listen.
const KUBELET_PORT: u16 = 10250;
/// Second octets tried for the pod network (10.N.0.0/16); services use 10.(N-148).0.0/16, so that the first pair is upstream's usual one.
const POD_OCTETS: std::ops::RangeInclusive<u8> = 244..=254;
/// Difference between the pod network's and the service network's second octet.
const SERVICE_OFFSET: u8 = 148;

/// What the command line asks for; None keeps what the cluster has.
#[derive(Debug, Default, clap::Args)]
pub struct Request {
    /// Name of the cluster and of its kubeconfig context
    #[arg(long, default_value = "kubelab", env = "KUBELAB_NAME")]
    pub name: String,
    /// Folder of the cluster [default: $KUBELAB_HOME/NAME]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Port of the API server [default: 6443, or the next free one]
    #[arg(long)]
    pub port: Option<u16>,
    /// kubeconfig file that gets the cluster's context [default: as kubectl]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where cluster state is kept [default: embedded]
    #[arg(long, value_enum)]
    pub store: Option<Store>,
    /// etcd to use with --store etcd, instead of one that kubelab runs
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// How containers run [default: auto]
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// Number of nodes [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub nodes: Option<u16>,
    /// Components to leave out: controller-manager, scheduler, kubelet; empty for none
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    pub without: Option<Vec<String>>,
    /// Controllers that run: '*' all, 'foo' that one, '-foo' all but that one [default: *]
    #[arg(long, value_name = "NAME", value_delimiter = ',', allow_hyphen_values = true)]
    pub controllers: Option<Vec<String>>,
    /// Keep an audit log of all changes (audit.log in the cluster's folder)
    #[arg(long)]
    pub audit_log: bool,
}

impl Request {
    /// What `--without` names; `--without ''` takes back an earlier one.
    fn left_out(&self) -> Option<Vec<String>> {
        Some(self.without.as_ref()?.iter().filter(|name| !name.is_empty()).cloned().collect())
    }
}

/// A process that was killed a moment ago has lost its locks, but may hold its port this much longer.
const KILLED_HOLDS_PORT: Duration = Duration::from_millis(500);

/// What this run made, to be taken away if it fails.
struct Begun {
    dir: PathBuf,
    new_dir: bool,
    link: Option<PathBuf>,
    started: Vec<(Component, Child)>,
}

/// Starts the cluster, prints what it does, returns when it can be used.
pub async fn run(request: Request) -> Result<()> {
    check_names(&request)?;
    let progress = Progress::begin();
    let dir = cluster::dir(&request.name, request.data_dir.as_deref())?;
    let mut begun = Begun { new_dir: !dir.join("cluster.json").exists(), dir, link: None, started: vec![] };
    let result = bring_up(&request, &mut begun, &progress).await;
    let took = progress.end();
    match result {
        Ok(cluster) => {
            println!(
                "\nCluster {:?} is ready in {:.2} s: {}",
                cluster.spec.name,
                took.as_secs_f64(),
                cluster.server_url()
            );
            println!("kubectl uses it now (context {:?} in {}).", cluster.spec.name, cluster.spec.kubeconfig.display());
            Ok(())
        }
        Err(error) => {
            begun.take_back().await;
            Err(error)
        }
    }
}

async fn bring_up(request: &Request, begun: &mut Begun, progress: &Progress) -> Result<Cluster> {
    let dir = begun.dir.clone();
    let existed = dir.exists();
    for folder in ["", "run", "logs", "kubeconfig", "nodes"] {
        fs::create_dir_all(dir.join(folder)).with_context(|| unusable(&dir))?;
    }
    begun.new_dir &= !existed || fs::read_dir(&dir).is_ok();
    let _lock = Cluster::lock(&dir)?;
    let dir = fs::canonicalize(&dir)?;
    begun.link = link_by_name(request, &dir)?;

    let mut cluster = match Cluster::read(&dir)? {
        Some(cluster) => changed(cluster, request)?,
        None => Cluster { spec: new_spec(request)?, dir },
    };
    cluster.spec.runtime = choose_runtime(request, &cluster, progress)?;
    check_port(&cluster).await?;
    cluster.save()?;
    cluster.ensure_audit_policy()?;

    let since = Instant::now();
    credentials(&cluster)?;
    progress.done("certificates", since, "");

    start_components(&cluster, begun, progress).await?;
    let spec = &cluster.spec;
    kubeconfig::merge(
        &spec.kubeconfig,
        &spec.name,
        &cluster.server_url(),
        &cluster.pki().ca(),
        &cluster.pki().pair("admin"),
    )?;
    Ok(cluster)
}

/// Processes start together where they can: each waits for what it needs by itself.
async fn start_components(cluster: &Cluster, begun: &mut Begun, progress: &Progress) -> Result<()> {
    let launched_at = Clock::system().now();
    for component in components::of(cluster) {
        if launch::running(cluster, &component.name()).is_none() {
            let child = launch::spawn(cluster, &component)?;
            begun.started.push((component, child));
        }
    }
    let new = begun.started.iter().map(|(component, _)| component.name()).collect();
    let waits = ready::all(cluster, progress, ready::Launched { at: launched_at, components: new });
    tokio::select! {
        biased;
        result = waits => result,
        error = ready::a_process_ended(cluster, &mut begun.started) => Err(error),
    }
}

fn check_names(request: &Request) -> Result<()> {
    let problems = api::names::is_dns1123_label(&request.name);
    if !problems.is_empty() {
        bail!("{:?} can't be a cluster's name: {}", request.name, problems.join("; "));
    }
    for name in request.left_out().into_iter().flatten() {
        if !components::OPTIONAL.contains(&name.as_str()) {
            bail!("--without {name}: that component can't be left out; these can: {}", components::OPTIONAL.join(", "));
        }
    }
    controller_manager::args::check_names(request.controllers.as_deref().unwrap_or_default())?;
    if !request.etcd_servers.is_empty() && request.store != Some(Store::Etcd) {
        bail!("--etcd-servers needs --store etcd");
    }
    Ok(())
}

fn unusable(dir: &Path) -> String {
    format!("can't write to {}; choose another folder with --data-dir", dir.display())
}

/// With `--data-dir`, `$KUBELAB_HOME/NAME` becomes a link to it, so that the name alone finds the cluster later.
fn link_by_name(request: &Request, dir: &Path) -> Result<Option<PathBuf>> {
    if request.data_dir.is_none() {
        return Ok(None);
    }
    let home = cluster::home()?;
    let link = home.join(&request.name);
    if fs::canonicalize(&link).is_ok_and(|target| target == dir) {
        return Ok(None);
    }
    if link.exists() {
        bail!("there is another cluster {:?} in {}; choose another --name", request.name, link.display());
    }
    fs::create_dir_all(&home).with_context(|| unusable(&home))?;
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(dir, &link).with_context(|| unusable(&home))?;
    Ok(Some(link))
}

fn new_spec(request: &Request) -> Result<Spec> {
    let others = others()?;
    let mut taken: Vec<u16> = others.iter().flat_map(ports).collect();
    let port = match request.port {
        Some(port) => port,
        None => free_port(DEFAULT_PORT, &taken)?,
    };
    taken.push(port);
    let (pod_cidr, service_cidr) = free_networks(&others)?;
    let etcd_port = free_port(2379, &taken)?;
    taken.push(etcd_port);
    let etcd_peer_port = free_port(2380, &taken)?;
    let mut spec = Spec {
        name: request.name.clone(),
        port,
        store: request.store.unwrap_or(Store::Embedded),
        etcd_servers: request.etcd_servers.clone(),
        etcd_port,
        etcd_peer_port,
        runtime: Runtime::Auto,
        nodes: vec![],
        without: request.left_out().unwrap_or_default(),
        controllers: request.controllers.clone().unwrap_or_else(cluster::all_controllers),
        audit_log: request.audit_log,
        pod_cidr,
        service_cidr,
        kubeconfig: kubeconfig::users_file(request.kubeconfig.as_deref())?,
    };
    set_nodes(&mut spec, request.nodes.unwrap_or(1), &taken)?;
    Ok(spec)
}

/// Applies flags to a cluster that exists. What its data depends on can't change.
fn changed(mut cluster: Cluster, request: &Request) -> Result<Cluster> {
    let running =
        components::of(&cluster).iter().any(|component| launch::running(&cluster, &component.name()).is_some());
    let spec = &mut cluster.spec;
    if spec.name != request.name {
        bail!("{} holds the cluster {:?}; start it with --name {}", cluster.dir.display(), spec.name, spec.name);
    }
    if request.store.is_some_and(|store| store != spec.store) {
        bail!("cluster {:?} keeps its objects in another store; delete it first, or choose another --name", spec.name);
    }
    let moves = request.port.is_some_and(|port| port != spec.port);
    if moves && running {
        bail!("cluster {:?} runs on port {}; `kubelab stop --name {}` first", spec.name, spec.port, spec.name);
    }
    spec.port = request.port.unwrap_or(spec.port);
    if !request.etcd_servers.is_empty() {
        spec.etcd_servers.clone_from(&request.etcd_servers);
    }
    let controllers = request.controllers.clone().unwrap_or_else(|| spec.controllers.clone());
    if running && (controllers != spec.controllers || request.audit_log && !spec.audit_log) {
        bail!("cluster {:?} runs without these flags; `kubelab stop --name {}` first", spec.name, spec.name);
    }
    spec.controllers = controllers;
    spec.audit_log |= request.audit_log;
    if let Some(without) = request.left_out() {
        spec.without = without;
    }
    if request.kubeconfig.is_some() {
        spec.kubeconfig = kubeconfig::users_file(request.kubeconfig.as_deref())?;
    }
    if let Some(count) = request.nodes {
        if usize::from(count) < spec.nodes.len() {
            bail!("cluster {:?} has {} nodes; `kubectl delete node` takes one away", spec.name, spec.nodes.len());
        }
        let taken: Vec<u16> = others()?.iter().flat_map(ports).chain([spec.port]).collect();
        set_nodes(spec, count, &taken)?;
    }
    Ok(cluster)
}

fn set_nodes(spec: &mut Spec, count: u16, taken: &[u16]) -> Result<()> {
    let mut taken = taken.to_vec();
    taken.extend(spec.nodes.iter().map(|node| node.kubelet_port));
    for index in spec.nodes.len()..usize::from(count) {
        let name = if index == 0 { spec.name.clone() } else { format!("{}-{}", spec.name, index + 1) };
        let kubelet_port = free_port(KUBELET_PORT, &taken)?;
        taken.push(kubelet_port);
        spec.nodes.push(NodeSpec { name, kubelet_port });
    }
    Ok(())
}

fn others() -> Result<Vec<Spec>> {
    let home = cluster::home()?;
    let read = |name: String| Cluster::read(&home.join(name)).ok().flatten().map(|cluster| cluster.spec);
    Ok(cluster::names()?.into_iter().filter_map(read).collect())
}

fn ports(spec: &Spec) -> Vec<u16> {
    let nodes = spec.nodes.iter().map(|node| node.kubelet_port);
    nodes.chain([spec.port, spec.etcd_port, spec.etcd_peer_port]).collect()
}

/// The first free port from `first` on.
fn free_port(first: u16, taken: &[u16]) -> Result<u16> {
    let candidates = first..first.saturating_add(1000);
    let free = |port: &u16| !taken.contains(port) && is_free(*port);
    candidates.clone().find(free).with_context(|| format!("no port from {first} to {} is free", candidates.end))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

async fn check_port(cluster: &Cluster) -> Result<()> {
    let port = cluster.spec.port;
    if launch::running(cluster, "apiserver").is_some() {
        return Ok(());
    }
    let since = Instant::now();
    while since.elapsed() < KILLED_HOLDS_PORT {
        if is_free(port) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if port < 1024 && !nix::unistd::geteuid().is_root() {
        bail!("port {port} needs root; choose one from 1024 on with --port");
    }
    bail!("port {port} is in use by another program; stop it or choose another port with --port")
}

/// A pair of networks that neither another cluster nor this machine's routes use.
fn free_networks(others: &[Spec]) -> Result<(String, String)> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routed = |second: u8| {
        // /proc/net/route holds the destination as little-endian hex.
        let destination = format!("{:08X}", u32::from_le_bytes([10, second, 0, 0]) & 0xFFFF);
        routes
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .any(|route| route.ends_with(&destination[4..]))
    };
    for pods in POD_OCTETS {
        let services = pods - SERVICE_OFFSET;
        let pair = (format!("10.{pods}.0.0/16"), format!("10.{services}.0.0/16"));
        let used = others.iter().any(|other| other.pod_cidr == pair.0 || other.service_cidr == pair.1);
        if !used && !routed(pods) && !routed(services) {
            return Ok(pair);
        }
    }
    bail!("no free pod network is left in 10.244.0.0/16 to 10.254.0.0/16; delete a cluster you don't need")
}

/// Asks the machine what it can run, once, and says what was chosen and why.
fn choose_runtime(request: &Request, cluster: &Cluster, progress: &Progress) -> Result<Runtime> {
    let wanted = request.runtime.unwrap_or(cluster.spec.runtime);
    if cluster.spec.without.iter().any(|component| component == "kubelet") {
        return Ok(wanted);
    }
    let can_run = runtime::detect();
    let real = can_run.runtime == runtime::Kind::Linux;
    match (wanted, real) {
        (Runtime::Simulated, _) => progress.line("  runtime simulated: containers are scripted, no process runs"),
        (Runtime::Linux, false) => {
            bail!("this machine can't run real containers: {}; use --runtime simulated", can_run.why)
        }
        (Runtime::Auto, false) => progress.line(&format!("  runtime simulated: {}", can_run.why)),
        (_, true) => progress.line(&format!("  runtime linux: {}", can_run.why)),
    }
    Ok(if wanted == Runtime::Simulated || !real { Runtime::Simulated } else { Runtime::Linux })
}

/// Certificates and kubeconfigs of all identities.
fn credentials(cluster: &Cluster) -> Result<()> {
    let spec = &cluster.spec;
    let nodes: Vec<String> = spec.nodes.iter().map(|node| node.name.clone()).collect();
    let pki = cluster.pki();
    pki::ensure(&pki, &components::serving_addresses(&spec.service_cidr), &nodes, components::runs_etcd(cluster))?;
    let mut identities: Vec<(String, pki::Pair)> =
        ["admin", "controller-manager", "scheduler"].map(|name| (name.to_owned(), pki.pair(name))).to_vec();
    identities.extend(nodes.iter().map(|node| (format!("node-{node}"), pki.node_client(node))));
    for (name, pair) in identities {
        kubeconfig::write(&cluster.component_kubeconfig(&name), &spec.name, &cluster.server_url(), &pki.ca(), &pair)?;
    }
    for node in &nodes {
        fs::create_dir_all(cluster.node_dir(node)).with_context(|| unusable(&cluster.dir))?;
    }
    Ok(())
}

impl Begun {
    /// Stops what was started, removes what was made.
    async fn take_back(mut self) {
        let cluster = Cluster::read(&self.dir).ok().flatten();
        for (_, child) in self.started.iter_mut().rev() {
            let _ = child.try_wait();
        }
        if let Some(cluster) = cluster {
            let started: Vec<Component> = self.started.iter().map(|(component, _)| component.clone()).collect();
            let reaper = std::mem::take(&mut self.started);
            stop::components(&cluster, &started, reaper).await;
            if self.new_dir {
                stop::containers(&cluster).await;
            }
        }
        if self.new_dir {
            let _ = fs::remove_dir_all(&self.dir);
        }
        if let Some(link) = self.link {
            let _ = fs::remove_file(link);
        }
    }
}
