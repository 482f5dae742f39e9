//! Node IPAM: gives every node its block of the pods' network.
//!
//! Entry point: [`start`]. Invariant: two nodes never get the same block: there is one worker, and what it gave away counts as
//! taken before the store shows it.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::ObjectKey;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::Node;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use self::plan::Blocks;
use crate::context::{Context, patching};
use crate::stores::Stores;

/// Runs the controller; its keys are nodes.
pub fn start(context: &mut Context) {
    let Some(blocks) = context.config.node_blocks else { return };
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let (keys, nodes) = (queue.clone(), context.stores.nodes.clone());
    context.stores.nodes.on_change(move |change: Change<Node>| match &change {
        Change::Upsert { new, .. } if block_of(new).is_none() => keys.add(ObjectKey::of(&new.metadata)),
        Change::Upsert { .. } => {}
        // A block is free again: whoever waits for one may have it.
        Change::Delete { .. } => {
            let waiting = nodes.list().into_iter().filter(|node| block_of(node).is_none());
            waiting.for_each(|node| keys.add(ObjectKey::of(&node.metadata)));
        }
    });
    let reconciler = NodeBlocks {
        client: context.client.clone(),
        stores: context.stores.clone(),
        recorder: context.recorder("cidrAllocator"),
        written: written.clone(),
        blocks,
        given: Mutex::default(),
    };
    context.run(reconciler, queue, written, 1);
}

struct NodeBlocks {
    client: Client,
    stores: Stores,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
    blocks: Blocks,
    /// What was given away and may not be in the store yet.
    given: Mutex<BTreeMap<String, String>>,
}

fn block_of(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|block| !block.is_empty())
}

impl Reconcile for NodeBlocks {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "nodeipam"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.stores.nodes.get(key) else { return Ok(Outcome::Done) };
        if block_of(&node).is_some() || node.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        match self.choose() {
            Some(block) => self.give(key, &node, block).await?,
            None => {
                let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                self.recorder.event(&reference(&*node), EventType::Normal, "CIDRNotAvailable", message);
            }
        }
        Ok(Outcome::Done)
    }
}

impl NodeBlocks {
    fn choose(&self) -> Option<String> {
        let nodes = self.stores.nodes.list();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|name, _| {
            nodes.iter().any(|node| node.metadata.name.as_ref() == Some(name) && block_of(node).is_none())
        });
        let taken = nodes.iter().filter_map(|node| block_of(node)).chain(given.values().map(String::as_str));
        self.blocks.lowest_free(taken)
    }

    async fn give(&self, key: &ObjectKey, node: &Node, block: String) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "spec": {"podCIDR": block, "podCIDRs": [block]},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        match api.patch(&key.name, &patching(), &Patch::Merge(patch)).await.map_err(Error::from) {
            Ok(node) => {
                self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(key.name.clone(), block);
                self.written.object(key, &self.stores.nodes, &node);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => {
                if error.is_outcome_unknown() {
                    self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(key.name.clone(), block);
                }
                Err(self.written.failed(key, &self.stores.nodes, error))
            }
        }
    }
}
