//! The node's heartbeat: a Lease in kube-node-lease.
//!
//! Entry: [`Lease::renew`]. Invariant: one write per heartbeat, made on the version last written.

use std::sync::Arc;
use std::time::Duration;

use api::well_known::namespaces::NODE_LEASE;
use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::shared::Shared;

const DURATION_SECONDS: i32 = 40;
const RENEW_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 5;

/// The lease of one node.
pub(super) struct Lease {
    shared: Arc<Shared>,
    latest: Option<Record>,
}

impl Lease {
    /// Nothing has been written yet.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), latest: None }
    }

    /// Says that the kubelet is alive; a failure is logged, the next heartbeat tries again.
    pub(super) async fn renew(&mut self) {
        match tokio::time::timeout(RENEW_TIMEOUT, self.try_renew()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "lease not renewed"),
            Err(_) => tracing::warn!("lease not renewed in time"),
        }
    }

    async fn try_renew(&mut self) -> Result<(), client::Error> {
        let api = Api::<Record>::namespaced(self.shared.client.clone(), NODE_LEASE);
        let name = self.shared.config.node_name.clone();
        for _ in 0..ATTEMPTS {
            let base = match self.latest.take() {
                Some(known) => Some(known),
                None => api.get_opt(&name).await?,
            };
            let written = match base {
                None => api.create(&PostParams::default(), &self.fresh().await?).await,
                Some(mut lease) => {
                    let spec = lease.spec.get_or_insert_default();
                    spec.holder_identity = Some(name.clone());
                    spec.lease_duration_seconds = Some(DURATION_SECONDS);
                    spec.renew_time = Some(MicroTime(self.shared.clock.now()));
                    api.replace(&name, &PostParams::default(), &lease).await
                }
            };
            match written.map_err(client::Error::from) {
                Ok(lease) => {
                    self.latest = Some(lease);
                    return Ok(());
                }
                Err(error) if error.is_conflict() || error.is_not_found() || error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(client::Error::Undecided(format!("lease {name} keeps changing")))
    }

    /// A lease that goes when its node goes.
    async fn fresh(&self) -> Result<Record, client::Error> {
        let name = self.shared.config.node_name.clone();
        let node = Api::<Node>::all(self.shared.client.clone()).get_opt(&name).await?;
        let owner = node.and_then(|node| node.metadata.uid).map(|uid| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        });
        Ok(Record {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NODE_LEASE.into()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name),
                lease_duration_seconds: Some(DURATION_SECONDS),
                renew_time: Some(MicroTime(self.shared.clock.now())),
                ..LeaseSpec::default()
            }),
        })
    }
}
