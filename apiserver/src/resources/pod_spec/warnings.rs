//! What upstream warns of in a pod's spec without refusing it.

use std::collections::BTreeSet;

use api::field::FieldPath;
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};

/// Node labels that have a new name: label, since, instead.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Warnings for a pod's spec.
pub fn warnings(path: &FieldPath, spec: Option<&PodSpec>) -> Vec<String> {
    let Some(spec) = spec else { return Vec::new() };
    let mut warnings = Vec::new();
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some((_, since, instead)) = OLD_LABELS.iter().find(|(label, _, _)| label == key) {
            warnings.push(format!(
                "{}: deprecated since {since}; use \"{instead}\" instead",
                path.child("nodeSelector").key(key)
            ));
        }
    }
    for (i, name) in duplicates(spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str())) {
        let path = path.child("imagePullSecrets").index(i);
        warnings.push(format!("{}: duplicate name \"{name}\"", path.child("name")));
    }
    for (i, alias) in duplicates(spec.host_aliases.iter().flatten().map(|alias| alias.ip.as_str())) {
        let path = path.child("hostAliases").index(i);
        warnings.push(format!("{}: duplicate ip \"{alias}\"", path.child("ip")));
    }
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = path.child("volumes").index(i);
        if volume.git_repo.is_some() {
            let field = path.child("gitRepo");
            warnings.push(format!("{field}: deprecated in v1.11, and disabled by default in v1.33+"));
        }
    }
    for (list, containers) in
        [("initContainers", spec.init_containers.as_deref()), ("containers", Some(spec.containers.as_slice()))]
    {
        for (i, container) in containers.into_iter().flatten().enumerate() {
            container_warnings(&mut warnings, &path.child(list).index(i), container);
        }
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1 ({seconds})",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    warnings
}

/// Warnings for a template.
pub fn template_warnings(path: &FieldPath, template: Option<&PodTemplateSpec>) -> Vec<String> {
    warnings(&path.child("spec"), template.and_then(|template| template.spec.as_ref()))
}

fn container_warnings(warnings: &mut Vec<String>, path: &FieldPath, container: &Container) {
    for (i, name) in duplicates(container.env.iter().flatten().map(|env| env.name.as_str())) {
        let path = path.child("env").index(i);
        warnings
            .push(format!("{path}: hides previous definition of \"{name}\", which may be dropped when using apply"));
    }
    let ports: Vec<String> = container
        .ports
        .iter()
        .flatten()
        .map(|port| format!("{}/{}", port.container_port, port.protocol.as_deref().unwrap_or_default()))
        .collect();
    for (i, _) in duplicates(ports.iter().map(String::as_str)) {
        let first = ports.iter().position(|port| *port == ports[i]).unwrap_or_default();
        let list = path.child("ports");
        warnings.push(format!("{}: duplicate port definition with {}", list.index(i), list.index(first)));
    }
}

fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().filter(|(_, name)| !seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_labels_and_hidden_variables() {
        let spec: PodSpec = serde_json::from_value(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]}))
        .expect("a spec");
        let expected = [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ];
        assert_eq!(warnings(&FieldPath::root("spec"), Some(&spec)), expected);
    }
}
