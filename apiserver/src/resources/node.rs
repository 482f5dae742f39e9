//! Node: a machine that runs pods. Its spec is nearly fixed; the kubelet writes its status.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{Node as Object, NodeSpec, Taint};
use serde_json::Value;

use super::printing::{self, AGE, NAME, or_none, or_unknown};
use super::{Columns, Kind, MetadataCheck, Subresource, address_warnings, checks, internal, pod_spec};

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
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        agree_on_ranges(spec);
        if let Some(status) = &mut object.status
            && status.allocatable.as_ref().is_none_or(|amounts| amounts.is_empty())
        {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    /// What once configured kubelets is dropped.
    fn prepare_for_create(object: &mut Object) {
        object.spec.get_or_insert_default().config_source = None;
        if let Some(status) = &mut object.status {
            status.config = None;
        }
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        new.spec.get_or_insert_default().config_source = None;
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        if let Some(status) = &mut new.status {
            status.config = None;
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = object.spec.clone().unwrap_or_default();
        taints(&mut errors, spec.taints.as_deref().unwrap_or_default());
        amounts(&mut errors, object);
        ranges(&mut errors, spec.pod_cidrs.as_deref().unwrap_or_default());
        errors
    }

    /// Upstream looks at everything as if the node were new, and then at what changed.
    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        changes(&mut errors, new, old);
        errors
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        changes(&mut errors, new, old);
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let spec = new.spec.clone().unwrap_or_default();
        let old = spec.external_id.is_some_and(|id| !id.is_empty());
        let old = old.then(|| "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        let path = FieldPath::root("spec").child("podCIDRs");
        let ranges = spec.pod_cidrs.iter().flatten().enumerate();
        let ranges = ranges.filter_map(|(i, range)| address_warnings::range(&path.index(i), range));
        old.into_iter().chain(ranges).collect()
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

/// Everything that is wrong with what changed, status included.
fn changes(errors: &mut FieldErrors, new: &Object, old: &Object) {
    amounts(errors, new);
    let addresses = new.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    for (i, address) in addresses.iter().enumerate().filter(|(i, address)| addresses[..*i].contains(address)) {
        let path = FieldPath::root("status").child("addresses").index(i);
        let detail = internal::one_line("v1.NodeAddress", address);
        errors.push(FieldError { kind: FieldErrorKind::Duplicate, path, value: None, detail });
    }
    let path = FieldPath::root("spec");
    let (now, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let (ranges, known) = (now.pod_cidrs.unwrap_or_default(), before.pod_cidrs.unwrap_or_default());
    let changed = match known.len() {
        0 => 0,
        count if count != ranges.len() => 1,
        _ => known.iter().zip(&ranges).filter(|(known, range)| known != range).count(),
    };
    for _ in 0..changed {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
    }
    let known = before.provider_id.unwrap_or_default();
    if !known.is_empty() && now.provider_id.unwrap_or_default() != known {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
    taints(errors, now.taints.as_deref().unwrap_or_default());
    if now.external_id.unwrap_or_default() != before.external_id.unwrap_or_default() {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
}

/// Upstream reports taints below metadata.
fn taints(errors: &mut FieldErrors, taints: &[Taint]) {
    let path = FieldPath::root("metadata").child("taints");
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let value = taint.value.as_deref().unwrap_or_default();
        checks::label_key(errors, &path.child("key"), &taint.key);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&path.child("value"), value, wrong.join(";")));
        }
        pod_spec::taint_effect(errors, &path.child("effect"), &taint.effect);
        if taints[..i].iter().any(|known| known.key == taint.key && known.effect == taint.effect) {
            let shown = internal::one_line("v1.Taint", taint);
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
            checks::resource_quantity(errors, &path, resource, amount);
        }
    }
}

/// Ranges for pods: valid ones, one of each family at most.
fn ranges(errors: &mut FieldErrors, ranges: &[String]) {
    let path = FieldPath::root("spec").child("podCIDRs");
    for (i, range) in ranges.iter().enumerate() {
        checks::cidr(errors, &path.index(i), range);
    }
    if ranges.len() < 2 {
        return;
    }
    let parsed: Vec<_> = ranges.iter().map(|range| checks::parse_cidr(range)).collect();
    if let Some(i) = parsed.iter().position(Option::is_none) {
        let range = api::field::go_quote(&ranges[i]);
        let detail = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:failed to parse cidr value:{range} with error:invalid CIDR address: {}",
            ranges[i]
        );
        errors.push(FieldError::internal(&path, detail));
    }
    let fourth = parsed.iter().flatten().filter(|(ip, _)| ip.is_ipv4()).count();
    let both = parsed.iter().all(Option::is_some) && (1..ranges.len()).contains(&fourth);
    if !both || ranges.len() > 2 {
        errors.push(FieldError::invalid(&path, ranges, "may specify no more than one CIDR for each IP family"));
    }
    for (i, range) in ranges.iter().enumerate().filter(|(i, range)| ranges[..*i].contains(range)) {
        errors.push(FieldError::duplicate(&path.index(i), range));
    }
}

fn status_word(object: &Object) -> String {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let word = match conditions.iter().rev().find(|condition| condition.type_ == "Ready") {
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
    fn what_once_configured_kubelets_is_dropped() {
        let source = json!({"configMap": {"namespace": "n", "name": "c", "kubeletConfigKey": "k"}});
        let sent =
            node(json!({"spec": {"configSource": source, "externalID": "x"}, "status": {"config": {"error": "x"}}}));
        let mut made = sent.clone();
        Node::prepare_for_create(&mut made);
        assert_eq!(made, node(json!({"spec": {"externalID": "x"}, "status": {}})));
        let (mut changed, mut reported) = (sent.clone(), sent);
        Node::prepare_for_update(&mut changed, &made);
        Node::prepare_for_status_update(&mut reported, &made);
        assert_eq!((&changed, &reported), (&made, &made));
        assert_eq!(
            Node::warnings(&made, None),
            ["spec.externalID: this field is deprecated, and is unused by Kubernetes"]
        );
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
                json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.0.0/24"]}}),
                "[spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.0.0/24\"]: may specify no more than one CIDR for each IP family, spec.podCIDRs[1]: Duplicate value: \"10.0.0.0/24\"]",
            ),
            (json!({"spec": {"podCIDRs": ["10.0.0.0/24", "2001:db8::/64"]}}), "[]"),
            (
                json!({"status": {"capacity": {"cpu": "-1"}, "allocatable": {"moons": "1"}}}),
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
        let address = json!({"type": "InternalIP", "address": "10.0.0.1"});
        let twice = node(json!({"status": {"addresses": [address, address]}}));
        let message = "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"10.0.0.1\"}";
        assert_eq!(
            Node::validate_status_update(&twice, &old).to_string().split(", spec").next(),
            Some(&*format!("[{message}"))
        );
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
