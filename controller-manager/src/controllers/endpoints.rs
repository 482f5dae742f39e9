//! Endpoints: writes down which addresses stand behind a service, in the form that old clients read.
//!
//! Entry point: [`start`]. Invariant: only Endpoints that this controller made are deleted.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::ObjectKey;
use api::well_known::labels::ENDPOINTS_MANAGED_BY;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::{Api, Client};

use self::plan::Plan;
use crate::backends::{self, Triggers};
use crate::context::{Context, deleting, writing};
use crate::stores::Stores;

const WORKERS: usize = 5;

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    backends::watch(&context.stores, &queue);
    let keys = queue.clone();
    context
        .stores
        .endpoints
        .on_change(move |change: Change<Endpoints>| keys.add(ObjectKey::of(&change.object().metadata)));
    let reconciler = EndpointsController {
        client: context.client.clone(),
        stores: context.stores.clone(),
        recorder: context.recorder("endpoint-controller"),
        written: written.clone(),
        triggers: Mutex::default(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

struct EndpointsController {
    client: Client,
    stores: Stores,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
    triggers: Mutex<BTreeMap<ObjectKey, Triggers>>,
}

impl Reconcile for EndpointsController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let existing = self.stores.endpoints.get(key);
        let Some(service) = self.stores.services.get(key) else {
            self.triggers.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            if let Some(existing) = existing.filter(|endpoints| is_ours(endpoints)) {
                self.delete(key, &existing).await?;
            }
            return Ok(Outcome::Done);
        };
        let Some(selector) = backends::selector_of(&service) else { return Ok(Outcome::Done) };
        let pods = backends::selected(&self.stores, key.namespace(), selector);
        let trigger = {
            let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
            triggers.entry(key.clone()).or_default().latest(&service, &pods)
        };
        self.apply(key, &service, plan::plan(&service, &pods, existing.as_deref(), trigger)).await?;
        Ok(Outcome::Done)
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(ENDPOINTS_MANAGED_BY))
}

impl EndpointsController {
    async fn apply(&self, key: &ObjectKey, service: &Service, plan: Plan) -> Result<(), Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), key.namespace());
        let (what, answer) = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Create(endpoints) => ("Create", api.create(&writing(), &endpoints).await),
            Plan::Update(endpoints) => ("Update", api.replace(&key.name, &writing(), &endpoints).await),
        };
        match answer.map_err(Error::from) {
            Ok(written) => {
                self.written.object(key, &self.stores.endpoints, &written);
                Ok(())
            }
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                if !error.is_conflict() {
                    let (reason, verb) = (format!("FailedTo{what}Endpoint"), what.to_lowercase());
                    let message = format!("Failed to {verb} endpoint {key}: {error}");
                    self.recorder.event(&reference(service), EventType::Warning, &reason, message);
                }
                Err(self.written.failed(key, &self.stores.endpoints, error))
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, existing: &Endpoints) -> Result<(), Error> {
        let uid = existing.metadata.uid.as_deref().unwrap_or_default();
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), key.namespace());
        match api.delete(&key.name, &deleting(uid)).await.map_err(Error::from) {
            Ok(answer) => {
                self.written.deletion(key, &self.stores.endpoints, key, uid, &answer);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
