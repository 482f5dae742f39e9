//! What upstream fills into a pod's spec. Templates get the same, except for what only a pod itself gets
//! ([`set_pod_defaults`]): service links, host ports, requests from limits.

use std::collections::BTreeMap;

use api::pods;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EphemeralContainer, HTTPGetAction, Lifecycle, ObjectFieldSelector, Pod, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::resources::checks;

/// Owner and group may read, only the owner may write.
const FILE_MODE: i32 = 0o644;
const GRACE_SECONDS: i64 = 30;
const TOKEN_SECONDS: i64 = 60 * 60;

/// Fills in the spec of a pod or of a template.
fn set_defaults(spec: &mut PodSpec) {
    default(&mut spec.dns_policy, "ClusterFirst");
    default(&mut spec.restart_policy, "Always");
    default(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    mirror_service_account(spec);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container_defaults(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        ephemeral_defaults(container);
    }
    spec.volumes.iter_mut().flatten().for_each(volume_defaults);
}

/// Fills in a template, if there is one.
pub fn set_template_defaults(template: &mut PodTemplateSpec) {
    set_defaults(template.spec.get_or_insert_default());
    template.metadata.get_or_insert_default();
}

/// Fills in what pods get and templates don't.
pub fn set_pod_defaults(spec: &mut PodSpec) {
    set_defaults(spec);
    spec.enable_service_links.get_or_insert(true);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        spec.termination_grace_period_seconds = Some(1);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = &mut container.resources {
            requests_from_limits(resources);
        }
        for port in container.ports.iter_mut().flatten().filter(|_| host_network) {
            if port.host_port.unwrap_or_default() == 0 {
                port.host_port = Some(port.container_port);
            }
        }
    }
    pod_level_defaults(spec);
}

