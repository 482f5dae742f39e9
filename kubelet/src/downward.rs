//! What a pod may be told about itself: fields and resources, as text.
//!
//! Entry: [`field`] and [`resource`], used by environments and by downwardAPI volumes alike. Invariant: pure.

use std::collections::BTreeMap;

use api::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::members::members;

/// What is known about the node a pod runs on.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub name: String,
    pub ips: Vec<String>,
    /// What containers without a limit are told: the node's allocatable amounts.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Why a reference cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
}

/// The value of a `fieldRef`.
pub fn field(pod: &Pod, node: &NodeFacts, pod_ips: &[String], path: &str) -> Result<String, DownwardError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.labels" => Ok(text(meta.labels.as_ref().and_then(|labels| labels.get(key)))),
            "metadata.annotations" => Ok(text(meta.annotations.as_ref().and_then(|all| all.get(key)))),
            _ => Err(DownwardError::Field(path.to_owned())),
        };
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => node.name.clone(),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => node.ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => node.ips.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(DownwardError::Field(path.to_owned())),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as downwardAPI files show it: `key="value"` lines, sorted.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let quote = |value: &String| serde_json::to_string(value).unwrap_or_default();
    let lines: Vec<_> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; `owner` is the container it is written in, if it is written in one.
pub fn resource(
    pod: &Pod,
    node: &NodeFacts,
    owner: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, DownwardError> {
    let named;
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let found = members(pod).into_iter().find(|member| member.name() == name);
            named = found.ok_or_else(|| DownwardError::Container(name.to_owned()))?.container;
            &named
        }
        None => owner.ok_or_else(|| DownwardError::Container(String::new()))?,
    };
    let unsupported = || DownwardError::Resource(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.clone().unwrap_or_default();
    let find = |map: Option<&BTreeMap<String, _>>| map.and_then(|map| map.get(name)).cloned();
    let amount = match kind {
        "limits" => find(resources.limits.as_ref()),
        "requests" => find(resources.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let amount = amount.and_then(|wire| Quantity::try_from(&wire).ok());
    let amount = match amount {
        Some(amount) => amount,
        None if kind == "limits" => node.allocatable.get(name).copied().unwrap_or_default(),
        None => Quantity::default(),
    };
    Ok(divide(name, amount, selector).to_string())
}

/// Rounds up, in milli-units for cpu and in whole units for all else.
fn divide(name: &str, amount: Quantity, selector: &ResourceFieldSelector) -> i64 {
    let divisor = selector.divisor.as_ref().and_then(|wire| Quantity::try_from(wire).ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero());
    let (amount, divisor) = if name == "cpu" {
        (amount.milli_value(), divisor.map_or(1000, |divisor| divisor.milli_value()))
    } else {
        (amount.value(), divisor.map_or(1, |divisor| divisor.value()))
    };
    let divisor = divisor.max(1);
    amount / divisor + i64::from(amount % divisor > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"b": "2", "a": "say \"x\""}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "image": "i", "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1100m"}}}
            ]}
        }))
        .expect("a pod");
        let node = NodeFacts {
            name: "n".into(),
            ips: vec!["1.2.3.4".into()],
            allocatable: [("cpu".to_owned(), Quantity::parse("8").expect("a quantity"))].into(),
        };
        let ips = ["10.0.0.1".to_owned(), "fd::1".to_owned()];
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"say \\\"x\\\"\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "n"),
            ("status.hostIP", "1.2.3.4"),
            ("status.podIPs", "10.0.0.1,fd::1"),
        ] {
            assert_eq!(field(&pod, &node, &ips, path).as_deref(), Ok(expected), "{path}");
        }
        assert!(field(&pod, &node, &ips, "spec.containers").is_err());
        for (resource_name, divisor, expected) in [
            ("limits.memory", "1Mi", "1024"),
            ("limits.memory", "0", "1073741824"),
            ("requests.cpu", "0", "2"),
            ("requests.cpu", "1m", "1100"),
            ("limits.cpu", "1", "8"),
        ] {
            let selector = json!({"containerName": "c", "resource": resource_name, "divisor": divisor});
            let selector = serde_json::from_value(selector).expect("a selector");
            assert_eq!(resource(&pod, &node, None, &selector).as_deref(), Ok(expected), "{resource_name}/{divisor}");
        }
    }
}
