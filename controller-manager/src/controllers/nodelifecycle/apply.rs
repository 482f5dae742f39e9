//! Writes what was planned for a node: its conditions, its taints, and the readiness of its pods.

use api::ObjectKey;
use client::recorder::reference;
use client::{Error, EventType};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::Patch;
use serde_json::json;

use super::NodeLifecycle;
use super::plan::Plan;
use crate::context::{patching, writing};
use crate::stores::BY_NODE;

/// How many pods of a lost node are written at once.
const PODS_IN_FLIGHT: usize = 20;

impl NodeLifecycle {
    pub(super) async fn apply(&self, key: &ObjectKey, node: &Node, plan: Plan) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let mut version = node.metadata.resource_version.clone();
        if let Some(conditions) = plan.conditions {
            let mut wanted = node.clone();
            wanted.status.get_or_insert_default().conditions = Some(conditions);
            match api.replace_status(&key.name, &writing(), &wanted).await.map_err(Error::from) {
                Ok(new) => {
                    self.written.object(key, &self.stores.nodes, &new);
                    version = new.metadata.resource_version;
                }
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(self.written.failed(key, &self.stores.nodes, error)),
            }
        }
        if let Some(taints) = plan.taints {
            let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            match api.patch(&key.name, &patching(), &Patch::Merge(patch)).await.map_err(Error::from) {
                Ok(new) => self.written.object(key, &self.stores.nodes, &new),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(self.written.failed(key, &self.stores.nodes, error)),
            }
        }
        if plan.became_not_ready {
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            self.recorder.event(&reference(node), EventType::Normal, "NodeNotReady", message);
        }
        if plan.pods_not_ready { self.unready_pods(key).await } else { Ok(()) }
    }

    async fn unready_pods(&self, key: &ObjectKey) -> Result<(), Error> {
        let pods: Vec<_> = self.stores.pods.by_index(BY_NODE, &key.name);
        let writes: Vec<_> = pods
            .into_iter()
            .filter(|pod| api::pods::is_ready(pod))
            .map(|pod| async move { self.unready(key, &pod).await })
            .collect();
        let results: Vec<Result<(), Error>> = stream::iter(writes).buffered(PODS_IN_FLIGHT).collect().await;
        results.into_iter().collect()
    }

    async fn unready(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        let pod_key = ObjectKey::of(&pod.metadata);
        self.recorder.event(&reference(pod), EventType::Warning, "NodeNotReady", "Node is not ready");
        let condition =
            json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(self.clock.now_seconds())});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod_key.namespace());
        match api.patch_status(&pod_key.name, &patching(), &Patch::Strategic(patch)).await.map_err(Error::from) {
            Ok(new) => self.written.object(key, &self.stores.pods, &new),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.pods, error)),
        }
        Ok(())
    }
}
