//! What upstream warns of in pods and templates without refusing it. Entry points: [`pod_warnings`], [`template_warnings`],
//! [`claim_warnings`].
//!
//! Invariant: upstream's order, where it has one (it walks maps at random; here they are in order).

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldPath, go_quote};
use api::names;
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EphemeralContainer, NodeSelectorTerm, PersistentVolumeClaimSpec,
    PodAffinityTerm, PodSpec, PodTemplateSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::overlaps;
use crate::resources::address_warnings::address;
use crate::resources::{checks, pod};

/// Node labels that have a new name: label, since, instead.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];
/// Annotations without effect, and what is said of them.
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Warnings for a new pod.
pub fn pod_warnings(meta: &ObjectMeta, spec: Option<&PodSpec>) -> Vec<String> {
    spec.map(|spec| warnings(&FieldPath::default(), meta, spec, false)).unwrap_or_default()
}

/// Warnings for a template.
pub fn template_warnings(path: &FieldPath, template: Option<&PodTemplateSpec>) -> Vec<String> {
    let Some(template) = template else { return Vec::new() };
    let meta = template.metadata.clone().unwrap_or_default();
    template.spec.as_ref().map(|spec| warnings(path, &meta, spec, true)).unwrap_or_default()
}

/// Warnings for the spec of a claim.
pub fn claim_warnings(path: &FieldPath, spec: &PersistentVolumeClaimSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(resources) = &spec.resources else { return warnings };
    for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        fraction(&mut warnings, &path.child("resources").child(field), amounts.as_ref(), "storage");
    }
    warnings
}

/// What is said of a node label with a new name.
pub fn old_label(label: &str) -> Option<String> {
    let (_, since, instead) = OLD_LABELS.iter().find(|(old, _, _)| *old == label)?;
    Some(format!("deprecated since {since}; use {} instead", go_quote(instead)))
}

/// Old labels in a term that selects nodes.
pub fn old_labels_of_term(warnings: &mut Vec<String>, path: &FieldPath, term: &NodeSelectorTerm) {
    for (i, expression) in term.match_expressions.iter().flatten().enumerate() {
        if let Some(message) = old_label(&expression.key) {
            let at = path.child("matchExpressions").index(i).child("key");
            warnings.push(format!("{at}: {} is {message}", expression.key));
        }
    }
}

/// Nodes that are preferred may be described by what no label can be.
fn preference(warnings: &mut Vec<String>, path: &FieldPath, term: &NodeSelectorTerm) {
    for (i, expression) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(i);
        if let Some(message) = old_label(&expression.key) {
            warnings.push(format!("{}: {} is {message}", path.child("key"), expression.key));
        }
        for (j, value) in expression.values.iter().flatten().enumerate() {
            let at = path.child("values").index(j);
            warnings.extend(names::label_value(value).iter().map(|wrong| format!("{at}: {value} is invalid, {wrong}")));
        }
    }
}

fn warnings(base: &FieldPath, meta: &ObjectMeta, spec: &PodSpec, in_template: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let path = base.child("spec");
    let annotations = base.child("metadata").child("annotations");
    nodes(&mut warnings, &path, spec);
    for (key, message) in OLD_ANNOTATIONS {
        if meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(*key)) {
            warnings.push(format!("{}: {message}", annotations.key(key)));
        }
    }
    for (i, found) in spec.volumes.iter().flatten().enumerate() {
        volume(&mut warnings, &path.child("volumes").index(i), found);
    }
    overlaps::warnings(&mut warnings, spec.volumes.as_deref().unwrap_or_default());
    for (i, ip) in duplicates(spec.host_aliases.iter().flatten().map(|alias| alias.ip.as_str())) {
        warnings.push(format!("{}: duplicate ip {}", path.child("hostAliases").index(i).child("ip"), go_quote(ip)));
    }
    pull_secrets(&mut warnings, &path.child("imagePullSecrets"), spec);
    for resource in ["memory", "ephemeral-storage"] {
        fraction(&mut warnings, &path.child("overhead"), spec.overhead.as_ref(), resource);
    }
    warnings.extend(pod::old_seccomp(&annotations, meta.annotations.as_ref(), spec));
    warnings.extend(pod::old_profiles(&annotations, meta.annotations.as_ref(), spec, in_template));
    let containers = containers(&path, spec);
    for (path, container) in &containers {
        of_container(&mut warnings, path, container);
    }
    ports(&mut warnings, &containers);
    port_names(&mut warnings, &containers);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    near_nothing(&mut warnings, &path.child("affinity"), spec.affinity.as_ref());
    let servers = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten()).enumerate();
    let list = path.child("dnsConfig").child("nameservers");
    warnings.extend(servers.filter_map(|(i, server)| address(&list.index(i), server)));
    let aliases = spec.host_aliases.iter().flatten().enumerate();
    let list = path.child("hostAliases");
    warnings.extend(aliases.filter_map(|(i, alias)| address(&list.index(i).child("ip"), &alias.ip)));
    warnings
}

