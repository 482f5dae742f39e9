//! What a kubelet can't say of a pod, and what it is warned of. Entry points: [`validate`], [`warnings`].

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod as Object, PodCondition, PodSpec, PodStatus};

use super::annotations;
use crate::resources::{address_warnings, checks};

const ID_MAX: i64 = i32::MAX as i64;
const NOT_NEGATIVE: &str = "must be a non-negative integer";

/// All errors of a write to `/status`.
pub fn validate(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let meta = FieldPath::root("metadata");
    let spec = new.spec.clone().unwrap_or_default();
    let (now, before) = (new.metadata.annotations.as_ref(), old.metadata.annotations.as_ref());
    annotations::changes(&mut errors, &meta.child("annotations"), now, before, &spec);
    let (now, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let path = FieldPath::root("status");
    conditions(&mut errors, &path.child("conditions"), now.conditions.as_deref().unwrap_or_default());
    let node = now.nominated_node_name.as_deref().unwrap_or_default();
    if !node.is_empty() && now.nominated_node_name != before.nominated_node_name {
        let path = path.child("nominatedNodeName");
        errors.push_invalid(&path, node, names::is_dns1123_subdomain(node));
        if spec.node_name.as_ref().is_some_and(|node| !node.is_empty()) {
            errors.push(FieldError::forbidden(&path, "may not be set on pods that are already bound to a node"));
        }
    }
    seen_before(&mut errors, &path, now.observed_generation);
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    checks::immutable(&mut errors, &path.child("qosClass"), &class(&now.qos_class), &class(&before.qos_class));
    transitions(&mut errors, &path, new, old);
    claims(&mut errors, &path.child("resourceClaimStatuses"), &spec, &now);
    let ips: Vec<&str> = now.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    addresses(&mut errors, &path.child("podIPs"), &ips);
    let ips: Vec<&str> = now.host_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    if let Some(first) = ips.first().filter(|first| now.host_ip.as_deref().unwrap_or_default() != **first) {
        let detail = "must be equal to `hostIP`";
        errors.push(FieldError::invalid(&path.child("hostIPs").index(0).child("ip"), first, detail));
    }
    addresses(&mut errors, &path.child("hostIPs"), &ips);
    users(&mut errors, &path, &spec, &now);
    errors
}

/// Addresses that are taken, but written as they should not be.
pub fn warnings(pod: &Object) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let path = FieldPath::root("status");
    let pods = status.pod_ips.iter().flatten().map(|address| &address.ip).enumerate();
    let hosts = status.host_ips.iter().flatten().map(|address| &address.ip).enumerate();
    let all = pods.map(|found| ("podIPs", found)).chain(hosts.map(|found| ("hostIPs", found)));
    all.filter_map(|(list, (i, ip))| address_warnings::address(&path.child(list).index(i).child("ip"), ip)).collect()
}

/// Conditions that Kubernetes does not know have names like labels.
fn conditions(errors: &mut FieldErrors, path: &FieldPath, conditions: &[PodCondition]) {
    for (i, condition) in conditions.iter().enumerate() {
        seen_before(errors, &path.index(i), condition.observed_generation);
        if !matches!(condition.type_.as_str(), "PodScheduled" | "Ready" | "Initialized") {
            checks::label_key(errors, &path.index(i).child("Type"), &condition.type_);
        }
    }
}

fn seen_before(errors: &mut FieldErrors, path: &FieldPath, generation: Option<i64>) {
    if let Some(generation) = generation.filter(|generation| *generation < 0) {
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, NOT_NEGATIVE));
    }
}

/// What a client says without the generation it saw stays as old as it was; conditions of one type are taken in turn.
pub fn keep_generations(new: &mut PodStatus, old: &PodStatus) {
    let unset = |generation: Option<i64>| generation.unwrap_or_default() == 0;
    if unset(new.observed_generation) {
        new.observed_generation = old.observed_generation;
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for condition in new.conditions.iter_mut().flatten() {
        let turn = taken.entry(condition.type_.clone()).or_default();
        let mut before = old.conditions.iter().flatten().filter(|known| known.type_ == condition.type_);
        let known = before.nth(*turn);
        *turn += 1;
        if let Some(known) = known.filter(|_| unset(condition.observed_generation)) {
            condition.observed_generation = known.observed_generation;
        }
    }
}

/// The claims that were made for the pod are those it asks for.
fn claims(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, status: &PodStatus) {
    let mut taken = BTreeSet::new();
    for (i, claim) in status.resource_claim_statuses.iter().flatten().enumerate() {
        let path = path.index(i).child("name");
        if !spec.resource_claims.iter().flatten().any(|known| known.name == claim.name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path, &claim.name, detail));
        }
        if !taken.insert(&claim.name) {
            errors.push(FieldError::duplicate(&path, &claim.name));
        }
        if let Some(name) = &claim.resource_claim_name {
            errors.push_invalid(&path, name, names::is_dns1123_subdomain(name));
        }
    }
}

