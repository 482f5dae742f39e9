//! EndpointSlices: writes down which addresses stand behind a service, in slices that scale.
//!
//! Entry point: [`start`]. The slices of a service that is gone are left to the garbage collector, which finds them by
//! their owner. Invariant: only slices with our label are touched.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::ObjectKey;
use api::well_known::labels::ZONE;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Client;

use self::plan::{Observed, Plan};
use crate::backends::{self, Triggers};
use crate::context::Context;
use crate::stores::{BY_SERVICE, Stores};
use crate::{pods, slices};

const WORKERS: usize = 5;

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = EndpointSlices {
        client: context.client.clone(),
        stores: context.stores.clone(),
        recorder: context.recorder("endpoint-slice-controller"),
        written: written.clone(),
        triggers: Mutex::default(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>) {
    backends::watch(stores, queue);
    slices::watch(stores, queue, plan::MANAGER);
    let (keys, services) = (queue.clone(), stores.services.clone());
    stores.nodes.on_change(move |change: Change<Node>| {
        let zone = |node: &Node| node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE).cloned());
        let moved = match &change {
            Change::Upsert { old, new } => old.as_ref().map(|old| zone(old)) != Some(zone(new)) && zone(new).is_some(),
            Change::Delete { .. } => false,
        };
        if moved {
            services.list().iter().for_each(|service| keys.add(ObjectKey::of(&service.metadata)));
        }
    });
}

struct EndpointSlices {
    client: Client,
    stores: Stores,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
    triggers: Mutex<BTreeMap<ObjectKey, Triggers>>,
}

impl Reconcile for EndpointSlices {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslice"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(service) = self.stores.services.get(key) else {
            self.triggers.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Outcome::Done);
        };
        let Some(selector) = backends::selector_of(&service) else { return Ok(Outcome::Done) };
        let pods = backends::selected(&self.stores, key.namespace(), selector);
        let plan = self.plan(key, &service, &pods);
        let written = slices::apply(&self.client, &self.stores, &self.written, key, &plan).await;
        written.inspect_err(|error| self.complain(&service, error))?;
        Ok(Outcome::Done)
    }
}

impl EndpointSlices {
    fn plan(&self, key: &ObjectKey, service: &Service, pods: &[Arc<Pod>]) -> Plan {
        let trigger = {
            let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
            triggers.entry(key.clone()).or_default().latest(service, pods)
        };
        let nodes: BTreeMap<_, _> = pods
            .iter()
            .filter_map(|pod| self.stores.nodes.get(&ObjectKey::cluster(pods::node_of(pod))))
            .map(|node| (node.metadata.name.clone().unwrap_or_default(), node))
            .collect();
        let slices = self.stores.slices.by_index(BY_SERVICE, &key.to_string());
        let slices: Vec<_> = slices.into_iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
        plan::plan(&Observed { service, pods, nodes: &nodes, slices: &slices, trigger })
    }

    fn complain(&self, service: &Service, error: &Error) {
        if !error.is_conflict() {
            let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
            let whose = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
            let message = format!("Error updating Endpoint Slices for Service {whose}: {error}");
            self.recorder.event(&reference(service), EventType::Warning, "FailedToUpdateEndpointSlices", message);
        }
    }
}
