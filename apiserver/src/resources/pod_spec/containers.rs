//! Containers: names, images, ports, mounts; init containers and ephemeral ones too.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use api::pods;
use k8s_openapi::api::core::v1::{Container, ContainerPort, EphemeralContainer, PodSpec, VolumeDevice, VolumeMount};

use super::{Of, container_resource_name, env, probes, requirements, security};
use crate::resources::volume_sources::descending_path;
use crate::resources::{checks, internal};

/// Names of the valid volumes, and whether each is a claim (a block device can only be one).
pub type Volumes = BTreeMap<String, bool>;

const GRACE_SECONDS: i64 = 30;

/// All errors of the three lists of containers.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, volumes: &Volumes) {
    let of = Pod {
        volumes,
        claims: claim_names(spec),
        host_users: spec.host_users != Some(false),
        never_restarts: spec.restart_policy.as_deref() == Some("Never"),
    };
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
    let list = path.child("containers");
    if spec.containers.is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    let mut taken = BTreeSet::new();
    for (i, container) in spec.containers.iter().enumerate() {
        let path = list.index(i);
        common(errors, &path, container, &of);
        // Upstream takes a missing name for a name here, and so it does further on if it came up here.
        if !taken.insert(container.name.clone()) {
            errors.push(FieldError::duplicate(&path.child("name"), &container.name));
        }
        probes::validate(errors, &path, container, grace);
        restart_policy(errors, &path, container);
    }
    host_port_conflicts(errors, &list, &spec.containers);
    let list = path.child("initContainers");
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = list.index(i);
        common(errors, &path, container, &of);
        restart_policy(errors, &path, container);
        if taken.contains(&container.name) {
            errors.push(FieldError::duplicate(&path.child("name"), &container.name));
        } else if !container.name.is_empty() {
            taken.insert(container.name.clone());
        }
        host_port_conflicts(errors, &list, std::slice::from_ref(container));
        if pods::is_sidecar(container) {
            probes::validate(errors, &path, container, grace);
        } else {
            no_probes(errors, &path, container);
        }
    }
    ephemeral(errors, &path.child("ephemeralContainers"), spec, &of, &mut taken);
}

/// What containers are checked against.
struct Pod<'a> {
    volumes: &'a Volumes,
    claims: BTreeSet<&'a str>,
    host_users: bool,
    never_restarts: bool,
}

/// The names by which containers can ask for the pod's claims.
pub fn claim_names(spec: &PodSpec) -> BTreeSet<&str> {
    let claims = spec.resource_claims.iter().flatten().map(|claim| claim.name.as_str());
    claims.filter(|name| !name.is_empty()).collect()
}

/// What holds for the images of pods, but not for those of templates.
pub fn images(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let lists = [("containers", Some(&spec.containers)), ("initContainers", spec.init_containers.as_ref())];
    for (name, containers) in lists {
        for (i, container) in containers.into_iter().flatten().enumerate() {
            trimmed_image(errors, &path.child(name).index(i), container.image.as_deref().unwrap_or_default());
        }
    }
}