/// Users of containers are of the pod's system, and possible ones.
fn users(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, status: &PodStatus) {
    let windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let lists = [
        ("containerStatuses", &status.container_statuses),
        ("initContainerStatuses", &status.init_container_statuses),
        ("ephemeralContainerStatuses", &status.ephemeral_container_statuses),
    ];
    for (list, statuses) in lists {
        for (i, found) in statuses.iter().flatten().enumerate() {
            let Some(user) = found.user.as_ref().and_then(|user| user.linux.as_ref()) else { continue };
            let path = path.child(list).index(i).child("linux");
            if windows {
                errors.push(FieldError::forbidden(&path, "cannot be set for a windows pod"));
                continue;
            }
            checks::in_range(errors, &path.child("uid"), user.uid, 0, ID_MAX);
            checks::in_range(errors, &path.child("gid"), user.gid, 0, ID_MAX);
            for (i, group) in user.supplemental_groups.iter().flatten().enumerate() {
                checks::in_range(errors, &path.child("supplementalGroups").index(i), *group, 0, ID_MAX);
            }
        }
    }
}

/// A container that has ended stays so, unless it or its pod says that it starts again; ephemeral ones never do.
fn transitions(errors: &mut FieldErrors, path: &FieldPath, new: &Object, old: &Object) {
    let spec = old.spec.clone().unwrap_or_default();
    let (now, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let lists: [(_, _, _, &[Container]); 3] = [
        ("containerStatuses", now.container_statuses, before.container_statuses, &spec.containers),
        ("initContainerStatuses", now.init_container_statuses, before.init_container_statuses, init),
        ("ephemeralContainerStatuses", now.ephemeral_container_statuses, before.ephemeral_container_statuses, &[]),
    ];
    for (name, now, before, containers) in lists {
        for (i, before) in before.iter().flatten().enumerate() {
            let Some(ended) = before.state.as_ref().and_then(|state| state.terminated.as_ref()) else { continue };
            let container = containers.iter().find(|container| container.name == before.name);
            let runs = |status: &ContainerStatus| {
                status.name == before.name && status.state.as_ref().is_none_or(|state| state.terminated.is_none())
            };
            let stays = container.is_none_or(|container| !starts_again(container, &spec, ended.exit_code));
            if stays && now.iter().flatten().any(runs) {
                let path = path.child(name).index(i).child("state");
                errors.push(FieldError::forbidden(&path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

/// The container's own rules come before its own policy, and that before the pod's.
fn starts_again(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let by = |policy: Option<&str>| match policy {
        Some("OnFailure") => code != 0,
        Some("Never") => false,
        Some(_) | None => true,
    };
    let Some(own) = container.restart_policy.as_deref() else { return by(spec.restart_policy.as_deref()) };
    let mut rules = container.restart_policy_rules.iter().flatten();
    let rule = rules.find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let named = codes.values.iter().flatten().any(|value| *value == code);
            codes.operator == "In" && named || codes.operator == "NotIn" && !named
        })
    });
    rule.is_some_and(|rule| rule.action == "Restart") || by(Some(own))
}

/// One of each family at most.
fn addresses(errors: &mut FieldErrors, path: &FieldPath, ips: &[&str]) {
    for (i, ip) in ips.iter().enumerate() {
        checks::ip(errors, &path.index(i), ip);
    }
    let second_family = ips.iter().filter(|ip| ip.contains(':')).count();
    if ips.len() > 2 || ips.len() == 2 && second_family != 1 {
        let shown: Vec<_> = ips.iter().map(|ip| serde_json::json!({"IP": ip})).collect();
        errors.push(FieldError::invalid(path, shown, "may specify no more than one IP for each IP family"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(policy: &str, status: Value) -> Object {
        with_container(policy, json!({"name": "c"}), status)
    }

    fn with_container(policy: &str, container: Value, status: Value) -> Object {
        serde_json::from_value(json!({"spec": {"restartPolicy": policy, "containers": [container]}, "status": status}))
            .expect("a pod")
    }

    #[test]
    fn what_has_ended_stays_so() {
        let status = |state: Value| json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        let (running, ended) = (json!({"running": {}}), |code: i32| json!({"terminated": {"exitCode": code}}));
        let refused = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        let table = [("Never", 1, refused), ("OnFailure", 1, "[]"), ("OnFailure", 0, refused), ("Always", 0, "[]")];
        for (policy, code, expected) in table {
            let (old, new) = (pod(policy, status(ended(code))), pod(policy, status(running.clone())));
            assert_eq!(validate(&new, &old).to_string(), expected, "{policy} {code}");
        }
        let own = |policy: &str, operator: &str| {
            json!({"name": "c", "restartPolicy": policy,
                "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]})
        };
        let table = [
            ("Never", own("Never", "In"), 42, "[]"),
            ("Always", own("Never", "In"), 1, refused),
            ("Never", own("Never", "NotIn"), 1, "[]"),
            ("Never", own("OnFailure", "In"), 1, "[]"),
        ];
        for (policy, container, code, expected) in table {
            let with = |state: Value| with_container(policy, container.clone(), status(state));
            assert_eq!(
                validate(&with(running.clone()), &with(ended(code))).to_string(),
                expected,
                "{container} {code}"
            );
        }
    }

    #[test]
    fn what_a_status_says_of_nodes_and_generations() {
        let mut old = pod("Always", json!({}));
        old.spec.get_or_insert_default().node_name = Some("n".to_owned());
        let status = json!({"nominatedNodeName": "m", "observedGeneration": -1,
            "conditions": [{"type": "Ready", "status": "True", "observedGeneration": -2}, {"type": "a b", "status": "True"}]});
        let mut new = old.clone();
        new.status = serde_json::from_value(status).expect("a status");
        let found: Vec<_> = validate(&new, &old).iter().map(|error| error.path.to_string()).collect();
        let expected = [
            "status.conditions[0].observedGeneration",
            "status.conditions[1].Type",
            "status.nominatedNodeName",
            "status.observedGeneration",
        ];
        assert_eq!(found, expected);
        new.status =
            serde_json::from_value(json!({"podIPs": [{"ip": "2001:DB8::1"}], "hostIPs": [{"ip": "10.0.0.1"}]})).ok();
        assert_eq!(
            warnings(&new),
            [
                "status.podIPs[0].ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"
            ]
        );
    }

    #[test]
    fn addresses_are_one_of_each_family() {
        let old = pod("Always", json!({}));
        let with =
            |ips: &[&str]| pod("Always", json!({"podIPs": ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()}));
        assert_eq!(validate(&with(&["10.0.0.1", "2001:db8::1"]), &old).to_string(), "[]");
        assert_eq!(
            validate(&with(&["10.0.0.1", "10.0.0.2"]), &old).to_string(),
            "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family"
        );
    }

    #[test]
    fn what_was_seen_stays_seen() {
        let old = json!({"observedGeneration": 3, "conditions": [
            {"type": "A", "status": "True", "observedGeneration": 1}, {"type": "A", "status": "True", "observedGeneration": 2}]});
        let new = json!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"},
            {"type": "A", "status": "False", "observedGeneration": 5}]});
        let (old, mut new): (PodStatus, PodStatus) =
            (serde_json::from_value(old).expect("a status"), serde_json::from_value(new).expect("a status"));
        keep_generations(&mut new, &old);
        let seen: Vec<_> = new.conditions.iter().flatten().map(|condition| condition.observed_generation).collect();
        assert_eq!((new.observed_generation, seen), (Some(3), vec![Some(1), None, Some(5)]));
    }

    #[test]
    fn claims_and_users() {
        let old = pod("Always", json!({}));
        let new = pod(
            "Always",
            json!({"resourceClaimStatuses": [{"name": "x"}], "containerStatuses": [{"name": "c", "image": "i",
            "imageID": "", "ready": false, "restartCount": 0, "user": {"linux": {"uid": -1, "gid": 0}}}]}),
        );
        assert_eq!(
            validate(&new, &old).to_string(),
            "[status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`, status.containerStatuses[0].linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive]"
        );
    }
}
