//! Two allocators on one store give nothing twice.

use super::*;
use crate::storage::memory::Memory;
use crate::storage::{Expect, Write};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

struct Pair {
    storage: Arc<Memory>,
    servers: [Services; 2],
}

fn pair(range: &str, ports: RangeInclusive<u16>) -> Pair {
    let storage = Arc::new(Memory::new());
    let clock = Clock::starting_at(Timestamp::from_second(1_700_000_000).unwrap());
    let server = |seed| Services::new(storage.clone(), clock, Rng::seeded(seed), range.parse().unwrap(), ports.clone());
    Pair { servers: [server(7), server(7)], storage }
}

impl Services {
    /// Claims as a write would, without the rest of it.
    async fn fill_for_test(&self, name: &str, spec: Value, old: Option<&Service>) -> Result<(Service, Taken), String> {
        let owner = Owner { namespace: "n".to_owned(), name: name.to_owned() };
        let held = old.map(slots_of).unwrap_or_default();
        let mut service: Service =
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).unwrap();
        let ranges = Ranges::of(&[], self.addresses);
        let mut taking =
            Taking { services: self, owner: owner.clone(), held, taken: Vec::new(), ranges, dry_run: false };
        let before = old.and_then(|old| old.spec.as_ref());
        let filled = self.fill(service.spec.as_mut().unwrap(), before, name, &mut taking).await;
        let wanted = slots_of(&service);
        let given_up = taking.held.into_iter().filter(|slot| !wanted.contains(slot)).collect();
        let taken = Taken { book: Arc::clone(&self.book), taken: taking.taken, owner, given_up };
        match filled {
            Ok(()) => Ok((service, taken)),
            Err(error) => {
                Box::new(taken).settle(false).await;
                Err(error.message)
            }
        }
    }
}

impl Pair {
    async fn store(&self, service: &Service) {
        let key = format!("/registry/services/n/{}", service.metadata.name.as_deref().unwrap());
        let value = serde_json::to_vec(service).unwrap().into();
        self.storage.commit(&key, Expect::Absent, Write::Put { value, ttl: None }).await.expect("stored");
    }
}

#[tokio::test(start_paused = true)]
async fn two_servers_share_one_range() {
    let pair = pair("10.0.0.0/28", 30000..=30001);
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..14 {
        let name = format!("s{i}");
        let (service, taken) = pair.servers[i % 2]
            .fill_for_test(&name, json!({"type": "ClusterIP", "ports": [{"port": 80}]}), None)
            .await
            .expect("an address");
        pair.store(&service).await;
        Box::new(taken).settle(true).await;
        assert!(seen.insert(service.spec.unwrap().cluster_ip.unwrap()));
    }
    let full = pair.servers[0].fill_for_test("x", json!({"type": "ClusterIP"}), None).await.err();
    assert!(full.is_some_and(|message| message.ends_with("failed to allocate a serviceIP: range is full")));
}

#[tokio::test(start_paused = true)]
async fn refusals_read_as_upstreams() {
    let pair = pair("10.96.0.0/16", 30000..=32767);
    let taken = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 1, "nodePort": 30001}]});
    let (service, settled) = pair.servers[0].fill_for_test("a", taken, None).await.expect("free");
    pair.store(&service).await;
    Box::new(settled).settle(true).await;
    let ip = |ip: &str| json!({"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]});
    let port = |port: i32| json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1, "nodePort": port}]});
    let table = [
        (
            ip("10.96.0.9"),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: failed to allocate IP 10.96.0.9: provided IP is already allocated",
        ),
        (
            ip("8.8.8.8"),
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"8.8.8.8\"]: failed to allocate IP 8.8.8.8: the provided network does not match the current range",
        ),
        (
            port(30001),
            "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"],
                "ports": [{"port": 1, "nodePort": 30010}, {"port": 2, "protocol": "UDP", "nodePort": 30010}]}),
            "Service \"x\" is invalid: spec.ports[1].nodePort: Invalid value: 30010: provided port is already allocated",
        ),
        (
            port(80),
            "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ];
    for (spec, message) in table {
        assert_eq!(pair.servers[1].fill_for_test("x", spec, None).await.err().as_deref(), Some(message));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_free_and_what_a_crash_left_is_free_later() {
    let pair = pair("10.96.0.0/16", 30000..=32767);
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 1, "nodePort": 30001}]});
    let server = &pair.servers[0];
    let (service, failed) = server.fill_for_test("a", spec.clone(), None).await.expect("free");
    Box::new(failed).settle(false).await;
    let (_, lost) = server.fill_for_test("a", spec.clone(), None).await.expect("free again");
    drop(lost);
    assert!(server.fill_for_test("b", spec.clone(), None).await.is_err(), "maybe somebody is about to store it");
    tokio::time::advance(STALE_AFTER + std::time::Duration::from_secs(1)).await;
    let (other, kept) = server.fill_for_test("b", spec.clone(), None).await.expect("the crash is over");
    pair.store(&other).await;
    Box::new(kept).settle(true).await;
    tokio::time::advance(STALE_AFTER * 2).await;
    assert!(server.fill_for_test("c", spec, None).await.is_err(), "b has it");
    let changed = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]});
    let (_, smaller) = server.fill_for_test("b", changed, Some(&other)).await.expect("b keeps its address");
    Box::new(smaller).settle(true).await;
    assert_eq!(slots_of(&service).len(), 2);
    let port = json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1, "nodePort": 30001}]});
    assert!(server.fill_for_test("d", port, None).await.is_ok(), "the port is free");
}

#[tokio::test(start_paused = true)]
async fn every_type_gets_what_it_needs() {
    let pair = pair("10.96.0.0/16", 30000..=32767);
    let table = [
        (json!({"type": "ClusterIP", "ports": [{"port": 1}]}), true, 0),
        (json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}]}), false, 0),
        (json!({"type": "ExternalName", "externalName": "x"}), false, 0),
        (json!({"type": "NodePort", "ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}]}), true, 2),
        (json!({"type": "LoadBalancer", "ports": [{"port": 1}]}), true, 1),
        (json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}), true, 0),
        (json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]}), true, 2),
        (
            json!({"type": "NodePort", "ports": [{"port": 1, "protocol": "TCP"}, {"port": 1, "protocol": "UDP", "nodePort": 30010}]}),
            true,
            1,
        ),
    ];
    for (i, (spec, address, ports)) in table.into_iter().enumerate() {
        let (service, _) = pair.servers[0].fill_for_test(&format!("s{i}"), spec.clone(), None).await.expect("filled");
        let slots = slots_of(&service);
        let addresses = slots.iter().filter(|slot| matches!(slot, Slot::Address(_))).count();
        assert_eq!((addresses == 1, slots.len() - addresses), (address, ports), "{spec}");
    }
}
