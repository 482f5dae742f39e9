//! NodeRestriction: a kubelet writes only its own node, the pods bound to it, its lease, and tokens for these pods.

mod labels;
mod pods;

use api::error::ApiError;
use api::names::GroupResource;
use api::well_known::namespaces;
use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::authz::node::node_of;
use crate::object::{Object, downcast};
use crate::resources::Subresource;

/// See the module.
pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        node_of(attributes.user).is_some()
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(node) = node_of(attributes.user) else { return Ok(()) };
        let object = object.as_deref();
        if node.is_empty() {
            let why = format!("could not determine node from user \"{}\"", attributes.user.name);
            return Err(attributes.forbidden(object, &why));
        }
        let request = Request { node, attributes, object, lookup };
        match (attributes.resource.group.as_str(), attributes.resource.plural.as_str()) {
            ("", "pods") => request.pods().await,
            ("", "nodes") => request.nodes(),
            ("", "persistentvolumeclaims") if attributes.subresource != Some(Subresource::Status) => {
                Err(request.no("may only update PVC status"))
            }
            ("", "serviceaccounts") => request.token().await,
            ("coordination.k8s.io", "leases") => request.leases(),
            ("storage.k8s.io", "csinodes") if request.object_name() != node => {
                Err(request.no("can only access CSINode with the same name as the requesting node"))
            }
            _ => Ok(()),
        }
    }
}

/// A write by a kubelet.
struct Request<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    object: Option<&'a dyn Object>,
    lookup: &'a dyn Lookup,
}

