//! The whole cluster in one thread on virtual time: it converges, a node dies, five minutes pass, pods move; same seed, same history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{Api, ListParams, PostParams};
use nix::sys::resource::{UsageWho, getrusage};
use tests::simulation::{self, Simulation};

const REPLICAS: usize = 50;
const NODES: usize = 5;

fn controller() -> ReplicationController {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": REPLICAS, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]}}},
    }))
    .unwrap()
}

/// The nodes of all ready pods; None unless there are exactly as many as wanted.
async fn spread(client: &kube::Client) -> Option<Vec<String>> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let all = pods.list(&ListParams::default().labels("app=web")).await.unwrap().items;
    let active: Vec<&Pod> = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    let ready = active.iter().filter(|pod| api::pods::is_ready(pod)).count();
    let nodes = active.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    (active.len() == REPLICAS && ready == REPLICAS).then_some(nodes)
}

/// A ReplicationController is created, and all its pods are ready.
async fn converge(simulation: &mut Simulation) {
    let controllers: Api<ReplicationController> = Api::default_namespaced(simulation.client.clone());
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::default_namespaced(simulation.client.clone());
    simulation
        .until("the default account", Duration::from_secs(10), async |_| {
            accounts.get_opt("default").await.unwrap().is_some()
        })
        .await;
    controllers.create(&PostParams::default(), &controller()).await.unwrap();
    simulation.until("all pods ready", Duration::from_secs(30), async |client| spread(client).await.is_some()).await;
}

/// A node dies, and its pods move after their five minutes.
async fn node_failure(simulation: &mut Simulation) -> Vec<String> {
    converge(simulation).await;
    let nodes: BTreeSet<String> = spread(&simulation.client).await.unwrap().into_iter().collect();
    assert_eq!(nodes.len(), NODES, "the pods are spread");

    simulation.kill_node("node-00");
    let died = simulation.now();
    simulation
        .until("the pods of the dead node elsewhere", Duration::from_secs(600), async |client| {
            spread(client).await.is_some_and(|nodes| !nodes.contains(&"node-00".to_owned()))
        })
        .await;
    let passed = simulation.now().duration_since(died).as_secs();
    assert!(
        (300..420).contains(&passed),
        "pods stay for their toleration of 300 s after the grace period, and no longer: {passed} s"
    );
    simulation.history()
}

/// What this thread has computed so far: real time as it would be without other programs beside the test.
fn computed() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the thread's usage");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 1000 * u32::try_from(time.tv_usec()).unwrap_or_default())
    };
    time(usage.user_time()) + time(usage.system_time())
}

#[test]
fn one_seed_gives_one_history() {
    let (begun, before) = (Instant::now(), computed());
    let first = simulation::run(7, NODES, node_failure);
    let took = computed() - before;
    println!("{} revisions, {:?} of real time, {took:?} computed", first.len(), begun.elapsed());
    assert!(first.len() > 4 * REPLICAS, "{} revisions", first.len());
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 2 }), "{took:?}");
    for run in 1..20 {
        let again = simulation::run(7, NODES, node_failure);
        let differing = first.iter().zip(&again).position(|(one, other)| one != other);
        if let Some(index) = differing {
            panic!("run {run} differs at {index}:\n{}\n{}", first[index], again[index]);
        }
        assert_eq!(first.len(), again.len());
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(simulation::run(1, NODES, node_failure), simulation::run(2, NODES, node_failure));
}

#[test]
fn a_pod_is_started_in_four_writes() {
    let writes = simulation::run(3, NODES, async |simulation: &mut Simulation| {
        converge(simulation).await;
        let mut writes = BTreeMap::<String, usize>::new();
        for line in simulation.history() {
            let key = line.split(' ').nth(1).unwrap_or_default();
            if key.starts_with("/registry/pods/default/web-") {
                *writes.entry(key.to_owned()).or_default() += 1;
            }
        }
        writes
    });
    assert_eq!(writes.len(), REPLICAS);
    // Created, bound, what is being started, started.
    assert!(writes.values().all(|count| (3..=4).contains(count)), "{writes:?}");
}
