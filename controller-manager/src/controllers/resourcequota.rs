//! ResourceQuota: writes down what each quota allows and how much of it is used.
//!
//! Entry point: [`start`]. Admission charges what is created; this controller counts what is there: when a quota is new or changed, when
//! something goes or changes what it takes, and once after every burst of charges. Invariant: what was charged just now is not
//! given back before the object behind it had the time to be stored.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use api::quota::{Subject, count_name};
use client::{Change, Error, Outcome, Reconcile, Store, WorkQueue, WrittenRevisions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use kube::api::ListParams;
use kube::{Api, Client};
use process::Clock;

use self::plan::{Content, Plan};
use crate::context::{Context, writing};
use crate::inventory::{Inventory, Kind, Metadata};
use crate::stores::Stores;

const WORKERS: usize = 5;
/// How long a charge may be ahead of its object.
const QUIET: Duration = Duration::from_secs(1);

/// Runs the controller; its keys are quotas.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let charges = Arc::new(Charges::default());
    watch_quotas(context, &queue, &charges);
    watch_typed(&context.stores.pods, &queue, &context.stores, context.clock, |pod| Subject::Pod(pod));
    watch_typed(&context.stores.services, &queue, &context.stores, context.clock, |service| Subject::Service(service));
    watch_typed(&context.stores.claims, &queue, &context.stores, context.clock, |claim| Subject::Claim(claim));
    let (keys, stores) = (queue.clone(), context.stores.clone());
    context.inventory.subscribe(move |kind, change: &Change<Metadata>| count_changed(&keys, &stores, kind, change));
    let reconciler = Quotas {
        client: context.client.clone(),
        stores: context.stores.clone(),
        inventory: context.inventory.clone(),
        clock: context.clock,
        written: written.clone(),
        charges,
    };
    context.run_on_both(reconciler, queue, written, WORKERS);
}

/// When admission last changed each quota, and what we wrote to it last.
#[derive(Default)]
struct Charges {
    at: Mutex<BTreeMap<ObjectKey, Timestamp>>,
    ours: Mutex<BTreeMap<ObjectKey, ResourceQuotaStatus>>,
}

impl Charges {
    fn note(&self, key: &ObjectKey, quota: &ResourceQuota, now: Timestamp) {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if ours.get(key) != quota.status.as_ref() {
            self.at.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), now);
        }
    }

    fn will_write(&self, key: &ObjectKey, status: &ResourceQuotaStatus) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), status.clone());
    }

    fn last(&self, key: &ObjectKey) -> Option<Timestamp> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn forget(&self, key: &ObjectKey) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn watch_quotas(context: &Context, queue: &WorkQueue<ObjectKey>, charges: &Arc<Charges>) {
    let (keys, charges, clock) = (queue.clone(), Arc::clone(charges), context.clock);
    context.stores.quotas.on_change(move |change: Change<ResourceQuota>| {
        let key = ObjectKey::of(&change.object().metadata);
        match &change {
            Change::Upsert { old: Some(old), new } if old.spec == new.spec => {
                charges.note(&key, new, clock.now());
                keys.add_after(key, QUIET);
            }
            Change::Upsert { .. } => keys.add(key),
            Change::Delete { .. } => {
                charges.forget(&key);
                keys.add(key);
            }
        }
    });
}

/// What an object takes changed: the quotas of its namespace are counted anew. What it takes when it is created has been charged.
fn watch_typed<K: client::Object>(
    store: &Store<K>,
    queue: &WorkQueue<ObjectKey>,
    stores: &Stores,
    clock: Clock,
    subject: fn(&K) -> Subject<'_>,
) {
    let (keys, stores) = (queue.clone(), stores.clone());
    store.on_change(move |change: Change<K>| {
        let namespace = change.object().meta().namespace.clone().unwrap_or_default();
        let quotas = stores.quotas.in_namespace(&namespace);
        if quotas.is_empty() {
            return;
        }
        let now = clock.now();
        let changed = match &change {
            Change::Upsert { old: Some(old), new } => {
                subject(old).usage(now) != subject(new).usage(now) || new.meta().deletion_timestamp.is_some()
            }
            Change::Upsert { old: None, .. } => false,
            Change::Delete { .. } => true,
        };
        if changed {
            quotas.iter().for_each(|quota| keys.add(ObjectKey::of(&quota.metadata)));
        }
    });
}

