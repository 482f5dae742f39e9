//! What the controllers know of the cluster: one store per kind, shared by all of them.
//!
//! Entry point: [`Stores::start`]. Invariant: no controller watches anything else (except through the inventory), so that
//! each kind is watched once.

use api::ObjectKey;
use api::well_known::labels::{ENDPOINTSLICE_MANAGED_BY, SERVICE_NAME};
use api::well_known::{ROOT_CA_CONFIG_MAP, annotations, namespaces};
use client::{Index, Informers, Object, Store, WatchConfig};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, Resource};

use crate::controllers::endpointslice::plan::MANAGER as SLICES;
use crate::controllers::endpointslicemirroring::plan::MANAGER as MIRRORS;
use crate::pods;

/// Index of pods by the node they are bound to; unbound ones are under nothing.
pub const BY_NODE: &str = "node";
/// Index of pods by the uid of their controller.
pub const BY_CONTROLLER: &str = "controller";
/// Index of pods without a controller, by namespace.
pub const ORPHANS: &str = "orphans";
/// Index of ended pods, all under [`ENDED`].
pub const ENDED: &str = "ended";
/// Index of the endpointslice controller's slices by the key of their service.
pub const BY_SERVICE: &str = "service";
/// Index of mirrored slices by the key of their service and Endpoints.
pub const MIRRORED: &str = "mirrored";
/// Index of token secrets by the key of their service account.
pub const BY_ACCOUNT: &str = "account";

/// The type of secrets that carry a service account's token.
pub const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";

/// The stores; clones share them.
#[derive(Debug, Clone)]
pub struct Stores {
    /// All pods.
    pub pods: Store<Pod>,
    /// All nodes.
    pub nodes: Store<Node>,
    /// The leases by which kubelets say that they live.
    pub leases: Store<Lease>,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// All replication controllers.
    pub replication_controllers: Store<ReplicationController>,
    /// All services.
    pub services: Store<Service>,
    /// All Endpoints.
    pub endpoints: Store<Endpoints>,
    /// The slices that we manage.
    pub slices: Store<EndpointSlice>,
    /// All service accounts.
    pub accounts: Store<ServiceAccount>,
    /// The secrets that carry a service account's token.
    pub token_secrets: Store<Secret>,
    /// The published CA certificates.
    pub root_cas: Store<ConfigMap>,
    /// All quotas.
    pub quotas: Store<ResourceQuota>,
    /// All disruption budgets.
    pub budgets: Store<PodDisruptionBudget>,
    /// All claims.
    pub claims: Store<PersistentVolumeClaim>,
    /// All volumes.
    pub volumes: Store<PersistentVolume>,
    /// All ranges of service addresses; nobody checks their conditions, so they fit no type.
    pub ranges: Store<DynamicObject>,
}

impl Stores {
    /// Starts to follow all kinds.
    pub fn start(client: &Client, informers: &mut Informers) -> Self {
        let lease_api = Api::namespaced(client.clone(), namespaces::NODE_LEASE);
        let ours = format!("{ENDPOINTSLICE_MANAGED_BY} in ({SLICES},{MIRRORS})");
        let named_root_ca = format!("metadata.name={ROOT_CA_CONFIG_MAP}");
        let of_tokens = format!("type={TOKEN_SECRET}");
        Self {
            pods: informers.start(Api::all(client.clone()), WatchConfig::default(), pod_indexes()),
            nodes: all(client, informers),
            leases: informers.start(lease_api, WatchConfig::default(), Vec::new()),
            namespaces: all(client, informers),
            replication_controllers: all(client, informers),
            services: all(client, informers),
            endpoints: all(client, informers),
            slices: some(
                client,
                informers,
                WatchConfig::default().labels(&ours),
                vec![
                    Index::new(BY_SERVICE, |slice| service_of(slice, SLICES)),
                    Index::new(MIRRORED, |slice| service_of(slice, MIRRORS)),
                ],
            ),
            accounts: all(client, informers),
            token_secrets: some(
                client,
                informers,
                WatchConfig::default().fields(&of_tokens),
                vec![Index::new(BY_ACCOUNT, |secret| {
                    account_of(secret).map(|key| key.to_string()).into_iter().collect()
                })],
            ),
            root_cas: some(client, informers, WatchConfig::default().fields(&named_root_ca), Vec::new()),
            quotas: all(client, informers),
            budgets: all(client, informers),
            claims: all(client, informers),
            volumes: all(client, informers),
            ranges: informers.start(
                Api::all_with(client.clone(), &ApiResource::erase::<ServiceCIDR>(&())),
                WatchConfig::default(),
                Vec::new(),
            ),
        }
    }

    /// Waits until every store has been filled once.
    pub async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.leases.synced().await;
        self.namespaces.synced().await;
        self.replication_controllers.synced().await;
        self.services.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
        self.accounts.synced().await;
        self.token_secrets.synced().await;
        self.root_cas.synced().await;
        self.quotas.synced().await;
        self.budgets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.ranges.synced().await;
    }
}

fn all<K>(client: &Client, informers: &mut Informers) -> Store<K>
where
    K: Object + Resource<DynamicType = ()>,
{
    informers.start(Api::all(client.clone()), WatchConfig::default(), Vec::new())
}

fn some<K>(client: &Client, informers: &mut Informers, which: WatchConfig, indexes: Vec<Index<K>>) -> Store<K>
where
    K: Object + Resource<DynamicType = ()> + k8s_openapi::Resource<Scope = NamespaceResourceScope>,
{
    informers.start(Api::all(client.clone()), which, indexes)
}

fn pod_indexes() -> Vec<Index<Pod>> {
    vec![
        Index::new(BY_NODE, |pod| api::pods::node_name(pod).map(str::to_owned).into_iter().collect()),
        Index::new(BY_CONTROLLER, |pod| {
            api::owners::controller_of(&pod.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
        }),
        Index::new(ORPHANS, |pod| match api::owners::controller_of(&pod.metadata) {
            None => pod.metadata.namespace.clone().into_iter().collect(),
            Some(_) => Vec::new(),
        }),
        Index::new(ENDED, |pod| if pods::is_terminal(pod) { vec![ENDED.to_owned()] } else { Vec::new() }),
    ]
}

fn service_of(slice: &EndpointSlice, manager: &str) -> Vec<String> {
    service_key(slice, manager).map(|key| key.to_string()).into_iter().collect()
}

/// The service that a slice of this manager belongs to.
pub fn service_key(slice: &EndpointSlice, manager: &str) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(ENDPOINTSLICE_MANAGED_BY).is_none_or(|found| found != manager) {
        return None;
    }
    let name = labels.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// The service account that a token secret belongs to.
pub fn account_of(secret: &Secret) -> Option<ObjectKey> {
    let name = secret.metadata.annotations.as_ref()?.get(annotations::SERVICE_ACCOUNT_NAME)?;
    Some(ObjectKey::new(secret.metadata.namespace.as_deref().unwrap_or_default(), name))
}
