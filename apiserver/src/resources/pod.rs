//! Pod: born Pending; after that its spec is fixed but for a few fields, and only `/status`, `/binding` and
//! `/ephemeralcontainers` say more.

mod annotations;
mod columns;
mod resize;
mod status;
mod update;

use api::conditions;
use api::field::{FieldError, FieldErrors, FieldPath};
use api::pods;
use k8s_openapi::api::core::v1::{Pod as Object, PodCondition, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::annotations::{annotations, old_profiles, old_seccomp, profiles_agree};
use super::{Columns, Kind, MetadataCheck, Subresource, pod_spec};

/// See the module.
pub struct Pod;

impl Kind for Pod {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[
        ("spec.nodeName", &["/spec/nodeName"]),
        ("spec.restartPolicy", &["/spec/restartPolicy"]),
        ("spec.schedulerName", &["/spec/schedulerName"]),
        ("spec.serviceAccountName", &["/spec/serviceAccountName"]),
        ("spec.hostNetwork", &["/spec/hostNetwork", "false"]),
        ("status.phase", &["/status/phase"]),
        ("status.podIP", &["/status/podIP"]),
        ("status.podIPs", &["/status/podIP"]),
        ("status.nominatedNodeName", &["/status/nominatedNodeName"]),
    ];
    const GENERATION: bool = true;
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        pod_spec::set_pod_defaults(object.spec.get_or_insert_default());
        if let Some(status) = &mut object.status {
            agree_on_addresses(status);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        let condition = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("SchedulingGated".to_owned()),
            message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
            ..PodCondition::default()
        };
        object.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(pods::qos_class(spec).as_str().to_owned()),
            conditions: gated.then(|| vec![condition]),
            ..PodStatus::default()
        });
        let spec = object.spec.get_or_insert_default();
        pod_spec::drop_what_is_off(spec);
        pod_spec::apply_label_keys(spec, object.metadata.labels.as_ref());
        annotations::profiles_from_annotations(object.metadata.annotations.as_ref(), spec);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        pod_spec::drop_what_is_off(new.spec.get_or_insert_default());
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        new.metadata.deletion_timestamp.clone_from(&old.metadata.deletion_timestamp);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
        let status = new.status.get_or_insert_default();
        if let Some(old) = &old.status {
            if status.qos_class.as_deref().unwrap_or_default().is_empty() {
                status.qos_class.clone_from(&old.qos_class);
            }
            status::keep_generations(status, old);
        }
    }

    fn kept_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(Subresource::EphemeralContainers) => &["spec.ephemeralContainers"],
            Some(Subresource::Resize) => &[
                "spec.containers.*.resources",
                "spec.containers.*.resizePolicy",
                "spec.initContainers.*.resources",
                "spec.initContainers.*.resizePolicy",
            ],
            _ => &[],
        }
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(Subresource::Status) => &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
            _ => &["status"],
        }
    }

    fn grace_period(object: &Object, requested: Option<i64>) -> Option<i64> {
        const DEFAULT: i64 = 30;
        let spec = object.spec.as_ref();
        let bound = spec.and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        if !bound || api::pods::is_terminal(object) {
            return Some(0);
        }
        let wanted =
            requested.or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds)).unwrap_or(DEFAULT);
        Some(if wanted < 0 { 1 } else { wanted })
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let none = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&none);
        update::whole(&mut errors, object);
        if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
        }
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        if gated && spec.node_name.as_ref().is_some_and(|node| !node.is_empty()) {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
        }
        profiles_agree(&mut errors, &path, object.metadata.annotations.as_ref(), spec);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        update::validate(new, old)
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        status::validate(new, old)
    }

    /// Of the metadata only what the server keeps itself.
    fn prepare_for_subresource_update(subresource: Subresource, new: &mut Object, old: &Object) {
        let spec = match subresource {
            Subresource::Resize => resize::prepare(new, old),
            _ => PodSpec {
                ephemeral_containers: new.spec.take().and_then(|spec| spec.ephemeral_containers),
                ..old.spec.clone().unwrap_or_default()
            },
        };
        new.spec = Some(spec);
        new.status.clone_from(&old.status);
        let ObjectMeta { managed_fields, resource_version, .. } = std::mem::take(&mut new.metadata);
        new.metadata = ObjectMeta { managed_fields, resource_version, ..old.metadata.clone() };
    }

    fn validate_subresource_update(subresource: Subresource, new: &Object, old: &Object) -> FieldErrors {
        if subresource == Subresource::Resize {
            return resize::validate(new, old);
        }
        update::validate_ephemeral(new, old)
    }

    fn columns() -> Columns<Object> {
        columns::columns()
    }

    fn completion(object: &Object) -> Option<(&'static str, &'static str)> {
        match object.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Succeeded") => Some(("Succeeded", "The pod has completed successfully.")),
            Some("Failed") => Some(("Failed", "The pod failed.")),
            _ => None,
        }
    }

    /// Of new pods only: pods are written too often for that.
    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        let wrong = api::names::is_dns1123_label(new.metadata.name.as_deref().unwrap_or_default());
        if !wrong.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                wrong.join(" ")
            ));
        }
        warnings.extend(pod_spec::pod_warnings(&new.metadata, new.spec.as_ref()));
        warnings
    }

    fn status_warnings(new: &Object) -> Vec<String> {
        status::warnings(new)
    }
}

/// `podIP` is the first of `podIPs`.
fn agree_on_addresses(status: &mut PodStatus) {
    let first = status.pod_ips.as_ref().and_then(|ips| ips.first()).map(|ip| ip.ip.clone());
    match (first, status.pod_ip.clone().filter(|ip| !ip.is_empty())) {
        (Some(first), Some(ip)) if first != ip => status.pod_ips = Some(vec![PodIP { ip }]),
        (Some(first), _) => status.pod_ip = Some(first),
        (None, Some(ip)) => status.pod_ips = Some(vec![PodIP { ip }]),
        (None, None) => {}
    }
}

/// Whether the condition `Ready` holds.
fn is_ready(object: &Object) -> bool {
    let found = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions::is_true(found, "Ready")
}

#[cfg(test)]
mod tests;
