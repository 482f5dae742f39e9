//! Pods and nodes for the tables of the tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

pub(crate) struct PodFixture(Value);

pub(crate) fn pod(name: &str) -> PodFixture {
    PodFixture(json!({
        "metadata": {"namespace": "default", "name": name, "uid": name, "labels": {}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {}}}]},
    }))
}

impl PodFixture {
    pub(crate) fn cpu(mut self, cpu: &str) -> Self {
        self.0["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
        self
    }

    pub(crate) fn port(mut self, port: i32) -> Self {
        self.0["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "hostPort": port}]);
        self
    }

    pub(crate) fn owner(mut self, uid: &str) -> Self {
        self.0["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ReplicationController",
            "name": uid, "uid": uid, "controller": true}]);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        self.spec("priority", json!(priority))
    }

    pub(crate) fn spec(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    pub(crate) fn build(self) -> Arc<Pod> {
        Arc::new(serde_json::from_value(self.0).expect("a pod"))
    }

    pub(crate) fn info(self) -> crate::node_info::PodInfo {
        crate::node_info::PodInfo::new(self.build())
    }
}

pub(crate) struct NodeFixture(Value);

pub(crate) fn node(name: &str) -> NodeFixture {
    NodeFixture(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": []},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    }))
}

impl NodeFixture {
    pub(crate) fn allocatable(mut self, name: &str, amount: &str) -> Self {
        self.0["status"]["allocatable"][name] = json!(amount);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taints = self.0["spec"]["taints"].as_array_mut().expect("a list");
        taints.push(json!({"key": key, "value": value, "effect": effect}));
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.0["spec"]["unschedulable"] = json!(true);
        self
    }

    pub(crate) fn build(self) -> Arc<Node> {
        Arc::new(serde_json::from_value(self.0).expect("a node"))
    }
}
