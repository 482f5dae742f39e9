//! Node: a machine that runs pods. Its spec is nearly fixed; the kubelet writes its status.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{Node as Object, NodeSpec, Taint};
use serde_json::Value;

use super::printing::{self, AGE, NAME, or_none, or_unknown};
use super::{Columns, Kind, Subresource, checks, pod_spec};

/// See the module.
pub struct Node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

impl Kind for Node {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Proxy, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("spec.unschedulable", &["/spec/unschedulable", "false"])];

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        agree_on_ranges(spec);
        if let Some(status) = &mut object.status
            && status.allocatable.as_ref().is_none_or(|amounts| amounts.is_empty())
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = object.spec.clone().unwrap_or_default();
        // Upstream reports taints below metadata.
        taints(&mut errors, &FieldPath::root("metadata").child("taints"), spec.taints.as_deref().unwrap_or_default());
        amounts(&mut errors, object);
        let path = FieldPath::root("spec").child("podCIDRs");
        let ranges = spec.pod_cidrs.as_deref().unwrap_or_default();
        for (i, range) in ranges.iter().enumerate() {
            checks::cidr(&mut errors, &path.index(i), range);
        }
        let v4 = ranges.iter().filter(|range| checks::parse_cidr(range).is_some_and(|(ip, _)| ip.is_ipv4())).count();
        if errors.is_empty() && (v4 > 1 || ranges.len() - v4 > 1) {
            errors.push(FieldError::invalid(&path, ranges, "may specify no more than one CIDR for each IP family"));
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let (new_spec, old_spec) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        taints(
            &mut errors,
            &FieldPath::root("metadata").child("taints"),
            new_spec.taints.as_deref().unwrap_or_default(),
        );
        amounts(&mut errors, new);
        let known = old_spec.pod_cidrs.unwrap_or_default();
        if !known.is_empty() && new_spec.pod_cidrs.unwrap_or_default() != known {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
        }
        let known = old_spec.provider_id.unwrap_or_default();
        if !known.is_empty() && new_spec.provider_id.unwrap_or_default() != known {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("providerID"), detail));
        }
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let addresses = new.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        for (i, address) in addresses.iter().enumerate() {
            if addresses[..i].contains(address) {
                errors.push(FieldError::duplicate(&FieldPath::root("status").child("addresses").index(i), address));
            }
        }
        amounts(&mut errors, new);
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Status", "The status of the node"),
            printing::text("Roles", "The roles of the node"),
            AGE,
            printing::text("Version", "Kubelet Version reported by the node."),
            printing::wide(
                "Internal-IP",
                "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses",
            ),
            printing::wide(
                "External-IP",
                "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses",
            ),
            printing::wide(
                "OS-Image",
                "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
            ),
            printing::wide(
                "Kernel-Version",
                "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
            ),
            printing::wide(
                "Container-Runtime",
                "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let status = object.status.clone().unwrap_or_default();
                let info = status.node_info.unwrap_or_default();
                let address = |kind: &str| {
                    let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
                    Value::from(or_none(found.map(|address| address.address.as_str()).unwrap_or_default()))
                };
                vec![
                    printing::name(&object.metadata),
                    Value::from(status_word(object)),
                    Value::from(roles(object)),
                    printing::age(&object.metadata, now),
                    Value::from(info.kubelet_version),
                    address("InternalIP"),
                    address("ExternalIP"),
                    Value::from(or_unknown(&info.os_image)),
                    Value::from(or_unknown(&info.kernel_version)),
                    Value::from(or_unknown(&info.container_runtime_version)),
                ]
            },
        }
    }
}

/// `podCIDR` is the first of `podCIDRs`.
fn agree_on_ranges(spec: &mut NodeSpec) {
    let range = spec.pod_cidr.clone().filter(|range| !range.is_empty());
    let first = spec.pod_cidrs.as_ref().and_then(|ranges| ranges.first()).cloned();
    match (range, first) {
        (Some(range), first) if first.as_ref() != Some(&range) => spec.pod_cidrs = Some(vec![range]),
        (None, Some(first)) => spec.pod_cidr = Some(first),
        (Some(_) | None, _) => {}
    }
}