fn trimmed_image(errors: &mut FieldErrors, path: &FieldPath, image: &str) {
    if image.trim() != image {
        errors.push(FieldError::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"));
    }
}

/// Errors of a write to `/ephemeralcontainers`: the list is checked as part of the pod; existing ones may not change.
pub fn validate_ephemeral(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    let (new, old) = (
        new.ephemeral_containers.as_deref().unwrap_or_default(),
        old.ephemeral_containers.as_deref().unwrap_or_default(),
    );
    for known in old {
        match new.iter().find(|container| container.name == known.name) {
            None => {
                let detail = format!("existing ephemeral containers \"{}\" may not be removed\n", known.name);
                errors.push(FieldError::forbidden(path, detail));
            }
            Some(container) if container != known => {
                let difference = internal::difference("v1.EphemeralContainer", known, container);
                let detail =
                    format!("existing ephemeral containers \"{}\" may not be changed\n{difference}", known.name);
                errors.push(FieldError::forbidden(path, detail));
            }
            Some(_) => {}
        }
    }
}

/// On the host's network the host port is the container's port; a template may leave it out.
pub fn host_network_ports(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, of: Of<'_>) {
    for (i, container) in spec.containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if host_port != port.container_port && (of.is_pod() || host_port != 0) {
                let path = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::invalid(
                    &path,
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

fn unique(errors: &mut FieldErrors, path: &FieldPath, name: &str, taken: &mut BTreeSet<String>) {
    if !name.is_empty() && !taken.insert(name.to_owned()) {
        errors.push(FieldError::duplicate(path, name));
    }
}

/// A container's own restart policy, and the exit codes for which it does not hold.
fn restart_policy(errors: &mut FieldErrors, path: &FieldPath, container: &Container) {
    const MAX_RULES: usize = 20;
    const MAX_CODES: usize = 255;
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let own = path.child("restartPolicy");
    match &container.restart_policy {
        None if !rules.is_empty() => {
            errors.push(FieldError::required(&own, "must specify restartPolicy when restart rules are used"));
        }
        None => {}
        Some(policy) => checks::one_of(errors, &own, policy, &["Always", "Never", "OnFailure"]),
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&path.child("restartPolicyRules"), rules.len(), MAX_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.child("restartPolicyRules").index(i);
        checks::one_of(errors, &path.child("action"), &rule.action, &["Restart", "RestartAllContainers"]);
        let path = path.child("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            errors.push(FieldError::required(&path, "must be specified"));
            continue;
        };
        checks::one_of(errors, &path.child("operator"), &codes.operator, &["In", "NotIn"]);
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > MAX_CODES {
            errors.push(FieldError::too_many(&path.child("values"), count, MAX_CODES));
        }
    }
}

/// What a change of resources does to the container.
fn resize_policy(errors: &mut FieldErrors, path: &FieldPath, container: &Container, never_restarts: bool) {
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    for (i, policy) in policies.iter().enumerate() {
        if policies[..i].iter().any(|other| other.resource_name == policy.resource_name) {
            errors.push(FieldError::duplicate(&path.index(i), &policy.resource_name));
        }
        checks::required_one_of(errors, path, &policy.resource_name, &["cpu", "memory"]);
        checks::required_one_of(errors, path, &policy.restart_policy, &["NotRequired", "RestartContainer"]);
        if never_restarts && policy.restart_policy != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, &policy.restart_policy, detail));
        }
    }
}

fn no_probes(errors: &mut FieldErrors, path: &FieldPath, container: &Container) {
    let probes = [
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    if container.lifecycle.is_some() {
        errors.push(FieldError::forbidden(
            &path.child("lifecycle"),
            "may not be set for init containers without restartPolicy=Always",
        ));
    }
    for (name, _) in probes.iter().filter(|(_, set)| *set) {
        errors.push(FieldError::forbidden(
            &path.child(name),
            "may not be set for init containers without restartPolicy=Always",
        ));
    }
}

fn common(errors: &mut FieldErrors, path: &FieldPath, container: &Container, of: &Pod<'_>) {
    if container.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        errors.push_invalid(&path.child("name"), &container.name, names::is_dns1123_label(&container.name));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    }
    let policy = container.termination_message_policy.as_deref().unwrap_or_default();
    let path_of_policy = path.child("terminationMessagePolicy");
    checks::required_one_of(errors, &path_of_policy, policy, &["File", "FallbackToLogsOnError"]);
    ports(errors, &path.child("ports"), container.ports.as_deref().unwrap_or_default());
    env::variables(errors, &path.child("env"), container.env.as_deref().unwrap_or_default());
    env::sources(errors, &path.child("envFrom"), container.env_from.as_deref().unwrap_or_default());
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    mounts(errors, &path.child("volumeMounts"), container, devices, of.volumes);
    let mounted = container.volume_mounts.as_deref().unwrap_or_default();
    block_devices(errors, &path.child("volumeDevices"), devices, mounted, of.volumes);
    let policy = container.image_pull_policy.as_deref().unwrap_or_default();
    checks::required_one_of(errors, &path.child("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    if let Some(resources) = &container.resources {
        requirements(errors, &path.child("resources"), resources, container_resource_name, &of.claims);
    }
    resize_policy(errors, &path.child("resizePolicy"), container, of.never_restarts);
    let context = container.security_context.as_ref();
    security::container(errors, &path.child("securityContext"), context, of.host_users);
}

fn ports(errors: &mut FieldErrors, path: &FieldPath, ports: &[ContainerPort]) {
    let mut taken = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let messages = names::port_name(name);
            if messages.is_empty() {
                unique(errors, &path.child("name"), name, &mut taken);
            }
            errors.push_invalid(&path.child("name"), name, messages);
        }
        let number = |errors: &mut FieldErrors, path: &FieldPath, number: i32| {
            for message in names::port_number(i64::from(number)) {
                errors.push(FieldError::invalid(path, number, message));
            }
        };
        match port.container_port {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            container_port => number(errors, &path.child("containerPort"), container_port),
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            number(errors, &path.child("hostPort"), host_port);
        }
        checks::protocol(errors, &path.child("protocol"), port.protocol.as_deref().unwrap_or_default());
    }
}

fn host_port_conflicts(errors: &mut FieldErrors, path: &FieldPath, containers: &[Container]) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if host_port == 0 {
                continue;
            }
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{}/{host_port}", port.host_ip.as_deref().unwrap_or_default());
            unique(errors, &path.index(i).child("ports").index(j).child("hostPort"), &key, &mut taken);
        }
    }
}

