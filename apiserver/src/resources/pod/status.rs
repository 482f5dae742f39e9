//! What a kubelet can't say of a pod. Entry point: [`validate`].

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as Object, PodSpec};

use super::annotations;
use crate::resources::checks;

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
    let ips: Vec<&str> = now.pod_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    addresses(&mut errors, &path.child("podIPs"), &ips);
    let ips: Vec<&str> = now.host_ips.iter().flatten().map(|address| address.ip.as_str()).collect();
    if let Some(first) = ips.first().filter(|first| now.host_ip.as_deref().unwrap_or_default() != **first) {
        let detail = "must be equal to `hostIP`";
        errors.push(FieldError::invalid(&path.child("hostIPs").index(0).child("ip"), first, detail));
    }
    addresses(&mut errors, &path.child("hostIPs"), &ips);
    errors
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
}