fn taints(errors: &mut FieldErrors, path: &FieldPath, taints: &[Taint]) {
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let value = taint.value.as_deref().unwrap_or_default();
        checks::label_key(errors, &path.child("key"), &taint.key);
        errors.push_invalid(&path.child("value"), value, names::label_value(value));
        pod_spec::taint_effect(errors, &path.child("effect"), &taint.effect);
        if taints[..i].iter().any(|known| known.key == taint.key && known.effect == taint.effect) {
            let (key, effect) = (&taint.key, &taint.effect);
            let added =
                taint.time_added.as_ref().map_or("null".to_owned(), |at| format!("{:?}", printing::seconds(at)));
            let shown =
                format!("{{\"Key\":\"{key}\",\"Value\":\"{value}\",\"Effect\":\"{effect}\",\"TimeAdded\":{added}}}");
            let detail = format!("{shown}: taints must be unique by key and effect pair");
            errors.push(FieldError { kind: FieldErrorKind::Duplicate, path, value: None, detail });
        }
    }
}

fn amounts(errors: &mut FieldErrors, object: &Object) {
    let Some(status) = &object.status else { return };
    for (field, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (resource, amount) in amounts.iter().flatten() {
            let path = FieldPath::root("status").child(field).child(resource);
            // A defaulted allocatable repeats what is wrong with the capacity.
            if field == "allocatable"
                && status.capacity.as_ref().and_then(|capacity| capacity.get(resource)) == Some(amount)
            {
                continue;
            }
            checks::resource_name(errors, &path, resource);
            checks::resource_quantity(errors, &path, resource, amount);
        }
    }
}

fn status_word(object: &Object) -> String {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let word = match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = object.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    if cordoned { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(object: &Object) -> String {
    let role = |(key, value): (&String, &String)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == ROLE_LABEL && !value.is_empty() => Some(value.clone()),
        Some(_) | None => None,
    };
    let roles: BTreeSet<String> = object.metadata.labels.iter().flatten().filter_map(role).collect();
    or_none(&roles.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(value: Value) -> Object {
        let mut object = serde_json::from_value(value).expect("a node");
        Node::set_defaults(&mut object);
        object
    }

    #[test]
    fn ranges_and_capacity_are_mirrored() {
        let object = node(json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "4"}}}));
        assert_eq!(object.spec.and_then(|spec| spec.pod_cidrs), Some(vec!["10.0.0.0/24".to_owned()]));
        assert_eq!(object.status.and_then(|status| status.allocatable).map(|amounts| amounts.len()), Some(1));
    }

    #[test]
    fn what_is_refused() {
        let taint = json!({"key": "k", "effect": "NoSchedule"});
        let table = [
            (
                json!({"spec": {"taints": [{"key": "k", "effect": "Sometimes"}]}}),
                "metadata.taints[0].effect: Unsupported value: \"Sometimes\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                json!({"spec": {"taints": [taint, taint]}}),
                "metadata.taints[1]: Duplicate value: {\"Key\":\"k\",\"Value\":\"\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
            ),
            (
                json!({"spec": {"podCIDR": "nine"}}),
                "spec.podCIDRs[0]: Invalid value: \"nine\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                json!({"status": {"capacity": {"cpu": "-1"}}}),
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ];
        for (value, message) in table {
            assert_eq!(Node::validate(&node(value)).to_string(), message);
        }
        let (old, new) =
            (node(json!({"spec": {"podCIDR": "10.0.0.0/24"}})), node(json!({"spec": {"podCIDR": "10.0.1.0/24"}})));
        let message = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
        assert_eq!(Node::validate_update(&new, &old).to_string(), message);
    }

    #[test]
    fn cells() {
        let object = node(
            json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "a"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "False"}], "addresses": [{"type": "InternalIP", "address": "10.3.3.3"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0"}}}),
        );
        let row = (Node::columns().cells)(&object, k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            [
                "n",
                "NotReady,SchedulingDisabled",
                "a,control-plane",
                "<unknown>",
                "v1.36.0",
                "10.3.3.3",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]
        );
    }
}