/// Old names of labels, and constraints that concern no pod.
fn nodes(warnings: &mut Vec<String>, path: &FieldPath, spec: &PodSpec) {
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(message) = old_label(key) {
            warnings.push(format!("{}: {message}", path.child("nodeSelector").key(key)));
        }
    }
    if let Some(affinity) = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref()) {
        let path = path.child("affinity").child("nodeAffinity");
        let required = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = affinity.required_during_scheduling_ignored_during_execution.as_ref();
        for (i, term) in terms.iter().flat_map(|selector| &selector.node_selector_terms).enumerate() {
            old_labels_of_term(warnings, &required.index(i), term);
        }
        let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            preference(warnings, &preferred.index(i).child("preference"), &term.preference);
        }
    }
    for (i, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.child("topologySpreadConstraints").index(i);
        if let Some(message) = old_label(&constraint.topology_key) {
            warnings.push(format!("{}: {} is {message}", path.child("topologyKey"), constraint.topology_key));
        }
        if constraint.label_selector.is_none() {
            warnings.push(selects_nothing(&path));
        }
    }
}

fn selects_nothing(path: &FieldPath) -> String {
    format!("{}: a null labelSelector results in matching no pod", path.child("labelSelector"))
}

fn near_nothing(warnings: &mut Vec<String>, path: &FieldPath, affinity: Option<&Affinity>) {
    let Some(affinity) = affinity else { return };
    type Terms<'a> = (Option<&'a Vec<PodAffinityTerm>>, Option<&'a Vec<WeightedPodAffinityTerm>>);
    let near = affinity.pod_affinity.as_ref().map(|pods| -> Terms<'_> {
        (
            pods.required_during_scheduling_ignored_during_execution.as_ref(),
            pods.preferred_during_scheduling_ignored_during_execution.as_ref(),
        )
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|pods| -> Terms<'_> {
        (
            pods.required_during_scheduling_ignored_during_execution.as_ref(),
            pods.preferred_during_scheduling_ignored_during_execution.as_ref(),
        )
    });
    for (name, terms) in [("podAffinity", near), ("podAntiAffinity", far)] {
        let Some((required, preferred)) = terms else { continue };
        let path = path.child(name);
        let list = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (i, _) in required.into_iter().flatten().enumerate().filter(|(_, term)| term.label_selector.is_none()) {
            warnings.push(selects_nothing(&list.index(i)));
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in preferred.into_iter().flatten().enumerate() {
            if term.pod_affinity_term.label_selector.is_none() {
                warnings.push(selects_nothing(&list.index(i).child("podAffinityTerm")));
            }
        }
    }
}

fn volume(warnings: &mut Vec<String>, path: &FieldPath, volume: &Volume) {
    let claim = volume.ephemeral.as_ref().and_then(|ephemeral| ephemeral.volume_claim_template.as_ref());
    let old = [
        (volume.photon_persistent_disk.is_some(), "photonPersistentDisk", "v1.11, non-functional in v1.16+"),
        (volume.git_repo.is_some(), "gitRepo", "v1.11, and disabled by default in v1.33+"),
        (volume.scale_io.is_some(), "scaleIO", "v1.16, non-functional in v1.22+"),
        (volume.flocker.is_some(), "flocker", "v1.22, non-functional in v1.25+"),
        (volume.storageos.is_some(), "storageOS", "v1.22, non-functional in v1.25+"),
        (volume.quobyte.is_some(), "quobyte", "v1.22, non-functional in v1.25+"),
        (volume.glusterfs.is_some(), "glusterfs", "v1.25, non-functional in v1.26+"),
        (volume.cephfs.is_some(), "cephfs", "v1.28, non-functional in v1.31+"),
        (volume.rbd.is_some(), "rbd", "v1.28, non-functional in v1.31+"),
    ];
    for (_, field, since) in old.iter().filter(|(set, _, _)| *set) {
        warnings.push(format!("{}: deprecated in {since}", path.child(field)));
    }
    if let Some(claim) = claim {
        let path = path.child("ephemeral").child("volumeClaimTemplate").child("spec");
        warnings.extend(claim_warnings(&path, &claim.spec));
    }
}

