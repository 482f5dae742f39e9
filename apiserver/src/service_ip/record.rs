//! The claims in the store. Entry points: [`Book::claim`], [`Book::undo`], [`Book::release`].
//!
//! Invariant: a claim is replaced only when it is old and its Service does not exist or does not have what is claimed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use process::{Clock, Rng};
use serde_json::{Value, json};

use super::slots::{Slot, slots_of};
use crate::object::{Object, encode};
use crate::storage::{Expect, KeyValue, Outcome, Storage, StorageError, Write};

/// How old a claim without a Service must be to count for nothing: longer than any request takes.
pub const STALE_AFTER: Duration = Duration::from_secs(120);
const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";
const PORTS: &str = "/registry/ranges/servicenodeports/";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
const SERVICES: &str = "/registry/services/";

/// The Service that has something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// See the module.
pub struct Book {
    storage: Arc<dyn Storage>,
    clock: Clock,
    rng: Rng,
}

impl Book {
    /// Kept in this store.
    pub fn new(storage: Arc<dyn Storage>, clock: Clock, rng: Rng) -> Self {
        Self { storage, clock, rng }
    }

    /// Claims one thing; answers the claim's id, or none if somebody else has it.
    pub async fn claim(&self, slot: Slot, owner: &Owner, dry_run: bool) -> Result<Option<String>, StorageError> {
        let id = self.rng.uuid();
        if dry_run {
            let (found, _) = self.storage.get(&key(slot)).await?;
            return self.is_free(slot, found.as_ref()).await.map(|free| free.then_some(id));
        }
        let value = || Write::Put { value: self.record(slot, owner, &id), ttl: None };
        let found = match self.storage.commit(&key(slot), Expect::Absent, value()).await? {
            Outcome::Committed(_) => return Ok(Some(id)),
            Outcome::Conflict(found) => found,
        };
        if !self.is_free(slot, found.as_ref()).await? {
            return Ok(None);
        }
        let expect = found.map_or(Expect::Absent, |item| Expect::Revision(item.revision));
        let replaced = self.storage.commit(&key(slot), expect, value()).await?;
        Ok(matches!(replaced, Outcome::Committed(_)).then_some(id))
    }

    /// All of the same sort that is claimed.
    pub async fn taken(&self, like: Slot) -> Result<BTreeSet<Slot>, StorageError> {
        let prefix = match like {
            Slot::Address(_) => ADDRESSES,
            Slot::Port(_) => PORTS,
        };
        let mut taken = BTreeSet::new();
        for item in self.storage.list(prefix, None, 0, None).await?.items {
            let Some(slot) = slot_of(&item.key) else { continue };
            if !self.is_free(slot, Some(&item)).await? {
                taken.insert(slot);
            }
        }
        Ok(taken)
    }

    /// Takes a claim back that led to nothing.
    pub async fn undo(&self, slot: Slot, id: &str) {
        self.remove(slot, |record| record["metadata"]["uid"] == id).await;
    }

    /// Takes back what a Service had.
    pub async fn release(&self, slot: Slot, owner: &Owner) {
        self.remove(slot, |record| owner_of(record).as_ref() == Some(owner)).await;
    }

    /// Writes a claim down again that somebody deleted while its Service has what is claimed.
    pub async fn restore(&self, slot: Slot, deleted: &dyn Object) {
        let Some(owner) = owner_of(&deleted.to_value()) else { return };
        let restored = match self.has(&owner, slot).await {
            Ok(true) => self.claim(slot, &owner, false).await.map(drop),
            other => other.map(drop),
        };
        if let Err(error) = restored {
            tracing::warn!(?slot, %error, "a claim was not restored");
        }
    }

    /// What can't be removed now is found stale later.
    async fn remove(&self, slot: Slot, is_ours: impl Fn(&Value) -> bool) {
        let removed = async {
            let (Some(found), _) = self.storage.get(&key(slot)).await? else { return Ok(()) };
            if is_ours(&decode(&found)) {
                self.storage.commit(&key(slot), Expect::Revision(found.revision), Write::Delete).await?;
            }
            Ok::<(), StorageError>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(?slot, %error, "a claim was not released");
        }
    }

    async fn is_free(&self, slot: Slot, found: Option<&KeyValue>) -> Result<bool, StorageError> {
        let Some(found) = found else { return Ok(true) };
        let record = decode(found);
        // What somebody else wrote keeps its address for as long as it is there.
        if matches!(slot, Slot::Address(_)) && record["metadata"]["labels"][MANAGED_BY] != MANAGER {
            return Ok(false);
        }
        let made: Option<Timestamp> =
            record["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let stale_before = self.clock.now().as_second() - STALE_AFTER.as_secs() as i64;
        if made.is_some_and(|made| made.as_second() > stale_before) {
            return Ok(false);
        }
        match owner_of(&record) {
            Some(owner) => self.has(&owner, slot).await.map(|has| !has),
            None => Ok(true),
        }
    }

    async fn has(&self, owner: &Owner, slot: Slot) -> Result<bool, StorageError> {
        let (service, _) = self.storage.get(&format!("{SERVICES}{}/{}", owner.namespace, owner.name)).await?;
        let service: Option<Service> = service.and_then(|item| serde_json::from_slice(&item.value).ok());
        Ok(service.is_some_and(|service| slots_of(&service).contains(&slot)))
    }

    fn record(&self, slot: Slot, owner: &Owner, id: &str) -> Bytes {
        let made = self.clock.now_seconds().to_string();
        let parent = json!({"resource": "services", "namespace": owner.namespace, "name": owner.name});
        let value = match slot {
            Slot::Address(address) => json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "IPAddress",
                "metadata": {
                    "name": address.to_string(),
                    "uid": id,
                    "creationTimestamp": made,
                    "labels": {
                        "ipaddress.kubernetes.io/ip-family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                        MANAGED_BY: MANAGER,
                    },
                    "managedFields": [{
                        "manager": "kube-apiserver",
                        "operation": "Update",
                        "apiVersion": "networking.k8s.io/v1",
                        "time": made,
                        "fieldsType": "FieldsV1",
                        "fieldsV1": {
                            "f:metadata": {"f:labels": {
                                ".": {},
                                "f:ipaddress.kubernetes.io/ip-family": {},
                                "f:ipaddress.kubernetes.io/managed-by": {},
                            }},
                            "f:spec": {"f:parentRef": {".": {}, "f:name": {}, "f:namespace": {}, "f:resource": {}}},
                        },
                    }],
                },
                "spec": {"parentRef": parent},
            }),
            Slot::Port(port) => json!({
                "metadata": {"name": port.to_string(), "uid": id, "creationTimestamp": made},
                "spec": {"parentRef": parent},
            }),
        };
        Bytes::from(encode(&value))
    }
}

fn key(slot: Slot) -> String {
    match slot {
        Slot::Address(address) => format!("{ADDRESSES}{address}"),
        Slot::Port(port) => format!("{PORTS}{port}"),
    }
}

fn slot_of(key: &str) -> Option<Slot> {
    let address = key.strip_prefix(ADDRESSES).and_then(|name| name.parse::<IpAddr>().ok()).map(Slot::Address);
    address.or_else(|| key.strip_prefix(PORTS).and_then(|name| name.parse().ok()).map(Slot::Port))
}

fn decode(item: &KeyValue) -> Value {
    serde_json::from_slice(&item.value).unwrap_or_default()
}

fn owner_of(record: &Value) -> Option<Owner> {
    let parent = &record["spec"]["parentRef"];
    Some(Owner { namespace: parent["namespace"].as_str()?.to_owned(), name: parent["name"].as_str()?.to_owned() })
}