fn mounts(
    errors: &mut FieldErrors,
    path: &FieldPath,
    container: &Container,
    devices: &[VolumeDevice],
    volumes: &Volumes,
) {
    let mut taken = BTreeSet::new();
    for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let item = path.index(i);
        checks::required(errors, &item.child("name"), &mount.name);
        if !volumes.contains_key(&mount.name) {
            errors.push(FieldError::not_found(&item.child("name"), &mount.name));
        }
        checks::required(errors, &item.child("mountPath"), &mount.mount_path);
        if !taken.insert(&mount.mount_path) {
            errors.push(FieldError::invalid(&item.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errors.push(FieldError::invalid(
                &item.child("name"),
                &mount.name,
                "must not already exist in volumeDevices",
            ));
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&item.child("mountPath"), &mount.mount_path, detail));
        }
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        let sub_path_expr = mount.sub_path_expr.as_deref().unwrap_or_default();
        // Upstream names these fields without the index.
        descending_path(errors, &path.child("subPath"), sub_path);
        if !sub_path_expr.is_empty() && !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&item.child("subPathExpr"), sub_path_expr, detail));
        }
        descending_path(errors, &path.child("subPathExpr"), sub_path_expr);
        if let Some(propagation) = &mount.mount_propagation {
            let path = path.child("mountPropagation");
            checks::one_of(errors, &path, propagation, &["Bidirectional", "HostToContainer", "None"]);
            let privileged =
                container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true));
            if propagation == "Bidirectional" && !privileged {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        recursive_read_only(errors, &path.child("recursiveReadOnly"), mount);
    }
}

fn recursive_read_only(errors: &mut FieldErrors, path: &FieldPath, mount: &VolumeMount) {
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
            }
            if mount.mount_propagation.as_deref().is_some_and(|propagation| propagation != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => errors.push(checks::unsupported(path, other, &["Disabled", "Enabled", "IfPossible"])),
    }
}

fn block_devices(
    errors: &mut FieldErrors,
    path: &FieldPath,
    devices: &[VolumeDevice],
    mounts: &[VolumeMount],
    volumes: &Volumes,
) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in devices.iter().enumerate() {
        let path = path.index(i);
        let (name_path, device_path) = (path.child("name"), path.child("devicePath"));
        checks::required(errors, &name_path, &device.name);
        if !device.name.is_empty() && !names.insert(&device.name) {
            errors.push(FieldError::invalid(&name_path, &device.name, "must be unique"));
        }
        match volumes.get(&device.name) {
            None => errors.push(FieldError::not_found(&name_path, &device.name)),
            Some(false) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_path, &device.name, detail));
            }
            Some(true) => {}
        }
        checks::required(errors, &device_path, &device.device_path);
        if paths.contains(&device.device_path) {
            errors.push(FieldError::invalid(&device_path, &device.device_path, "must be unique"));
        }
        if device.device_path.split('/').any(|part| part == "..") {
            let detail = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&device_path, &device.device_path, detail));
        } else {
            paths.insert(&device.device_path);
        }
        if mounts.iter().any(|mount| mount.name == device.name) {
            errors.push(FieldError::invalid(&name_path, &device.name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|mount| mount.mount_path == device.device_path) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&device_path, &device.device_path, detail));
        }
    }
}

fn ephemeral(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, of: &Pod<'_>, taken: &mut BTreeSet<String>) {
    const REFUSED: &str = "cannot be set for an Ephemeral Container";
    for (i, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(i);
        common(errors, &path, &as_container(container), of);
        trimmed_image(errors, &path, container.image.as_deref().unwrap_or_default());
        if !taken.insert(container.name.clone()) {
            errors.push(FieldError::duplicate(&path.child("name"), &container.name));
        }
        if let Some(target) = container.target_container_name.as_deref().filter(|target| !target.is_empty()) {
            let mut named = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            if !named.any(|container| container.name == target) {
                errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
            }
        }
        let not_allowed = [
            ("ports", container.ports.is_some()),
            ("resources", container.resources.as_ref().is_some_and(|r| *r != Default::default())),
            ("resizePolicy", container.resize_policy.is_some()),
            ("restartPolicy", container.restart_policy.is_some()),
            ("restartPolicyRules", container.restart_policy_rules.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        for (field, _) in not_allowed.iter().filter(|(_, set)| *set) {
            errors.push(FieldError::forbidden(&path.child(field), REFUSED));
        }
        for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let path = path.child("volumeMounts").index(i);
            for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if value.as_ref().is_some_and(|value| !value.is_empty()) {
                    errors.push(FieldError::forbidden(&path.child(field), REFUSED));
                }
            }
        }
    }
}

/// The part of an ephemeral container that is checked like any other.
fn as_container(container: &EphemeralContainer) -> Container {
    Container {
        name: container.name.clone(),
        image: container.image.clone(),
        termination_message_policy: container.termination_message_policy.clone(),
        ports: container.ports.clone(),
        env: container.env.clone(),
        env_from: container.env_from.clone(),
        volume_mounts: container.volume_mounts.clone(),
        volume_devices: container.volume_devices.clone(),
        image_pull_policy: container.image_pull_policy.clone(),
        resources: container.resources.clone(),
        resize_policy: container.resize_policy.clone(),
        security_context: container.security_context.clone(),
        ..Container::default()
    }
}
