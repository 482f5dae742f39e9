//! [`Resources`]: the set of resources that this server serves at the moment. Entry point: [`Resources::find`].
//!
//! Invariant: no two rows share group, version and plural. The set can be replaced while requests run; a request that found
//! its row keeps it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use api::names::{GroupKind, GroupResource};

use super::{ResourceInfo, Strategy, Subresource};

type Key = (String, String, String);

/// One consistent state of the set.
#[derive(Default)]
pub struct Served {
    rows: Vec<Arc<dyn Strategy>>,
    index: BTreeMap<Key, usize>,
}

impl Served {
    fn new(rows: Vec<Arc<dyn Strategy>>) -> Self {
        let key = |info: &ResourceInfo| (info.group.clone(), info.version.clone(), info.plural.clone());
        let index = rows.iter().enumerate().map(|(at, row)| (key(row.info()), at)).collect();
        Self { rows, index }
    }

    /// All rows in the order of the table.
    pub fn rows(&self) -> &[Arc<dyn Strategy>] {
        &self.rows
    }
}

/// See the module's documentation.
pub struct Resources {
    served: RwLock<Arc<Served>>,
}

impl Resources {
    /// The resources of these rows.
    pub fn new(rows: Vec<Box<dyn Strategy>>) -> Self {
        let rows = rows.into_iter().map(Arc::from).collect();
        Self { served: RwLock::new(Arc::new(Served::new(rows))) }
    }

    /// Serves these kinds besides the table's, instead of those before.
    pub fn set_custom(&self, custom: Vec<Arc<dyn Strategy>>) {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let built_in = served.rows.iter().filter(|row| !row.info().custom).cloned();
        *served = Arc::new(Served::new(built_in.chain(custom).collect()));
    }

    /// The set as it is now.
    pub fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The row of a resource.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<dyn Strategy>> {
        let served = self.served();
        let at = served.index.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))?;
        served.rows.get(*at).cloned()
    }

    /// The row of a resource in whichever version is served first.
    pub fn find_any_version(&self, group: &str, plural: &str) -> Option<Arc<dyn Strategy>> {
        let served = self.served();
        let row = served.rows.iter().find(|row| row.info().group == group && row.info().plural == plural);
        row.cloned()
    }
}

impl Subresource {
    /// As it stands in paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Approval => "approval",
        }
    }
}

impl ResourceInfo {
    /// `v1` or `group/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The same for the stored form.
    pub fn stored_api_version(&self) -> String {
        if self.stored_group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.stored_group, self.version)
        }
    }

    /// As errors name the resource.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.plural)
    }

    /// As errors name the kind.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.stored_group, &self.kind)
    }

    /// What all keys of this resource begin with.
    pub fn key_prefix(&self) -> String {
        format!("/registry/{}/", self.storage_prefix)
    }

    /// What the keys of a namespace begin with; of all namespaces if it is empty.
    pub fn namespace_prefix(&self, namespace: &str) -> String {
        match namespace {
            "" => self.key_prefix(),
            namespace => format!("/registry/{}/{namespace}/", self.storage_prefix),
        }
    }

    /// The key of one object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("/registry/{}/{namespace}/{name}", self.storage_prefix)
        } else {
            format!("/registry/{}/{name}", self.storage_prefix)
        }
    }

    /// The key that upstream's store has for the object, which errors show: groups are part of it only for what
    /// other servers than kube-apiserver's own serve, and a few old kinds have old names
    /// (`SpecialDefaultResourcePrefixes`).
    pub fn key_upstream(&self, namespace: &str, name: &str) -> String {
        let delegated = ["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&self.stored_group.as_str());
        let prefix = match self.plural.as_str() {
            _ if self.custom || delegated => format!("{}/{}", self.stored_group, self.plural),
            "replicationcontrollers" => "controllers".to_owned(),
            "endpoints" => "services/endpoints".to_owned(),
            "services" => "services/specs".to_owned(),
            "nodes" => "minions".to_owned(),
            "ingresses" => "ingress".to_owned(),
            plural => plural.to_owned(),
        };
        let namespace = if self.namespaced { format!("{namespace}/") } else { String::new() };
        format!("/registry/{prefix}/{namespace}{name}")
    }
}
