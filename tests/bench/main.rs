//! The benchmark: what a cluster costs and how fast it answers.
//!
//! Without `--kubeconfig` it starts clusters of its own with the `kubelab` of the same build; with it, it measures that cluster's API
//! server (its objects are made in namespaces of their own, which are deleted again). Every figure is printed with its unit; loads are bounded.

mod api_load;
mod figures;
mod pods;
mod replicas;
mod startup;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tests::cluster::Cluster;

/// Measures start-up, latency, throughput, memory and idle cost.
#[derive(Debug, Parser)]
struct Args {
    /// Measure this cluster instead of starting some
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Process of the API server of that cluster (and further ones, as etcd), for CPU per request
    #[arg(long, value_delimiter = ',')]
    pids: Vec<i32>,
    /// Only these: startup, usage, api, pods, replicas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Objects of the API load
    #[arg(long, default_value_t = 2000)]
    objects: usize,
    /// Clients at a time of the API load
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Pods of the lists
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Pods of the ReplicationController
    #[arg(long, default_value_t = 1000)]
    replicas: usize,
    /// Simulated nodes for them
    #[arg(long, default_value_t = 50)]
    nodes: usize,
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!("{}", usage::machine());
    match &args.kubeconfig {
        Some(kubeconfig) => measure(&args, kubeconfig.clone(), &args.pids),
        None => {
            if args.wants("startup") {
                startup::measure()?;
            }
            for store in ["embedded", "etcd"] {
                println!("\n== store {store}");
                own_cluster(&args, store)?;
            }
            Ok(())
        }
    }
}

fn own_cluster(args: &Args, store: &str) -> Result<()> {
    if args.wants("usage") {
        let cluster = Cluster::start(&["--store", store]);
        usage::idle(&cluster);
        startup::replacement(&cluster)?;
    }
    if ["api", "pods", "replicas"].iter().any(|part| args.wants(part)) {
        let cluster = Cluster::start(&["--store", store, "--without", "kubelet"]);
        let pids: Vec<i32> = usage::processes(&cluster)
            .into_iter()
            .filter(|(name, _)| name == "apiserver" || name == "etcd")
            .map(|(_, pid)| pid)
            .collect();
        measure(args, cluster.kubeconfig(), &pids)?;
    }
    Ok(())
}

/// What can be measured of any cluster.
fn measure(args: &Args, kubeconfig: PathBuf, pids: &[i32]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client::kube_client(&kubeconfig, "bench").await?;
        if args.wants("api") {
            api_load::measure(&client, args.objects, args.clients, pids).await?;
        }
        if args.wants("pods") {
            pods::measure(&client, args.pods, args.clients, pids).await?;
        }
        if args.wants("replicas") {
            replicas::measure(&client, args.replicas, args.nodes, pids).await?;
        }
        Ok(())
    })
}
