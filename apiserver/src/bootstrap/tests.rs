//! A server on an empty store makes a cluster of it; another start changes nothing.

use super::*;
use crate::args::Config;
use crate::storage::Storage;
use crate::storage::memory::Memory;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::jiff::Timestamp;
use process::{Clock, Rng};

struct Running {
    server: Arc<ApiServer>,
    token: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

async fn start(storage: &Arc<Memory>, last: u8) -> Running {
    let clock = Clock::starting_at(Timestamp::from_second(1_700_000_000).unwrap());
    let config = Config { advertise_address: std::net::IpAddr::from([10, 0, 0, last]), ..Config::for_tests() };
    let server = ApiServer::build(config, storage.clone(), clock, Rng::seeded(1)).expect("a server");
    let token = CancellationToken::new();
    let tasks = server.start(&token).await.expect("started");
    Running { server, token, tasks }
}

impl Running {
    async fn stop(mut self) {
        self.token.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    async fn writer(&self) -> Writer {
        self.server.cache.fresh().await.expect("fresh");
        Writer::new(&self.server)
    }

    async fn endpoints(&self) -> Vec<String> {
        let found = self.writer().await.get::<Endpoints>("default", "kubernetes").expect("endpoints");
        let addresses = found.subsets.into_iter().flatten().flat_map(|subset| subset.addresses.unwrap_or_default());
        addresses.map(|address| address.ip).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_begins_with_what_clients_wait_for() {
    let storage = Arc::new(Memory::new());
    let running = start(&storage, 1).await;
    let writer = running.writer().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert!(writer.get::<Namespace>("", name).is_some(), "{name}");
    }
    let service = writer.get::<Service>("default", "kubernetes").and_then(|service| service.spec).expect("the service");
    assert_eq!(service.cluster_ip.as_deref(), Some("10.96.0.1"));
    assert!(writer.get::<EndpointSlice>("default", "kubernetes").is_some());
    assert_eq!(running.endpoints().await, ["10.0.0.1"]);
    let rules = |name: &str| writer.get::<ClusterRole>("", name).and_then(|role| role.rules).unwrap_or_default().len();
    assert!(rules("view") > 0 && rules("view") < rules("edit") && rules("edit") < rules("admin"));
    assert!(writer.get::<ClusterRoleBinding>("", "cluster-admin").is_some());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_start_writes_only_its_lease() {
    let storage = Arc::new(Memory::new());
    start(&storage, 1).await.stop().await;
    let before = storage.revision().await.expect("a revision");
    start(&storage, 1).await.stop().await;
    let after = storage.revision().await.expect("a revision");
    assert_eq!(after.0 - before.0, 2, "the lease comes and goes");
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_the_live_servers() {
    let storage = Arc::new(Memory::new());
    let (one, two) = (start(&storage, 1).await, start(&storage, 2).await);
    assert_eq!(two.endpoints().await, ["10.0.0.1", "10.0.0.2"]);
    two.stop().await;
    assert_eq!(one.endpoints().await, ["10.0.0.1"]);
    let three = start(&storage, 3).await;
    assert_eq!(one.endpoints().await, ["10.0.0.1", "10.0.0.3"]);
    // As if it had crashed: its key is not taken back, and expires.
    let Running { tasks, .. } = three;
    drop(tasks);
    tokio::time::sleep(endpoints::INTERVAL * 3).await;
    assert_eq!(one.endpoints().await, ["10.0.0.1"]);
    one.stop().await;
}

#[tokio::test(start_paused = true)]
async fn new_parts_reach_the_roles_they_are_for() {
    let storage = Arc::new(Memory::new());
    let running = start(&storage, 1).await;
    let part = serde_json::json!({
        "metadata": {"name": "part", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"nonResourceURLs": ["/part"], "verbs": ["get"]}],
    });
    running.writer().await.create::<ClusterRole>(serde_json::from_value(part).expect("a role")).await.expect("created");
    let has = |role: Option<ClusterRole>| {
        role.and_then(|role| role.rules).into_iter().flatten().any(|rule| rule.non_resource_urls.is_some())
    };
    let arrived = async {
        while !has(running.writer().await.get("", "admin")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), arrived).await.expect("admin has the rule too");
    running.stop().await;
}