fn pull_secrets(warnings: &mut Vec<String>, path: &FieldPath, spec: &PodSpec) {
    let secrets = spec.image_pull_secrets.as_deref().unwrap_or_default();
    for (i, name) in duplicates(secrets.iter().map(|secret| secret.name.as_str())) {
        warnings.push(format!("{}: duplicate name {}", path.index(i).child("name"), go_quote(name)));
    }
    for (i, _) in secrets.iter().enumerate().filter(|(_, secret)| secret.name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", path.index(i).child("name")));
    }
}

/// Bytes don't come in parts.
fn fraction(
    warnings: &mut Vec<String>,
    path: &FieldPath,
    amounts: Option<&BTreeMap<String, Quantity>>,
    resource: &str,
) {
    let amount = amounts.and_then(|amounts| amounts.get(resource)).map(checks::quantity);
    if let Some(amount) = amount.filter(|amount| !amount.is_integer()) {
        let shown = go_quote(&amount.to_string());
        warnings.push(format!("{}: fractional byte value {shown} is invalid, must be an integer", path.key(resource)));
    }
}

/// All containers with their paths, in upstream's order: init containers, containers, ephemeral ones.
fn containers(path: &FieldPath, spec: &PodSpec) -> Vec<(FieldPath, Container)> {
    let common = |container: &EphemeralContainer| Container {
        name: container.name.clone(),
        env: container.env.clone(),
        ports: container.ports.clone(),
        resources: container.resources.clone(),
        ..Container::default()
    };
    let lists = [
        ("initContainers", spec.init_containers.clone().unwrap_or_default()),
        ("containers", spec.containers.clone()),
        ("ephemeralContainers", spec.ephemeral_containers.iter().flatten().map(common).collect()),
    ];
    let mut all = Vec::new();
    for (list, containers) in lists {
        let path = path.child(list);
        all.extend(containers.into_iter().enumerate().map(|(i, container)| (path.index(i), container)));
    }
    all
}

fn of_container(warnings: &mut Vec<String>, path: &FieldPath, container: &Container) {
    if let Some(resources) = &container.resources {
        for resource in ["memory", "ephemeral-storage"] {
            for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
                fraction(warnings, &path.child("resources").child(field), amounts.as_ref(), resource);
            }
        }
    }
    let variables = container.env.as_deref().unwrap_or_default();
    for (i, name) in duplicates(variables.iter().map(|variable| variable.name.as_str())) {
        let reference = format!("$({name})");
        let value = variables[i].value.as_deref().unwrap_or_default();
        let extends = variables[i].value_from.is_none() && value != reference && value.contains(&reference);
        if !extends {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.child("env").index(i),
                go_quote(name)
            ));
        }
    }
}

/// Ports that are there twice, in whatever containers.
fn ports(warnings: &mut Vec<String>, containers: &[(FieldPath, Container)]) {
    let mut seen: Vec<(FieldPath, &ContainerPort)> = Vec::new();
    let number = |port: &ContainerPort| port.host_port.unwrap_or_default();
    let address = |port: &ContainerPort| port.host_ip.clone().unwrap_or_default();
    for (path, container) in containers {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let at = path.child("ports").index(i);
            if !address(port).is_empty() && number(port) == 0 {
                warnings.push(format!("{at}: hostIP set without hostPort: {}", shown(port)));
            }
            let same =
                |other: &ContainerPort| other.container_port == port.container_port && other.protocol == port.protocol;
            for (first, other) in seen.iter().filter(|(_, other)| same(other)) {
                let open = address(port).is_empty() != address(other).is_empty();
                let what = if address(port) == address(other) && number(port) == number(other) {
                    "duplicate port definition"
                } else if number(port) == 0 || number(other) == 0 {
                    "overlapping port definition"
                } else if number(port) == number(other) && open {
                    "dangerously ambiguous port definition"
                } else {
                    continue;
                };
                warnings.push(format!("{at}: {what} with {first}"));
            }
            seen.push((at, port));
        }
    }
}

