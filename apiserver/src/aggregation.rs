//! Groups that another server answers for, as their APIServices say. This server passes nothing on: requests for them are told
//! that the service is unavailable, as upstream's aggregator tells them of a server that it can't reach.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::resources::api_service::is_local;
use crate::view::View;

/// The group of APIServices.
pub const GROUP: &str = "apiregistration.k8s.io";
/// Their plural.
pub const PLURAL: &str = "apiservices";

/// A group and version that another server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Of the group among groups.
    pub group_priority: i32,
    /// Of the version in its group.
    pub version_priority: i32,
}

/// Whether another server answers for a group and version.
pub fn is_remote(remotes: &[Remote], group: &str, version: &str) -> bool {
    remotes.iter().any(|remote| remote.group == group && remote.version == version)
}

/// What is known of remote groups, read once for each state of the APIServices.
#[derive(Default)]
pub struct Remotes(Mutex<(u64, Arc<Vec<Remote>>)>);

impl Remotes {
    /// As they are now.
    pub fn current(&self, view: &dyn View) -> Arc<Vec<Remote>> {
        let version = view.version(GROUP, PLURAL);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            let found = view.list(GROUP, PLURAL, "");
            let found = found.iter().filter_map(|item| serde_json::from_slice::<APIService>(&item.bytes).ok());
            let found = found.filter(|service| !is_local(service)).map(|service| {
                let spec = service.spec.unwrap_or_default();
                Remote {
                    group: spec.group.unwrap_or_default(),
                    version: spec.version.unwrap_or_default(),
                    group_priority: spec.group_priority_minimum,
                    version_priority: spec.version_priority,
                }
            });
            *known = (version, Arc::new(found.collect()));
        }
        Arc::clone(&known.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture::Objects;
    use serde_json::json;

    #[test]
    fn only_those_with_a_service_are_remote() {
        let object = |name: &str, service: serde_json::Value| {
            json!({"metadata": {"name": name}, "spec": {"group": "a.b", "version": name, "groupPriorityMinimum": 7,
                "versionPriority": 8, "service": service}})
        };
        let objects = Objects::with(&[(GROUP, PLURAL, object("v1", json!(null)))]);
        let remotes = Remotes::default();
        assert_eq!(*remotes.current(&objects), []);
        objects.put(GROUP, PLURAL, object("v2", json!({"namespace": "n", "name": "s"})));
        let expected = Remote { group: "a.b".into(), version: "v2".into(), group_priority: 7, version_priority: 8 };
        assert_eq!(*remotes.current(&objects), [expected]);
    }
}
