//! EndpointSlice mirroring: Endpoints that somebody wrote for a service without a selector appear as EndpointSlices, too, because
//! that is what proxies read.
//!
//! Entry point: [`start`]. Invariant: only slices with our label are touched. Reference:
//! <https://kubernetes.io/docs/concepts/services-networking/service/#endpointslice-mirroring>.

pub mod plan;

use api::ObjectKey;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Client;

use self::plan::{MOST_PER_SUBSET, Mirrored};
use crate::context::Context;
use crate::slices::{self, Plan};
use crate::stores::{MIRRORED, Stores};

const WORKERS: usize = 5;

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = Mirroring {
        client: context.client.clone(),
        stores: context.stores.clone(),
        recorder: context.recorder("endpoint-slice-mirroring-controller"),
        written: written.clone(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>) {
    let keys = queue.clone();
    stores.endpoints.on_change(move |change: Change<Endpoints>| keys.add(ObjectKey::of(&change.object().metadata)));
    let keys = queue.clone();
    stores.services.on_change(move |change: Change<Service>| keys.add(ObjectKey::of(&change.object().metadata)));
    slices::watch(stores, queue, plan::MANAGER);
}

struct Mirroring {
    client: Client,
    stores: Stores,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for Mirroring {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let slices = self.stores.slices.by_index(MIRRORED, &key.to_string());
        let slices: Vec<_> = slices.into_iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()).collect();
        let (endpoints, service) = (self.stores.endpoints.get(key), self.stores.services.get(key));
        let Some(endpoints) = endpoints.filter(|endpoints| plan::is_mirrored(endpoints, service.as_deref())) else {
            let plan = Plan { delete: slices, ..Plan::default() };
            slices::apply(&self.client, &self.stores, &self.written, key, &plan).await?;
            return Ok(Outcome::Done);
        };
        let mirrored = plan::plan(&endpoints, &slices);
        if !mirrored.plan.is_empty() {
            self.tell(&endpoints, &mirrored);
        }
        let written = slices::apply(&self.client, &self.stores, &self.written, key, &mirrored.plan).await;
        written.inspect_err(|error| self.complain(&endpoints, error))?;
        Ok(Outcome::Done)
    }
}

impl Mirroring {
    /// What could not be mirrored.
    fn tell(&self, endpoints: &Endpoints, mirrored: &Mirrored) {
        let Mirrored { invalid, skipped, .. } = mirrored;
        let note = |reason: &str, message: String| {
            self.recorder.event(&reference(endpoints), EventType::Warning, reason, message);
        };
        if *invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            note("InvalidIPAddress", message);
        }
        if *skipped > *invalid {
            let message = format!(
                "A max of {MOST_PER_SUBSET} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
            );
            note("TooManyAddressesToMirror", message);
        }
    }

    fn complain(&self, endpoints: &Endpoints, error: &Error) {
        if !error.is_conflict() {
            let whose = ObjectKey::of(&endpoints.metadata);
            let message = format!("Error updating EndpointSlices for Endpoints {whose}: {error}");
            self.recorder.event(&reference(endpoints), EventType::Warning, "FailedToUpdateEndpointSlices", message);
        }
    }
}