/// Names that more than one port has.
fn port_names(warnings: &mut Vec<String>, containers: &[(FieldPath, Container)]) {
    let mut seen: BTreeMap<&str, FieldPath> = BTreeMap::new();
    for (path, container) in containers {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let at = path.child("ports").index(i);
            if let Some(first) = seen.get(name) {
                let name = go_quote(name);
                warnings.push(format!(
                    "{at}: duplicate port name {name} with {first}, services and probes that select ports by name will use {first}"
                ));
            } else {
                seen.insert(name, at);
            }
        }
    }
}

/// As Go prints the struct.
fn shown(port: &ContainerPort) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(&port.name),
        port.host_port.unwrap_or_default(),
        port.container_port,
        text(&port.protocol),
        text(&port.host_ip)
    )
}

fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    names.enumerate().filter(|(_, name)| !seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of_pod(spec: Value) -> Vec<String> {
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        pod_warnings(&ObjectMeta::default(), Some(&spec))
    }

    #[test]
    fn old_labels_and_hidden_variables() {
        let variables =
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]);
        let found = of_pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"name": "c", "env": variables}]}));
        let expected = [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn ports_of_all_containers() {
        let port =
            |host: i32, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host, "hostIP": ip});
        let found = of_pod(json!({"containers": [
            {"name": "a", "ports": [port(0, ""), port(8080, "")]}, {"name": "b", "ports": [port(8080, "10.0.0.1")]},
            {"name": "c", "ports": [port(0, "10.0.0.1")]}]}));
        let expected = [
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[1].ports[0]: dangerously ambiguous port definition with spec.containers[0].ports[1]",
            "spec.containers[2].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}",
            "spec.containers[2].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[2].ports[0]: overlapping port definition with spec.containers[0].ports[1]",
            "spec.containers[2].ports[0]: overlapping port definition with spec.containers[1].ports[0]",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn names_of_ports_values_and_addresses() {
        let port = |number: i32| json!([{"containerPort": number, "name": "p"}]);
        let expression = json!({"key": "k", "operator": "In", "values": ["ok", "-1"]});
        let found = of_pod(json!({
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [expression]}}]}},
            "dnsConfig": {"nameservers": ["1.2.3.4", "2001:DB8::1"]}, "hostAliases": [{"ip": "::ffff:1.2.3.4"}],
            "initContainers": [{"name": "i", "ports": port(1)}],
            "containers": [{"name": "a", "ports": port(2)}, {"name": "b", "ports": port(3)}]}));
        let expected = [
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[1]: -1 is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.containers[0].ports[0]: duplicate port name \"p\" with spec.initContainers[0].ports[0], services and probes that select ports by name will use spec.initContainers[0].ports[0]",
            "spec.containers[1].ports[0]: duplicate port name \"p\" with spec.initContainers[0].ports[0], services and probes that select ports by name will use spec.initContainers[0].ports[0]",
            "spec.dnsConfig.nameservers[1]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.hostAliases[0].ip: non-standard IP address \"::ffff:1.2.3.4\" will be considered invalid in a future Kubernetes release: use \"1.2.3.4\"",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn templates_say_where() {
        let template: PodTemplateSpec = serde_json::from_value(json!({
            "metadata": {"annotations": {"scheduler.alpha.kubernetes.io/critical-pod": "", "seccomp.security.alpha.kubernetes.io/pod": "x"}},
            "spec": {"terminationGracePeriodSeconds": -1, "containers": [{"name": "c", "resources": {"limits": {"memory": "1500m"}}}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
                "imagePullSecrets": [{"name": ""}], "volumes": [{"name": "v", "rbd": {"image": "i", "monitors": []}}]}}))
        .expect("a template");
        let expected = [
            "t.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "t.metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
            "t.spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
            "t.spec.imagePullSecrets[0].name: invalid empty name \"\"",
            "t.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
            "t.spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
            "t.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ];
        assert_eq!(template_warnings(&FieldPath::root("t"), Some(&template)), expected);
    }
}
