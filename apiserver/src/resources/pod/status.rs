//! What a kubelet can't say of a pod. Entry point: [`validate`].

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as Object, PodSpec, PodStatus};

use super::annotations;
use crate::resources::checks;

const ID_MAX: i64 = i32::MAX as i64;

/// All errors of a write to `/status`.
pub fn validate(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let meta = FieldPath::root("metadata");
    let spec = new.spec.clone().unwrap_or_default();
    let (now, before) = (new.metadata.annotations.as_ref(), old.metadata.annotations.as_ref());
    annotations::changes(&mut errors, &meta.child("annotations"), now, before, &spec);
    let (now, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    for (i, condition) in now.conditions.iter().flatten().enumerate() {
        if !matches!(condition.type_.as_str(), "PodScheduled" | "Ready" | "Initialized") {
            // Upstream's path, odd as it is.
            checks::label_key(&mut errors, &meta.child("conditions").index(i).child("Type"), &condition.type_);
        }
    }
    let path = FieldPath::root("status");
    let node = now.nominated_node_name.as_deref().unwrap_or_default();
    if !node.is_empty() && now.nominated_node_name != before.nominated_node_name {
        errors.push_invalid(&path.child("nominatedNodeName"), node, names::is_dns1123_subdomain(node));
    }
    let class = |class: &Option<String>| class.clone().unwrap_or_default();
    checks::immutable(&mut errors, &path.child("qosClass"), &class(&now.qos_class), &class(&before.qos_class));
    transitions(&mut errors, &path, new, old);
    claims(&mut errors, &path.child("resourceClaimStatuses"), &spec, &now);
    let ips: Vec<&str> = now.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    addresses(&mut errors, &path.child("podIPs"), &ips, families_before_repetitions);
    let ips: Vec<&str> = now.host_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    if let Some(first) = ips.first().filter(|first| now.host_ip.as_deref().unwrap_or_default() != **first) {
        let detail = "must be equal to `hostIP`";
        errors.push(FieldError::invalid(&path.child("hostIPs").index(0).child("ip"), first, detail));
    }
    addresses(&mut errors, &path.child("hostIPs"), &ips, repetitions_before_families);
    users(&mut errors, &path, &spec, &now);
    errors
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

/// A container that has ended stays so, unless its pod starts it again.
fn transitions(errors: &mut FieldErrors, path: &FieldPath, new: &Object, old: &Object) {
    let spec = old.spec.clone().unwrap_or_default();
    let (now, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let lists = [
        ("containerStatuses", now.container_statuses, before.container_statuses, restart_policy(&spec)),
        ("initContainerStatuses", now.init_container_statuses, before.init_container_statuses, restart_policy(&spec)),
        ("ephemeralContainerStatuses", now.ephemeral_container_statuses, before.ephemeral_container_statuses, "Never"),
    ];
    for (name, now, before, policy) in lists {
        let sidecar = |status: &ContainerStatus| {
            let mut init = spec.init_containers.iter().flatten();
            name.starts_with("init") && init.any(|c| c.name == status.name && api::pods::is_sidecar(c))
        };
        for (i, before) in before.iter().flatten().enumerate().filter(|_| policy != "Always") {
            let ended = before.state.as_ref().and_then(|state| state.terminated.as_ref());
            let stays = ended.is_some_and(|ended| ended.exit_code == 0 || policy != "OnFailure") && !sidecar(before);
            let runs = |status: &&ContainerStatus| {
                status.name == before.name && status.state.as_ref().is_none_or(|state| state.terminated.is_none())
            };
            if stays && now.iter().flatten().any(|status| runs(&status)) {
                let path = path.child(name).index(i).child("state");
                errors.push(FieldError::forbidden(&path, "may not be transitioned to non-terminated state"));
            }
        }
    }
}

fn restart_policy(spec: &PodSpec) -> &str {
    spec.restart_policy.as_deref().unwrap_or_default()
}

/// One of each family at most; `several` says in which order upstream looks at more than one.
fn addresses(
    errors: &mut FieldErrors,
    path: &FieldPath,
    ips: &[&str],
    several: fn(&mut FieldErrors, &FieldPath, &[&str]),
) {
    for (i, ip) in ips.iter().enumerate() {
        checks::ip(errors, &path.index(i), ip);
    }
    several(errors, path, ips);
}

fn families_before_repetitions(errors: &mut FieldErrors, path: &FieldPath, ips: &[&str]) {
    families(errors, path, ips);
    repetitions(errors, path, ips);
}

fn repetitions_before_families(errors: &mut FieldErrors, path: &FieldPath, ips: &[&str]) {
    repetitions(errors, path, ips);
    families(errors, path, ips);
}

fn families(errors: &mut FieldErrors, path: &FieldPath, ips: &[&str]) {
    let second_family = ips.iter().filter(|ip| ip.contains(':')).count();
    if ips.len() > 2 || ips.len() == 2 && second_family != 1 {
        let shown: Vec<_> = ips.iter().map(|ip| serde_json::json!({"IP": ip})).collect();
        errors.push(FieldError::invalid(path, shown, "may specify no more than one IP for each IP family"));
    }
}

fn repetitions(errors: &mut FieldErrors, path: &FieldPath, ips: &[&str]) {
    for (i, ip) in ips.iter().enumerate().filter(|(i, ip)| ips[..*i].contains(ip)) {
        errors.push(FieldError::duplicate(&path.index(i), serde_json::json!({"IP": ip})));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(policy: &str, status: Value) -> Object {
        serde_json::from_value(json!({"spec": {"restartPolicy": policy, "containers": []}, "status": status}))
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
