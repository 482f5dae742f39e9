//! What all parts of one kubelet share.
//!
//! Entry: [`Shared`]. Invariant: no lock in it is held across an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::{ObjectKey, Quantity};
use client::{Recorder, Store};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use process::{Clock, Rng};

use crate::config::KubeletConfig;
use crate::downward::NodeFacts;
use crate::members::Member;
use crate::pod_workers::Workers;
use crate::references::References;
use crate::runtime::Runtime;
use crate::status_writer::StatusWriter;
use crate::volumes::Volumes;

/// The node as its kubelet knows it.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    pub facts: NodeFacts,
    pub labels: BTreeMap<String, String>,
    pub memory: i64,
}

/// Everything that pods' workers work with.
pub struct Shared {
    pub config: KubeletConfig,
    pub client: kube::Client,
    pub runtime: Runtime,
    pub clock: Clock,
    pub recorder: Recorder,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub volumes: Volumes,
    pub references: References,
    pub status_writer: StatusWriter,
    pub workers: Workers,
    node: Mutex<NodeState>,
    runtime_heard: AtomicBool,
    /// The node's object changed.
    pub own_node: tokio::sync::Notify,
    /// The node's condition may have changed; its keeper looks at once.
    pub node_due: tokio::sync::Notify,
}

/// The parts that a [`Shared`] is put together from.
pub struct Parts {
    pub config: KubeletConfig,
    pub client: kube::Client,
    pub runtime: Runtime,
    pub clock: Clock,
    pub rng: Rng,
    pub recorder: Recorder,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub node: NodeState,
}

impl Shared {
    /// Puts a kubelet together.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Self>| {
            let weak = weak.clone();
            let wake = Arc::new(move |uid: &str| {
                if let Some(shared) = weak.upgrade() {
                    shared.workers.objects_changed(uid);
                }
            });
            Self {
                volumes: Volumes::new(parts.config.host.root_dir()),
                references: References::new(parts.client.clone(), parts.rng, wake),
                status_writer: StatusWriter::new(parts.client.clone(), parts.pods.clone()),
                workers: Workers::default(),
                node: Mutex::new(parts.node),
                runtime_heard: AtomicBool::new(false),
                own_node: tokio::sync::Notify::new(),
                node_due: tokio::sync::Notify::new(),
                config: parts.config,
                client: parts.client,
                runtime: parts.runtime,
                clock: parts.clock,
                recorder: parts.recorder,
                pods: parts.pods,
                services: parts.services,
            }
        })
    }

    /// The node as it is known now.
    pub fn node(&self) -> NodeState {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the runtime's events can be heard.
    pub fn runtime_heard(&self) -> bool {
        self.runtime_heard.load(Ordering::Relaxed)
    }

    /// Notes whether they can.
    pub fn set_runtime_heard(&self, heard: bool) {
        self.runtime_heard.store(heard, Ordering::Relaxed);
    }

    /// Notes what the node offers.
    pub fn set_allocatable(&self, allocatable: BTreeMap<String, Quantity>) {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).facts.allocatable = allocatable;
    }

    /// Notes the labels of the node's object.
    pub fn set_labels(&self, labels: BTreeMap<String, String>) {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).labels = labels;
    }
}

/// A pod as events name it; with a container, as that container's events do.
pub fn subject(pod: &Pod, member: Option<&Member>) -> ObjectReference {
    let meta = &pod.metadata;
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: member.map(Member::field_path),
    }
}

/// The key of a pod.
pub fn key(pod: &Pod) -> ObjectKey {
    ObjectKey { namespace: pod.metadata.namespace.clone(), name: pod.metadata.name.clone().unwrap_or_default() }
}