/// What the whole pod asks for, where it says a part: huge pages as its containers are limited to, cpu and memory as they ask for,
/// and for the rest what it is limited to itself.
fn pod_level_defaults(spec: &mut PodSpec) {
    let Some(mut resources) = spec.resources.take() else { return };
    let pod = Pod { spec: Some(PodSpec { overhead: None, ..spec.clone() }), ..Pod::default() };
    let given = |amounts: &Amounts| amounts.as_ref().is_some_and(|amounts| !amounts.is_empty());
    let huge = |name: &str| checks::is_huge_pages(name);
    if given(&resources.limits) || given(&resources.requests) {
        let asked = resources.requests.clone().unwrap_or_default();
        let limits = pods::limits(&pod).0.into_iter();
        fill(&mut resources.limits, limits.filter(|(name, _)| huge(name) && !asked.contains_key(name)));
    }
    if given(&resources.limits) {
        let compute = |name: &str| matches!(name, "cpu" | "memory");
        fill(&mut resources.requests, pods::requests(&pod).0.into_iter().filter(|(name, _)| compute(name)));
        for (name, limit) in resources.limits.iter().flatten().filter(|(name, _)| compute(name) || huge(name)) {
            let requests = resources.requests.get_or_insert_default();
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    spec.resources = Some(resources);
}

type Amounts = Option<BTreeMap<String, WireQuantity>>;

fn fill(amounts: &mut Amounts, found: impl Iterator<Item = (String, Quantity)>) {
    for (name, amount) in found {
        let amounts = amounts.get_or_insert_default();
        amounts.entry(name).or_insert_with(|| WireQuantity(amount.to_string()));
    }
}

/// Forgets the fields of features that are off by default upstream.
pub fn drop_what_is_off(spec: &mut PodSpec) {
    spec.scheduling_group = None;
    for source in spec.volumes.iter_mut().flatten().filter_map(|volume| volume.projected.as_mut()) {
        for source in source.sources.iter_mut().flatten() {
            source.cluster_trust_bundle = None;
            source.pod_certificate = None;
        }
    }
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    let hooks = containers.map(|container| &mut container.lifecycle);
    for hooks in hooks.chain(spec.ephemeral_containers.iter_mut().flatten().map(|container| &mut container.lifecycle)) {
        if let Some(lifecycle) = hooks
            && lifecycle.stop_signal.take().is_some()
            && *lifecycle == Lifecycle::default()
        {
            *hooks = None;
        }
    }
}

/// The deprecated `serviceAccount` always equals `serviceAccountName`.
fn mirror_service_account(spec: &mut PodSpec) {
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let name = given(&spec.service_account_name).or_else(|| given(&spec.service_account));
    spec.service_account_name.clone_from(&name);
    spec.service_account = name;
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    if limits.is_empty() {
        return;
    }
    let requests = resources.requests.get_or_insert_default();
    for (resource, amount) in limits {
        requests.entry(resource.clone()).or_insert_with(|| amount.clone());
    }
}

fn container_defaults(container: &mut Container) {
    if container.image_pull_policy.as_deref().unwrap_or_default().is_empty() {
        container.image_pull_policy = Some(pull_policy(container.image.as_deref().unwrap_or_default()).to_owned());
    }
    default(&mut container.termination_message_path, "/dev/termination-log");
    default(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        default(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(env_defaults);
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe]
        .into_iter()
        .flatten()
    {
        probe_defaults(probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        lifecycle_defaults(lifecycle);
    }
}

fn ephemeral_defaults(container: &mut EphemeralContainer) {
    if container.image_pull_policy.as_deref().unwrap_or_default().is_empty() {
        container.image_pull_policy = Some(pull_policy(container.image.as_deref().unwrap_or_default()).to_owned());
    }
    default(&mut container.termination_message_path, "/dev/termination-log");
    default(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        default(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(env_defaults);
}

/// Images without a tag, or with the tag `latest`, are always pulled; what does not parse as an image is not.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let after_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[after_slash..].split_once(':') {
        Some((last, tag)) => (&name[..after_slash + last.len()], Some(tag)),
        None => (name, None),
    };
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        Some(_) | None => repository,
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let wellformed = !path.is_empty() && path.bytes().all(plain);
    match (wellformed, tag, digest) {
        (true, Some("latest"), _) | (true, None, None) => "Always",
        (true | false, _, _) => "IfNotPresent",
    }
}

fn env_defaults(env: &mut EnvVar) {
    let Some(source) = &mut env.value_from else { return };
    field_ref_defaults(&mut source.field_ref);
    if let Some(file) = &mut source.file_key_ref {
        file.optional.get_or_insert(false);
    }
}

fn field_ref_defaults(field: &mut Option<ObjectFieldSelector>) {
    if let Some(field) = field {
        default(&mut field.api_version, "v1");
    }
}

fn probe_defaults(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, value| {
        if field.unwrap_or_default() == 0 {
            *field = Some(value);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    http_defaults(&mut probe.http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn lifecycle_defaults(lifecycle: &mut Lifecycle) {
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        http_defaults(&mut handler.http_get);
    }
}

fn http_defaults(action: &mut Option<HTTPGetAction>) {
    if let Some(action) = action {
        default(&mut action.path, "/");
        default(&mut action.scheme, "HTTP");
    }
}

fn volume_defaults(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        source.items.iter_mut().flatten().for_each(|item| field_ref_defaults(&mut item.field_ref));
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        source.sources.iter_mut().flatten().for_each(projection_defaults);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.image
        && source.pull_policy.as_deref().unwrap_or_default().is_empty()
    {
        source.pull_policy = Some(pull_policy(source.reference.as_deref().unwrap_or_default()).to_owned());
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut()) {
        template.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    }
    network_volume_defaults(volume);
}

fn network_volume_defaults(volume: &mut Volume) {
    if let Some(source) = &mut volume.iscsi {
        default(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        default(&mut source.pool, "rbd");
        default(&mut source.user, "admin");
        default(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        source.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        source.kind.get_or_insert_with(|| "Shared".to_owned());
        source.fs_type.get_or_insert_with(|| "ext4".to_owned());
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut volume.scale_io {
        default(&mut source.storage_mode, "ThinProvisioned");
        default(&mut source.fs_type, "xfs");
    }
}

fn projection_defaults(source: &mut VolumeProjection) {
    if let Some(token) = &mut source.service_account_token {
        token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
    }
    if let Some(downward) = &mut source.downward_api {
        downward.items.iter_mut().flatten().for_each(|item| field_ref_defaults(&mut item.field_ref));
    }
}

fn default(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        let table = [
            ("i", "Always"),
            ("i:latest", "Always"),
            ("repo/img", "Always"),
            ("host:5000/img", "Always"),
            ("i:1", "IfNotPresent"),
            ("host:5000/img:1", "IfNotPresent"),
            ("i@sha256:00", "IfNotPresent"),
            ("", "IfNotPresent"),
            (" i", "IfNotPresent"),
            ("Upper", "IfNotPresent"),
            ("Host.io/img", "Always"),
        ];
        for (image, policy) in table {
            assert_eq!(pull_policy(image), policy, "{image:?}");
        }
    }
}
