//! PodTopologyLabels: a pod that gets its node gets the node's zone and region as labels too, in place of what it said itself.

use std::collections::BTreeMap;

use api::error::ApiError;
use api::well_known::labels;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Binding, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast_mut};
use crate::resources::Subresource;

const COPIED: [&str; 2] = [labels::REGION, labels::ZONE];

/// See the module.
pub struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.is_any("", "pods")
            && matches!(attributes.subresource, None | Some(Subresource::Binding))
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        match attributes.subresource {
            None => {
                let Some(pod) = downcast_mut::<Pod>(object) else { return Ok(()) };
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                copy(&mut pod.metadata, node, lookup).await
            }
            Some(Subresource::Binding) => {
                let Some(binding) = downcast_mut::<Binding>(object) else { return Ok(()) };
                let node = binding.target.name.clone().filter(|_| binding.target.kind.as_deref() == Some("Node"));
                copy(&mut binding.metadata, node, lookup).await
            }
            Some(_) => Ok(()),
        }
    }
}

/// What is read of a node.
#[derive(Deserialize)]
struct Labelled {
    metadata: Labels,
}

#[derive(Deserialize)]
struct Labels {
    labels: Option<BTreeMap<String, String>>,
}

async fn copy(meta: &mut ObjectMeta, node: Option<String>, lookup: &dyn Lookup) -> Result<(), ApiError> {
    let Some(name) = node.filter(|name| !name.is_empty()) else { return Ok(()) };
    let node: Option<Labelled> = find(lookup, "", "nodes", "", &name).await?;
    let all = node.and_then(|node| node.metadata.labels).unwrap_or_default();
    let copied: BTreeMap<String, String> =
        all.into_iter().filter(|(name, _)| COPIED.contains(&name.as_str())).collect();
    if !copied.is_empty() {
        meta.labels.get_or_insert_default().extend(copied);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn pods_are_where_their_node_is() {
        let node = |name: &str, labels: Value| ("", "nodes", json!({"metadata": {"name": name, "labels": labels}}));
        let zoned = json!({labels::ZONE: "z", labels::REGION: "", "kubernetes.io/os": "linux"});
        let nodes = Objects::with(&[node("n", zoned), node("m", json!({"kubernetes.io/os": "linux"}))]);
        let (info, user) = (resource("", "pods", "Pod", true), User::default());
        let table = [
            ("n", json!({}), json!({labels::ZONE: "z", labels::REGION: ""})),
            ("n", json!({"a": "b", labels::ZONE: "own"}), json!({"a": "b", labels::ZONE: "z", labels::REGION: ""})),
            ("m", json!({"a": "b"}), json!({"a": "b"})),
            ("gone", json!({}), json!({})),
            ("", json!({}), json!({})),
        ];
        for (node, labels, expected) in table {
            let meta = json!({"name": "x", "labels": labels});
            let mut pod: Pod =
                serde_json::from_value(json!({"metadata": meta, "spec": {"nodeName": node, "containers": []}}))
                    .expect("a pod");
            let mut attributes = create(&info, &user, "n");
            PodTopologyLabels.mutate(&attributes, Some(&mut pod), &nodes).await.expect("no error");
            assert_eq!(json!(pod.metadata.labels), expected, "{node}");
            attributes.subresource = Some(Subresource::Binding);
            for (kind, expected) in [(json!("Node"), &expected), (Value::Null, &labels)] {
                let target = json!({"kind": kind, "name": node});
                let mut binding: Binding =
                    serde_json::from_value(json!({"metadata": meta, "target": target})).expect("a binding");
                PodTopologyLabels.mutate(&attributes, Some(&mut binding), &nodes).await.expect("no error");
                assert_eq!(json!(binding.metadata.labels), *expected, "{node}");
            }
        }
    }
}
