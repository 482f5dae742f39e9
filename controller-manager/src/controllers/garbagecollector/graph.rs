//! Who owns whom, as far as the watches have told.
//!
//! Entry points: [`Graph::upsert`] and [`Graph::remove`], which answer what has to be looked at because of the change. Invariant: the
//! graph is a hint only; before anything is deleted the object and its owners are read live.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::well_known::finalizers::{FOREGROUND, ORPHAN};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// How many uids of deleted objects are remembered, to save asking for them again.
const REMEMBERED_ABSENT: usize = 5_000;

/// Which object, of which kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// `ReplicationController`.
    pub kind: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, by which the graph knows it.
    pub uid: String,
}

/// An object in the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Which it is.
    pub identity: Identity,
    /// Whom it belongs to.
    pub owners: Vec<OwnerReference>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its deletion waits for its dependents.
    pub foreground: bool,
    /// Whether its deletion waits until its dependents are let go.
    pub orphaning: bool,
    /// False while it is known from a dependent's word only.
    pub observed: bool,
}

impl Node {
    /// The node of an object that was seen.
    pub fn of(api_version: &str, kind: &str, meta: &ObjectMeta) -> Self {
        let deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|name| name == finalizer);
        Self {
            identity: Identity {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
            },
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
            observed: true,
        }
    }

    /// Whether that owner may not go before this object.
    pub fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|reference| reference.uid == owner && reference.block_owner_deletion == Some(true))
    }
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Whether this object should go, or may finish going.
    Delete(String),
    /// This object's dependents are to be let go.
    Orphan(String),
}

/// The graph; edges are the owner references.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    absent: BTreeSet<String>,
    absent_order: VecDeque<String>,
}

impl Graph {
    /// The node with this uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// All objects that name this owner, in the order of their uids.
    pub fn dependents(&self, owner: &str) -> Vec<&Node> {
        self.dependents.get(owner).into_iter().flatten().filter_map(|uid| self.nodes.get(uid)).collect()
    }

    /// Whether an object with this uid is known to be gone for good.
    pub fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    /// Remembers that there is no object with this uid; answers who must be looked at because of it.
    pub fn mark_absent(&mut self, uid: &str) -> Vec<Work> {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
        }
        if self.absent_order.len() > REMEMBERED_ABSENT
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
        self.remove(uid)
    }

    /// Takes in an object as it is now.
    pub fn upsert(&mut self, node: Node) -> Vec<Work> {
        let uid = node.identity.uid.clone();
        let before = self.nodes.insert(uid.clone(), node.clone());
        let mut work = Vec::new();
        let known = |old: &Option<Node>, owner: &OwnerReference| {
            old.as_ref().is_some_and(|old| old.owners.iter().any(|reference| reference.uid == owner.uid))
        };
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            if !known(&before, owner) {
                work.extend(self.meet(&node, owner));
            }
        }
        if let Some(before) = &before {
            work.extend(self.let_go(before, &node));
        }
        let newly = |is: fn(&Node) -> bool| is(&node) && !before.as_ref().is_some_and(is);
        if newly(|node| node.orphaning) {
            work.push(Work::Orphan(uid.clone()));
        }
        if newly(|node| node.foreground) || before.as_ref().is_some_and(|node| !node.observed) {
            work.push(Work::Delete(uid));
        }
        work
    }

    /// A dependent names an owner: the owner may be unknown, gone, waiting, or not the one that is meant.
    fn meet(&mut self, node: &Node, owner: &OwnerReference) -> Vec<Work> {
        let dependent = Work::Delete(node.identity.uid.clone());
        match self.nodes.get(&owner.uid) {
            None if self.absent.contains(&owner.uid) => vec![dependent],
            None => {
                let identity = Identity {
                    api_version: owner.api_version.clone(),
                    kind: owner.kind.clone(),
                    namespace: node.identity.namespace.clone(),
                    name: owner.name.clone(),
                    uid: owner.uid.clone(),
                };
                let (owners, deleting, foreground) = (Vec::new(), false, false);
                let guess = Node { identity, owners, deleting, foreground, orphaning: false, observed: false };
                self.nodes.insert(owner.uid.clone(), guess);
                vec![Work::Delete(owner.uid.clone())]
            }
            Some(known) if !known.observed => Vec::new(),
            Some(known) if known.foreground || !is_meant(known, node, owner) => vec![dependent],
            Some(known) if known.orphaning => vec![Work::Orphan(owner.uid.clone())],
            Some(_) => Vec::new(),
        }
    }

    /// Owners that the object no longer names, or no longer holds back.
    fn let_go(&mut self, before: &Node, after: &Node) -> Vec<Work> {
        let mut work = Vec::new();
        for owner in &before.owners {
            if !after.owners.iter().any(|reference| reference.uid == owner.uid) {
                self.unlink(&owner.uid, &after.identity.uid);
            }
            if before.blocks(&owner.uid) && !after.blocks(&owner.uid) {
                work.push(Work::Delete(owner.uid.clone()));
            }
        }
        work
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Takes out an object that is gone; its dependents and the owners that waited for it have to be looked at.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let mut work: Vec<_> = self.dependents.get(uid).into_iter().flatten().cloned().map(Work::Delete).collect();
        let Some(node) = self.nodes.remove(uid) else { return work };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.nodes.get(&owner.uid).is_some_and(|owner| owner.foreground) {
                work.push(Work::Delete(owner.uid.clone()));
            }
        }
        work
    }
}

/// Whether the object with the uid is the one that the reference describes: same kind and name, and in reach.
fn is_meant(owner: &Node, dependent: &Node, reference: &OwnerReference) -> bool {
    let identity = &owner.identity;
    let group = |api_version: &str| api_version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    identity.kind == reference.kind
        && identity.name == reference.name
        && group(&identity.api_version) == group(&reference.api_version)
        && (identity.namespace.is_empty() || identity.namespace == dependent.identity.namespace)
}