impl Request<'_> {
    fn no(&self, why: &str) -> ApiError {
        self.attributes.forbidden(self.object, why)
    }

    /// `node "x"` and what is wrong, as upstream begins most refusals.
    fn node_may_not(&self, why: &str) -> ApiError {
        self.no(&format!("node \"{}\" {why}", self.node))
    }

    fn object_name(&self) -> &str {
        let of_object = || self.object.and_then(|object| object.metadata().name.as_deref()).unwrap_or_default();
        if self.attributes.name.is_empty() { of_object() } else { self.attributes.name }
    }

    fn operation(&self) -> &'static str {
        match self.attributes.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }

    async fn pod(&self, name: &str) -> Result<Pod, ApiError> {
        let pod = find(self.lookup, "", "pods", self.attributes.namespace, name).await?;
        pod.ok_or_else(|| ApiError::not_found(&GroupResource::new("", "pods"), name))
    }

    fn nodes(&self) -> Result<(), ApiError> {
        let name = self.object_name();
        if name != self.node {
            return Err(self.node_may_not(&format!("is not allowed to modify node \"{name}\"")));
        }
        let Some(new) = self.object.and_then(downcast::<Node>) else { return Ok(()) };
        let old = self.attributes.old.and_then(downcast::<Node>);
        let spec = |node: &Node| node.spec.clone().unwrap_or_default();
        if spec(new).config_source != old.and_then(|old| spec(old).config_source) {
            return Err(self.node_may_not("is not allowed to set a configSource"));
        }
        let verb = match (self.attributes.operation, old) {
            (Operation::Create, _) => "set the following labels",
            (Operation::Update, Some(old)) => {
                let taints = |node: &Node| spec(node).taints.unwrap_or_default();
                if taints(new) != taints(old) {
                    return Err(self.node_may_not("is not allowed to modify taints"));
                }
                if new.metadata.owner_references != old.metadata.owner_references {
                    return Err(self.node_may_not("is not allowed to modify ownerReferences"));
                }
                "modify labels"
            }
            _ => return Ok(()),
        };
        let forbidden =
            labels::forbidden(new.metadata.labels.as_ref(), old.and_then(|old| old.metadata.labels.as_ref()));
        match forbidden.is_empty() {
            true => Ok(()),
            false => Err(self.node_may_not(&format!("is not allowed to {verb}: {}", forbidden.join(", ")))),
        }
    }

    fn leases(&self) -> Result<(), ApiError> {
        if self.attributes.namespace != namespaces::NODE_LEASE {
            return Err(
                self.no(&format!("can only access leases in the \"{}\" system namespace", namespaces::NODE_LEASE))
            );
        }
        if self.object_name() != self.node {
            return Err(self.no("can only access node lease with the same name as the requesting node"));
        }
        Ok(())
    }

    /// Tokens only for pods of this node, and bound to them.
    async fn token(&self) -> Result<(), ApiError> {
        if self.attributes.operation != Operation::Create || self.attributes.subresource != Some(Subresource::Token) {
            return Ok(());
        }
        let bound = self
            .object
            .and_then(downcast::<TokenRequest>)
            .and_then(|request| request.spec.as_ref()?.bound_object_ref.as_ref());
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let Some(bound) = bound.filter(|bound| {
            text(&bound.api_version) == "v1" && text(&bound.kind) == "Pod" && !text(&bound.name).is_empty()
        }) else {
            return Err(self.no("node requested token not bound to a pod"));
        };
        let wanted = text(&bound.uid);
        if wanted.is_empty() {
            return Err(self.no("node requested token with a pod binding without a uid"));
        }
        let pod = self.pod(&text(&bound.name)).await?;
        if text(&pod.metadata.uid) != wanted {
            let why = "does not match the UID in record. The object might have been deleted and then recreated";
            return Err(self.no(&format!("the UID in the bound object reference ({wanted}) {why}")));
        }
        if api::pods::node_name(&pod) != Some(self.node) {
            return Err(self.no("node requested token bound to a pod scheduled on a different node"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::json;

    fn kubelet() -> User {
        User { name: "system:node:a".to_owned(), groups: vec!["system:nodes".to_owned()], ..User::default() }
    }

    async fn refused(attributes: &Attributes<'_>, object: Option<&mut dyn Object>) -> Option<String> {
        let objects = Objects::with(&[
            ("", "nodes", json!({"metadata": {"name": "a", "uid": "u-a"}})),
            (
                "",
                "pods",
                json!({"metadata": {"name": "mine", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "nodeName": "a"}}),
            ),
            (
                "",
                "pods",
                json!({"metadata": {"name": "other", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "nodeName": "b"}}),
            ),
        ]);
        let answer = NodeRestriction.mutate(attributes, object, &objects).await;
        answer.err().map(|error| {
            error.message.rsplit_once("is forbidden: ").map_or(error.message.clone(), |(_, why)| why.to_owned())
        })
    }

    #[tokio::test]
    async fn nodes_write_only_themselves() {
        let (nodes, user) = (resource("", "nodes", "Node", false), kubelet());
        let node = |value| serde_json::from_value::<Node>(value).expect("a node");
        let mut own = node(json!({"metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "a", "team": "x"}}}));
        let mut bad = node(
            json!({"metadata": {"name": "a", "labels": {"node-restriction.kubernetes.io/x": "", "node-role.kubernetes.io/master": ""}}}),
        );
        let mut tainted =
            node(json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
        let old = node(json!({"metadata": {"name": "a"}}));
        let create_a = || Attributes { name: "a", ..create(&nodes, &user, "") };
        let update = || Attributes { operation: Operation::Update, old: Some(&old), ..create_a() };
        assert_eq!(refused(&create_a(), Some(&mut own)).await, None);
        assert_eq!(
            refused(&Attributes { name: "b", ..create_a() }, Some(&mut own)).await.as_deref(),
            Some("node \"a\" is not allowed to modify node \"b\"")
        );
        let labels = "node-restriction.kubernetes.io/x, node-role.kubernetes.io/master";
        assert_eq!(
            refused(&create_a(), Some(&mut bad)).await,
            Some(format!("node \"a\" is not allowed to set the following labels: {labels}"))
        );
        assert_eq!(
            refused(&update(), Some(&mut bad)).await,
            Some(format!("node \"a\" is not allowed to modify labels: {labels}"))
        );
        assert_eq!(
            refused(&update(), Some(&mut tainted)).await.as_deref(),
            Some("node \"a\" is not allowed to modify taints")
        );
    }

    #[tokio::test]
    async fn pods_are_the_nodes_own() {
        let (pods, user) = (resource("", "pods", "Pod", true), kubelet());
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"containers": [], "nodeName": "a"}}))
                .expect("a pod");
        let at = |operation, name| Attributes { operation, name, ..create(&pods, &user, "n") };
        let text = |why: &str| Some(why.to_owned());
        assert_eq!(refused(&at(Operation::Delete, "mine"), None).await, None);
        assert_eq!(
            refused(&at(Operation::Delete, "other"), None).await,
            text("node \"a\" can only delete pods with spec.nodeName set to itself")
        );
        let mirror =
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"a\" can only create mirror pods";
        assert_eq!(refused(&at(Operation::Create, "x"), Some(&mut pod)).await, text(mirror));
        pod.metadata.annotations = Some([("kubernetes.io/config.mirror".to_owned(), "h".to_owned())].into());
        assert_eq!(
            refused(&at(Operation::Create, "x"), Some(&mut pod)).await,
            text("node \"a\" can only create pods with an owner reference set to itself")
        );
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u-a", "controller": true}]);
        pod.metadata.owner_references = serde_json::from_value(owner).expect("owners");
        assert_eq!(refused(&at(Operation::Create, "x"), Some(&mut pod)).await, None);
    }

    #[tokio::test]
    async fn tokens_are_for_the_nodes_pods() {
        let (accounts, user) = (resource("", "serviceaccounts", "ServiceAccount", true), kubelet());
        let attributes = Attributes { subresource: Some(Subresource::Token), ..create(&accounts, &user, "n") };
        let table = [
            (json!(null), Some("node requested token not bound to a pod")),
            (
                json!({"kind": "Pod", "apiVersion": "v1", "name": "mine"}),
                Some("node requested token with a pod binding without a uid"),
            ),
            (json!({"kind": "Pod", "apiVersion": "v1", "name": "mine", "uid": "u"}), None),
            (
                json!({"kind": "Pod", "apiVersion": "v1", "name": "other", "uid": "u"}),
                Some("node requested token bound to a pod scheduled on a different node"),
            ),
            (json!({"kind": "Pod", "apiVersion": "v1", "name": "gone", "uid": "u"}), Some("pods \"gone\" not found")),
        ];
        for (bound, expected) in table {
            let spec = json!({"audiences": [], "boundObjectRef": bound});
            let mut request: TokenRequest =
                serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a request");
            assert_eq!(refused(&attributes, Some(&mut request)).await.as_deref(), expected);
        }
    }
}
