//! The Node authorizer: a kubelet reads and writes its own node, the pods bound to it, and what these pods refer to.
//! Entry point: [`NodeAuthorizer::authorize`].
//!
//! The graph is derived from the cached pods of the one node that asks; a pod's references are read once for each revision.

mod references;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::names::Revision;
use api::well_known::{groups, namespaces, users};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::PolicyRule;

pub use self::references::{Reference, references};
use super::{Attributes, Decision, Target, rules};
use crate::authn::User;
use crate::view::{self, View};

/// See the module.
pub struct NodeAuthorizer {
    objects: Arc<dyn View>,
    rules: Vec<PolicyRule>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// References of the pods of one node, by the key of the pod.
type Seen = BTreeMap<Arc<str>, (Revision, Arc<Vec<Reference>>)>;

/// What a request asks, taken apart.
struct Asked<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

/// The name of the node behind a user, if the user is a kubelet.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(users::NODE_PREFIX)?;
    user.groups.iter().any(|group| group == groups::NODES).then_some(name)
}

impl NodeAuthorizer {
    /// Over these objects.
    pub fn new(objects: Arc<dyn View>) -> Self {
        Self { objects, rules: crate::bootstrap::policy::node_rules(), seen: Mutex::default() }
    }

    /// Decides.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let Some(node) = node_of(&attributes.user) else { return Decision::NoOpinion(String::new()) };
        if node.is_empty() {
            return no(format!("unknown node for user \"{}\"", attributes.user.name));
        }
        if let Target::Resource { group, resource, subresource, namespace, name, .. } = &attributes.target {
            let asked = Asked { verb: &attributes.verb, group, resource, subresource, namespace, name };
            let limited = match (asked.group, asked.resource) {
                ("", "secrets") => Some(self.read(node, &asked, Reference::Secret)),
                ("", "configmaps") => Some(self.read(node, &asked, Reference::ConfigMap)),
                ("", "persistentvolumeclaims") => Some(self.claim(node, &asked)),
                ("", "persistentvolumes") => Some(self.volume(node, &asked)),
                ("resource.k8s.io", "resourceclaims") => Some(self.get(node, &asked, Reference::ResourceClaim)),
                ("storage.k8s.io", "volumeattachments") => Some(self.attachment(node, &asked)),
                ("", "serviceaccounts") => Some(self.account(node, &asked)),
                ("coordination.k8s.io", "leases") => Some(lease(node, &asked)),
                ("storage.k8s.io", "csinodes") => Some(csi_node(node, &asked)),
                ("", "nodes") => Some(own_node(node, &asked)),
                ("", "pods") => Some(own_pods(node, &asked, &attributes.fields)),
                _ => None,
            };
            if let Some(decision) = limited {
                return decision;
            }
        }
        match self.rules.iter().any(|rule| rules::allows(rule, attributes)) {
            true => yes(),
            false => no(""),
        }
    }

    fn read(&self, node: &str, asked: &Asked<'_>, kind: fn(String, String) -> Reference) -> Decision {
        if !["get", "list", "watch"].contains(&asked.verb) {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.referenced(node, asked, kind)
    }

    fn get(&self, node: &str, asked: &Asked<'_>, kind: fn(String, String) -> Reference) -> Decision {
        match (asked.verb, asked.subresource) {
            ("get", "") => self.referenced(node, asked, kind),
            ("get", _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn referenced(&self, node: &str, asked: &Asked<'_>, kind: fn(String, String) -> Reference) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        let wanted = kind(asked.namespace.to_owned(), asked.name.to_owned());
        let found = self.references_of(node).iter().any(|references| references.contains(&wanted));
        if found { yes() } else { unrelated(node) }
    }

    fn claim(&self, node: &str, asked: &Asked<'_>) -> Decision {
        match (asked.subresource, asked.verb) {
            ("status", "get" | "update" | "patch") => self.referenced(node, asked, Reference::Claim),
            ("status", _) => no("can only get/update/patch status on resources of this type"),
            _ => self.get(node, asked, Reference::Claim),
        }
    }

    fn volume(&self, node: &str, asked: &Asked<'_>) -> Decision {
        match (asked.verb, asked.subresource, asked.name) {
            ("get", "", "") => no("No Object name found"),
            ("get", "", name)
                if self.references_of(node).iter().flat_map(|all| all.iter()).any(|one| self.binds(one, name)) =>
            {
                yes()
            }
            ("get", "", _) => unrelated(node),
            ("get", _, _) => no("cannot get subresource"),
            _ => no("can only get individual resources of this type"),
        }
    }

    fn binds(&self, reference: &Reference, volume: &str) -> bool {
        let Reference::Claim(namespace, name) = reference else { return false };
        let claim: Option<PersistentVolumeClaim> =
            view::get_as(self.objects.as_ref(), "", "persistentvolumeclaims", namespace, name);
        claim.and_then(|claim| claim.spec?.volume_name).is_some_and(|bound| bound == volume)
    }

    fn attachment(&self, node: &str, asked: &Asked<'_>) -> Decision {
        use k8s_openapi::api::storage::v1::VolumeAttachment;
        if asked.verb != "get" || !asked.subresource.is_empty() {
            return no("can only get individual resources of this type");
        }
        let found: Option<VolumeAttachment> =
            view::get_as(self.objects.as_ref(), "storage.k8s.io", "volumeattachments", "", asked.name);
        if found.is_some_and(|attachment| attachment.spec.node_name == node) { yes() } else { unrelated(node) }
    }

    fn account(&self, node: &str, asked: &Asked<'_>) -> Decision {
        match (asked.verb, asked.subresource) {
            ("create", "token") => self.referenced(node, asked, Reference::ServiceAccount),
            ("get", "") => self.referenced(node, asked, Reference::ServiceAccount),
            _ => no("can only create tokens for individual service accounts"),
        }
    }

    fn references_of(&self, node: &str) -> Vec<Arc<Vec<Reference>>> {
        let pods = self.objects.pods_on(node);
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = all.remove(node).unwrap_or_default();
        let mut now = Seen::new();
        for item in pods {
            let kept = before.remove(&item.key).filter(|(revision, _)| *revision == item.revision);
            let read = || serde_json::from_slice::<Pod>(&item.bytes).map(|pod| references(&pod)).unwrap_or_default();
            let entry = kept.unwrap_or_else(|| (item.revision, Arc::new(read())));
            now.insert(item.key, entry);
        }
        let references = now.values().map(|(_, references)| Arc::clone(references)).collect();
        if !now.is_empty() {
            all.insert(node.to_owned(), now);
        }
        references
    }
}

fn lease(node: &str, asked: &Asked<'_>) -> Decision {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != namespaces::NODE_LEASE {
        return no(format!("can only access leases in the \"{}\" system namespace", namespaces::NODE_LEASE));
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, asked: &Asked<'_>) -> Decision {
    if !["get", "create", "update", "patch", "delete"].contains(&asked.verb) {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

/// Creating and updating other nodes is refused by the NodeRestriction admission plugin, which knows the name.
fn own_node(node: &str, asked: &Asked<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") if asked.name == node => yes(),
        ("", "get" | "list" | "watch") if asked.name.is_empty() => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            no(format!("node '{node}' cannot read '{}', only its own Node object", asked.name))
        }
        _ => no(""),
    }
}

/// Writes to pods of other nodes are refused by the NodeRestriction admission plugin.
fn own_pods(node: &str, asked: &Asked<'_>, fields: &[(String, String)]) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "get" | "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
        ("", "list" | "watch") if fields.iter().any(|(field, value)| field == "spec.nodeName" && value == node) => {
            yes()
        }
        ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
        _ => no(""),
    }
}

fn unrelated(node: &str) -> Decision {
    no(format!("no relationship found between node '{node}' and this object"))
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture::Objects;
    use serde_json::json;

    fn authorizer() -> NodeAuthorizer {
        let spec = json!({
            "nodeName": "a", "serviceAccountName": "sa", "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}],
        });
        NodeAuthorizer::new(Arc::new(Objects::with(&[
            ("", "pods", json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})),
            (
                "",
                "persistentvolumeclaims",
                json!({"metadata": {"name": "claim", "namespace": "n"}, "spec": {"volumeName": "pv"}}),
            ),
        ])))
    }

    #[test]
    fn a_node_reaches_its_own_and_what_its_pods_need() {
        let authorizer = authorizer();
        let unrelated = |node: &str| Some(format!("no relationship found between node '{node}' and this object"));
        let said = |reason: &str| Some(reason.to_owned());
        let at = Target::resource;
        let table = [
            ("a", "get", at("", "secrets", "", "n", "s"), None),
            ("b", "get", at("", "secrets", "", "n", "s"), unrelated("b")),
            ("a", "get", at("", "secrets", "", "n", "other"), unrelated("a")),
            ("a", "list", at("", "secrets", "", "n", ""), said("No Object name found")),
            ("a", "update", at("", "secrets", "", "n", "s"), said("can only read resources of this type")),
            ("a", "create", at("", "serviceaccounts", "token", "n", "sa"), None),
            ("b", "create", at("", "serviceaccounts", "token", "n", "sa"), unrelated("b")),
            ("a", "get", at("", "persistentvolumeclaims", "", "n", "claim"), None),
            ("a", "get", at("", "persistentvolumes", "", "", "pv"), None),
            ("b", "get", at("", "persistentvolumes", "", "", "pv"), unrelated("b")),
            ("a", "update", at("coordination.k8s.io", "leases", "", "kube-node-lease", "a"), None),
            (
                "a",
                "update",
                at("coordination.k8s.io", "leases", "", "kube-node-lease", "b"),
                said("can only access node lease with the same name as the requesting node"),
            ),
            ("a", "get", at("", "nodes", "", "", "a"), None),
            ("a", "get", at("", "nodes", "", "", "b"), said("node 'a' cannot read 'b', only its own Node object")),
            (
                "a",
                "list",
                at("", "nodes", "", "", ""),
                said("node 'a' cannot read all nodes, only its own Node object"),
            ),
            ("a", "patch", at("", "nodes", "status", "", "a"), None),
            ("a", "delete", at("", "nodes", "", "", "a"), said("")),
            (
                "a",
                "list",
                at("", "pods", "", "", ""),
                said("can only list/watch pods with spec.nodeName field selector"),
            ),
            ("a", "list", at("", "services", "", "", ""), None),
            ("a", "create", at("", "events", "", "n", ""), None),
            ("a", "create", at("", "replicationcontrollers", "", "n", ""), said("")),
        ];
        for (node, verb, target, refused) in table {
            let user = User {
                name: format!("system:node:{node}"),
                groups: vec!["system:nodes".to_owned()],
                ..User::default()
            };
            let expected = refused.map_or_else(yes, Decision::NoOpinion);
            let attributes = Attributes::new(&user, verb, target);
            assert_eq!(authorizer.authorize(&attributes), expected, "{attributes:?}");
        }
    }

    #[test]
    fn pods_are_listed_by_node_and_only_kubelets_are_nodes() {
        let authorizer = authorizer();
        let node =
            User { name: "system:node:a".to_owned(), groups: vec!["system:nodes".to_owned()], ..User::default() };
        let list = Attributes::new(&node, "list", Target::resource("", "pods", "", "", ""));
        assert_eq!(authorizer.authorize(&list.clone().with_field_selector(Some("spec.nodeName=a"))), yes());
        assert_ne!(authorizer.authorize(&list.with_field_selector(Some("spec.nodeName=b"))), yes());
        let pretender = User { groups: Vec::new(), ..node };
        let services = Attributes::new(&pretender, "list", Target::resource("", "services", "", "", ""));
        assert_eq!(authorizer.authorize(&services), no(""));
    }
}