fn count_changed(keys: &WorkQueue<ObjectKey>, stores: &Stores, kind: &Kind, change: &Change<Metadata>) {
    let namespace = change.object().metadata.namespace.as_deref().unwrap_or_default();
    if namespace.is_empty() || matches!(change, Change::Upsert { old: Some(_), .. }) {
        return;
    }
    let subject = Subject::Other(&kind.resource.group, &kind.resource.plural);
    for quota in stores.quotas.in_namespace(namespace) {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        if hard.into_iter().flatten().any(|(resource, _)| subject.counts_for(resource)) {
            let key = ObjectKey::of(&quota.metadata);
            match change {
                Change::Delete { .. } => keys.add(key),
                Change::Upsert { .. } => keys.add_after(key, QUIET),
            }
        }
    }
}

struct Quotas {
    client: Client,
    stores: Stores,
    inventory: Inventory,
    clock: Clock,
    written: WrittenRevisions<ObjectKey>,
    charges: Arc<Charges>,
}

impl Reconcile for Quotas {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "resourcequota"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(quota) = self.stores.quotas.get(key) else { return Ok(Outcome::Done) };
        let content = self.observe(&quota, key.namespace()).await?;
        let now = self.clock.now();
        let Plan { status, gives_back, look_again } = plan::plan(now, &quota, &content);
        if gives_back && let Some(wait) = self.too_soon(key, now) {
            return Ok(Outcome::After(wait));
        }
        if let Some(status) = status {
            self.write(key, &quota, status).await?;
        }
        Ok(look_again.map_or(Outcome::Done, Outcome::After))
    }
}

impl Quotas {
    async fn observe(&self, quota: &ResourceQuota, namespace: &str) -> Result<Content, Error> {
        let mut counts = BTreeMap::new();
        for resource in plan::counted(quota) {
            if let Some(kind) = self.inventory.find(|kind| kind.namespaced && names(kind, &resource)) {
                let one = kind.api(&self.client, namespace).list_metadata(&ListParams::default().limit(1)).await?;
                let more = one.metadata.remaining_item_count.unwrap_or_default();
                counts.insert(resource, i64::try_from(one.items.len()).unwrap_or(i64::MAX).saturating_add(more));
            }
        }
        Ok(Content {
            pods: self.stores.pods.in_namespace(namespace),
            services: self.stores.services.in_namespace(namespace),
            claims: self.stores.claims.in_namespace(namespace),
            counts,
        })
    }

    /// How long to wait before anything is given back.
    fn too_soon(&self, key: &ObjectKey, now: Timestamp) -> Option<Duration> {
        let charged = self.charges.last(key)?;
        let passed = Duration::try_from(now.duration_since(charged)).unwrap_or_default();
        QUIET.checked_sub(passed).filter(|wait| !wait.is_zero())
    }

    async fn write(&self, key: &ObjectKey, quota: &ResourceQuota, status: ResourceQuotaStatus) -> Result<(), Error> {
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), key.namespace());
        self.charges.will_write(key, &status);
        let wanted = ResourceQuota { status: Some(status), ..quota.clone() };
        match api.replace_status(&key.name, &writing(), &wanted).await.map_err(Error::from) {
            Ok(new) => {
                self.written.object(key, &self.stores.quotas, &new);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.quotas, error)),
        }
    }
}

/// Whether a quota means this kind by a resource.
fn names(kind: &Kind, resource: &str) -> bool {
    let (group, plural) = (kind.resource.group.as_str(), kind.resource.plural.as_str());
    resource == count_name(group, plural) || Subject::Other(group, plural).counts_for(resource)
}
