//! Everything the scheduler writes to the API: bindings, why a pod waits, and who has to go for it.
//!
//! Invariant: nothing else in this crate writes. Each write names the uid it means, so a pod of the same name that was
//! created meanwhile is never touched.

use std::sync::Arc;

use api::pods;
use client::{Error, EventType, Progress, Recorder, recorder};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status, Time};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use process::Clock;
use serde_json::{Value, json};

use crate::node_info::PodInfo;
use crate::queue::Attempt;

/// Where and how to write; clones share the connection.
#[derive(Clone)]
pub struct Writer {
    /// The API.
    pub client: kube::Client,
    /// Events.
    pub recorder: Recorder,
    /// The time of conditions.
    pub clock: Clock,
    /// The pods that the scheduler sees.
    pub pods: Progress,
}

/// A write that has come to its end.
pub enum Finished {
    /// The pod is bound.
    Bound,
    /// It is not: the placement must be undone.
    NotBound(Box<Attempt>),
    /// It was said why the pod waits.
    Reported,
}

impl Writer {
    /// Binds the pod to the node.
    pub async fn bind(self, attempt: Attempt, node: String) -> Finished {
        let pod = attempt.pod.pod.clone();
        let metadata = ObjectMeta {
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        };
        let target =
            ObjectReference { kind: Some("Node".to_owned()), name: Some(node.clone()), ..ObjectReference::default() };
        let binding = Binding { metadata, target };
        let name = &attempt.pod.key.name;
        let bound: Result<Status, _> =
            self.api(&attempt.pod).create_subresource("binding", name, &PostParams::default(), &binding).await;
        match bound.map_err(Error::from) {
            Ok(_) => {
                tracing::info!(pod = %attempt.pod.key, %node, "scheduled");
                let message = format!("Successfully assigned {} to {node}", attempt.pod.key);
                self.record(&pod, EventType::Normal, "Scheduled", "Binding", message);
                Finished::Bound
            }
            Err(error) => {
                self.binding_failed(&attempt.pod, &error).await;
                Finished::NotBound(Box::new(attempt))
            }
        }
    }

    async fn binding_failed(&self, pod: &PodInfo, error: &Error) {
        if error.is_outcome_unknown() {
            // Until the store shows what became of it, the placement stays counted.
            self.pods.relisted().await;
        }
        if error.is_not_found() || error.is_conflict() {
            tracing::debug!(pod = %pod.key, %error, "the pod is gone or bound by somebody else");
            return;
        }
        tracing::warn!(pod = %pod.key, %error, "binding failed");
        let message = format!("binding rejected: {error}");
        self.record(&pod.pod, EventType::Warning, "FailedScheduling", "Scheduling", message);
    }

    /// Says in the pod's condition and in an event why it waits, and which node it waits for.
    pub async fn report(self, pod: PodInfo, message: String, nominated: Option<String>) -> Finished {
        self.record(&pod.pod, EventType::Warning, "FailedScheduling", "Scheduling", message.clone());
        if let Some(change) = status_change(&pod.pod, &message, nominated.as_deref(), self.clock) {
            self.patch_status(&pod, change).await;
        }
        Finished::Reported
    }

    /// Makes room on the node: says so, deletes the victims, and then reports.
    pub async fn displace(self, pod: PodInfo, message: String, node: String, victims: Vec<Arc<PodInfo>>) -> Finished {
        for victim in victims {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", scheduler_name(&pod.pod)),
                "lastTransitionTime": Time(self.clock.now_seconds()),
            });
            self.patch_status(&victim, json!({"conditions": [condition]})).await;
            let preconditions = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match self.api(&victim).delete(&victim.key.name, &params).await.map_err(Error::from) {
                Ok(_) => {
                    tracing::info!(victim = %victim.key, pod = %pod.key, %node, "preempted");
                    let message = format!("Preempted by pod {} on node {node}", pod.uid);
                    self.record(&victim.pod, EventType::Normal, "Preempted", "Preempting", message);
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => tracing::warn!(victim = %victim.key, %error, "preemption failed"),
            }
        }
        self.report(pod, message, Some(node)).await
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
        let patched =
            self.api(pod).patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        match patched.map_err(Error::from) {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => tracing::warn!(pod = %pod.key, %error, "the pod's status could not be written"),
        }
    }

    fn record(&self, pod: &Pod, event_type: EventType, reason: &str, action: &str, message: String) {
        self.recorder.event_of_action(&recorder::reference(pod), event_type, reason, action, message);
    }

    fn api(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.namespace())
    }
}

/// The scheduler that a pod wants.
pub fn scheduler_name(pod: &Pod) -> &str {
    let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    name.filter(|name| !name.is_empty()).unwrap_or(api::well_known::DEFAULT_SCHEDULER)
}

/// What must change in the status so that it says why the pod waits; nothing if it says so already.
fn status_change(pod: &Pod, message: &str, nominated: Option<&str>, clock: Clock) -> Option<Value> {
    let old = pods::condition(pod, "PodScheduled");
    let said = |text: &Option<String>, wanted: &str| text.as_deref() == Some(wanted);
    let same =
        old.is_some_and(|c| c.status == "False" && said(&c.reason, "Unschedulable") && said(&c.message, message));
    let old_nominated = pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).filter(|n| !n.is_empty());
    if same && old_nominated == nominated {
        return None;
    }
    let since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let mut change = json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastProbeTime": null, "lastTransitionTime": since.unwrap_or_else(|| Time(clock.now_seconds())),
        "observedGeneration": pod.metadata.generation,
    }]});
    if old_nominated != nominated {
        change["nominatedNodeName"] = json!(nominated);
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    #[tokio::test(start_paused = true)]
    async fn the_status_is_written_only_if_it_says_something_new() {
        let clock = Clock::starting_at(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let plain = pod("p").build();
        let change = status_change(&plain, "why", Some("n1"), clock).expect("nothing said yet");
        assert_eq!(change["conditions"][0]["lastTransitionTime"], json!("1970-01-01T00:00:00Z"));
        assert_eq!(change["nominatedNodeName"], json!("n1"));
        let mut said = Arc::unwrap_or_clone(plain);
        said.status = Some(serde_json::from_value(change).expect("a status"));
        assert_eq!(status_change(&said, "why", Some("n1"), clock), None);
        let withdrawn = status_change(&said, "why", None, clock).expect("no longer nominated");
        assert_eq!(withdrawn["nominatedNodeName"], Value::Null);
    }
}
