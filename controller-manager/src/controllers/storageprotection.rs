//! Protection of claims and volumes in use: one that is deleted stays until no pod uses it, or it is bound no more.
//!
//! Entry points: [`start_claims`] and [`start_volumes`]. Admission gives new ones their finalizer; this adds it to others and takes it away.
//! Invariant: a claim's finalizer goes only after a live look at the pods of its namespace.

use api::ObjectKey;
use api::well_known::finalizers::{CLAIM_PROTECTION, VOLUME_PROTECTION};
use client::{Change, Error, Object, Outcome, Reconcile, Store, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::context::{Context, writing};
use crate::pods;

const WORKERS: usize = 1;

/// Runs the controller of claims.
pub fn start_claims(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    follow(&context.stores.claims, &queue);
    let keys = queue.clone();
    context.stores.pods.on_change(move |change: Change<Pod>| {
        let ended = match &change {
            Change::Delete { old } => Some(old),
            Change::Upsert { new, .. } if pods::is_terminal(new) => Some(new),
            Change::Upsert { .. } => None,
        };
        if let Some(pod) = ended {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            claims_of(pod).into_iter().for_each(|name| keys.add(ObjectKey::new(namespace, &name)));
        }
    });
    let (client, claims) = (context.client.clone(), context.stores.claims.clone());
    context.run(Claims { client, claims, written: written.clone() }, queue, written, WORKERS);
}

/// Runs the controller of volumes.
pub fn start_volumes(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    follow(&context.stores.volumes, &queue);
    let (client, volumes) = (context.client.clone(), context.stores.volumes.clone());
    context.run(Volumes { client, volumes, written: written.clone() }, queue, written, WORKERS);
}

fn follow<K: Object>(store: &Store<K>, queue: &WorkQueue<ObjectKey>) {
    let keys = queue.clone();
    store.on_change(move |change: Change<K>| {
        if let Change::Upsert { new, .. } = &change {
            keys.add(ObjectKey::of(new.meta()));
        }
    });
}

/// What to do about a finalizer.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Add,
    /// Take it away if nobody uses the object.
    Remove,
}

fn plan(meta: &ObjectMeta, finalizer: &str) -> Plan {
    let has = meta.finalizers.iter().flatten().any(|one| one == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => Plan::Remove,
        (false, false) => Plan::Add,
        (true, false) | (false, true) => Plan::Nothing,
    }
}

/// The finalizers with or without ours.
fn changed(meta: &mut ObjectMeta, finalizer: &str, wanted: bool) {
    let all = meta.finalizers.get_or_insert_default();
    all.retain(|one| one != finalizer);
    if wanted {
        all.push(finalizer.to_owned());
    }
}

/// The claims that a pod names, and those that are made for it.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name)),
        (None, None) => None,
    });
    named.collect()
}

/// Whether a pod keeps a claim. One without a node does not: no kubelet starts it while the claim is going.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut kept = volumes.filter(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(named), _) => named.claim_name == name,
        (None, Some(_)) => {
            let made = format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
            let owner = api::owners::controller_of(&claim.metadata);
            !pods::is_terminal(pod)
                && made == name
                && owner.is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
        }
        (None, None) => false,
    });
    api::pods::node_name(pod).is_some() && kept.next().is_some()
}

struct Claims {
    client: Client,
    claims: Store<PersistentVolumeClaim>,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for Claims {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "pvcprotection"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(Outcome::Done) };
        let wanted = match plan(&claim.metadata, CLAIM_PROTECTION) {
            Plan::Nothing => return Ok(Outcome::Done),
            Plan::Add => true,
            Plan::Remove => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
                if api.list(&ListParams::default()).await?.items.iter().any(|pod| uses(pod, &claim)) {
                    return Ok(Outcome::Done);
                }
                false
            }
        };
        let mut new = claim.as_ref().clone();
        changed(&mut new.metadata, CLAIM_PROTECTION, wanted);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), key.namespace());
        match api.replace(&key.name, &writing(), &new).await.map_err(Error::from) {
            Ok(new) if wanted => self.written.object(key, &self.claims, &new),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.claims, error)),
        }
        Ok(Outcome::Done)
    }
}

struct Volumes {
    client: Client,
    volumes: Store<PersistentVolume>,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for Volumes {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "pvprotection"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(Outcome::Done) };
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let wanted = match plan(&volume.metadata, VOLUME_PROTECTION) {
            Plan::Nothing => return Ok(Outcome::Done),
            Plan::Remove if bound => return Ok(Outcome::Done),
            Plan::Add => true,
            Plan::Remove => false,
        };
        let mut new = volume.as_ref().clone();
        changed(&mut new.metadata, VOLUME_PROTECTION, wanted);
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.replace(&key.name, &writing(), &new).await.map_err(Error::from) {
            Ok(new) if wanted => self.written.object(key, &self.volumes, &new),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.volumes, error)),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn finalizers_come_and_go_once() {
        let meta = |value: Value| serde_json::from_value::<ObjectMeta>(value).expect("metadata");
        let deleted = "2026-01-01T00:00:00Z";
        let table = [
            (json!({}), Plan::Add),
            (json!({"finalizers": [CLAIM_PROTECTION]}), Plan::Nothing),
            (json!({"finalizers": [CLAIM_PROTECTION], "deletionTimestamp": deleted}), Plan::Remove),
            (json!({"finalizers": ["other"], "deletionTimestamp": deleted}), Plan::Nothing),
        ];
        for (value, expected) in table {
            let mut meta = meta(value.clone());
            let first = plan(&meta, CLAIM_PROTECTION);
            assert_eq!(first, expected, "{value}");
            if first != Plan::Nothing {
                changed(&mut meta, CLAIM_PROTECTION, first == Plan::Add);
                assert_eq!(plan(&meta, CLAIM_PROTECTION), Plan::Nothing, "{value}");
            }
        }
    }

    #[test]
    fn pods_on_nodes_keep_their_claims() {
        let pod = |node: Value, phase: &str, volumes: Value| -> Pod {
            let spec = json!({"containers": [], "nodeName": node, "volumes": volumes});
            serde_json::from_value(
                json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec, "status": {"phase": phase}}),
            )
            .expect("a pod")
        };
        let claim = |name: &str, owner: &str| -> PersistentVolumeClaim {
            let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true});
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [owner]}})).expect("a claim")
        };
        let named = || json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let made = || json!([{"name": "v", "ephemeral": {}}]);
        let table = [
            (pod(json!("n"), "Running", named()), claim("c", "x"), true),
            (pod(json!("n"), "Succeeded", named()), claim("c", "x"), true),
            (pod(json!(null), "Pending", named()), claim("c", "x"), false),
            (pod(json!("n"), "Running", named()), claim("d", "x"), false),
            (pod(json!("n"), "Running", made()), claim("p-v", "u"), true),
            (pod(json!("n"), "Running", made()), claim("p-v", "other"), false),
            (pod(json!("n"), "Failed", made()), claim("p-v", "u"), false),
        ];
        for (i, (pod, claim, expected)) in table.into_iter().enumerate() {
            assert_eq!(uses(&pod, &claim), expected, "row {i}");
        }
        assert_eq!(claims_of(&pod(json!("n"), "Running", made())), ["p-v"]);
    }
}
