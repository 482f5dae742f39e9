//! What every kind with pods in it shares: defaults and validation of a pod's spec and of pod templates.
//! Entry points: [`set_defaults`], [`validate`], [`validate_template`].
//!
//! Invariant: errors come in upstream's order, so that a message with several of them reads the same.

mod containers;
mod defaults;
mod env;
mod overlaps;
mod probes;
mod resources;
mod scheduling;
mod security;
mod system;
mod volumes;
mod warnings;
mod windows;

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    HostAlias, PodDNSConfig, PodResourceClaim, PodSpec, PodTemplateSpec, ResourceRequirements,
};

pub use self::containers::images;
pub use self::containers::validate_ephemeral;
pub use self::defaults::{drop_what_is_off, set_pod_defaults, set_template_defaults};
pub use self::resources::{container_resource_name, requirements};
pub use self::scheduling::{apply_label_keys, node_selector, taint_effect, toleration_list};
pub use self::security::app_armor;
pub use self::warnings::{claim_warnings, old_label, old_labels_of_term, pod_warnings, template_warnings};
use super::{checks, internal, pod};

/// The longest name that a Linux host can have, in bytes.
const HOST_NAME_MAX: usize = 64;

/// Whose spec it is.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A pod's, which has this name.
    Pod(&'a str),
    /// A template's: the names of its pods are not known yet.
    Template,
}

impl<'a> Of<'a> {
    /// The pod's name, if there is one.
    fn pod(self) -> Option<&'a str> {
        match self {
            Of::Pod(name) => Some(name).filter(|name| !name.is_empty()),
            Of::Template => None,
        }
    }

    fn is_pod(self) -> bool {
        matches!(self, Of::Pod(_))
    }
}

/// All errors of a spec.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, of: Of<'_>) {
    let list = spec.volumes.as_deref().unwrap_or_default();
    let volumes = volumes::validate(errors, &path.child("volumes"), list, of);
    claims(errors, &path.child("resourceClaims"), spec.resource_claims.as_deref().unwrap_or_default());
    containers::validate(errors, path, spec, &volumes);
    env::files(errors, path, spec);
    pod_resources(errors, path, spec);
    if spec.host_network == Some(true) {
        containers::host_network_ports(errors, path, spec, of);
    }
    checks::one_of(
        errors,
        &path.child("restartPolicy"),
        spec.restart_policy.as_deref().unwrap_or_default(),
        &["Always", "OnFailure", "Never"],
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    checks::one_of(errors, &path.child("dnsPolicy"), spec.dns_policy.as_deref().unwrap_or_default(), &policies);
    checks::labels(errors, &path.child("nodeSelector"), spec.node_selector.as_ref());
    security::pod(errors, path, spec);
    scheduling::affinity(errors, &path.child("affinity"), spec.affinity.as_ref());
    dns_config(errors, &path.child("dnsConfig"), spec.dns_config.as_ref(), spec.dns_policy.as_deref() == Some("None"));
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        checks::label_key(errors, &path.child("readinessGates").index(i).child("conditionType"), &gate.condition_type);
    }
    scheduling::gates(errors, &path.child("schedulingGates"), spec.scheduling_gates.as_deref().unwrap_or_default());
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    scheduling::spread_constraints(errors, &path.child("topologySpreadConstraints"), constraints);
    windows::host_processes(errors, path, spec);
    security::own_users(errors, path, spec);
    names_and_numbers(errors, path, spec);
    scheduling::toleration_list(errors, &path.child("tolerations"), spec.tolerations.as_deref().unwrap_or_default());
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(errors, &path.child("hostAliases").index(i), alias);
    }
    last_fields(errors, path, spec);
}

/// All errors of a template: its labels, annotations and spec.
pub fn validate_template(errors: &mut FieldErrors, path: &FieldPath, template: &PodTemplateSpec) {
    let meta = template.metadata.clone().unwrap_or_default();
    checks::labels(errors, &path.child("labels"), meta.labels.as_ref());
    checks::annotations(errors, &path.child("annotations"), meta.annotations.as_ref());
    let spec = template.spec.clone().unwrap_or_default();
    pod::annotations(errors, &path.child("annotations"), meta.annotations.as_ref(), &spec);
    validate(errors, &path.child("spec"), &spec, Of::Template);
    pod::profiles_agree(errors, &path.child("spec"), meta.annotations.as_ref(), &spec);
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let path = path.child("spec").child("ephemeralContainers");
        errors.push(FieldError::forbidden(&path, "ephemeral containers not allowed in pod template"));
    }
}

fn names_and_numbers(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let name = |errors: &mut FieldErrors, field: &str, value: Option<&String>, rule: fn(&str) -> Vec<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            errors.push_invalid(&path.child(field), value, rule(value));
        }
    };
    name(errors, "serviceAccountName", spec.service_account_name.as_ref(), names::is_dns1123_subdomain);
    name(errors, "nodeName", spec.node_name.as_ref(), names::is_dns1123_subdomain);
    if let Some(seconds) = spec.active_deadline_seconds {
        checks::in_range(errors, &path.child("activeDeadlineSeconds"), seconds, 1, i64::from(i32::MAX));
    }
    name(errors, "hostname", spec.hostname.as_ref(), names::is_dns1123_label);
    name(errors, "subdomain", spec.subdomain.as_ref(), names::is_dns1123_label);
    host_name(errors, &path.child("hostnameOverride"), spec);
}

/// A name of the host instead of those that follow from other fields, so none of them may ask for one of its own.
fn host_name(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let Some(name) = spec.hostname_override.as_ref().filter(|name| !name.is_empty()) else { return };
    errors.push_invalid(path, name, names::is_dns1123_subdomain(name));
    if name.len() > HOST_NAME_MAX {
        errors.push(FieldError::too_long(path, HOST_NAME_MAX));
    }
    let others = [("setHostnameAsFQDN", spec.set_hostname_as_fqdn), ("hostNetwork", spec.host_network)];
    for (other, _) in others.iter().filter(|(_, set)| *set == Some(true)) {
        errors.push(FieldError::forbidden(path, format!("may not be set when `{other}` is true")));
    }
}

fn last_fields(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    if let Some(class) = spec.priority_class_name.as_ref().filter(|class| !class.is_empty()) {
        errors.push_invalid(&path.child("priorityClassName"), class, names::is_dns1123_subdomain(class));
    }
    if let Some(class) = &spec.runtime_class_name {
        errors.push_invalid(&path.child("runtimeClassName"), class, names::is_dns1123_subdomain(class));
    }
    if let Some(policy) = &spec.preemption_policy {
        checks::required_one_of(errors, &path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if let Some(overhead) = &spec.overhead {
        let limits = ResourceRequirements { limits: Some(overhead.clone()), ..ResourceRequirements::default() };
        requirements(errors, &path.child("overhead"), &limits, container_resource_name, &BTreeSet::new());
    }
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        None => {}
        Some("") => errors.push(FieldError::required(&path.child("os").child("name"), "cannot be empty")),
        Some("linux") => system::linux(errors, path, spec),
        Some("windows") => system::windows(errors, path, spec),
        Some(other) => errors.push(checks::unsupported(&path.child("os"), other, &["linux", "windows"])),
    }
}

fn claims(errors: &mut FieldErrors, path: &FieldPath, claims: &[PodResourceClaim]) {
    let mut taken = BTreeSet::new();
    for (i, claim) in claims.iter().enumerate() {
        let (path, name) = (path.index(i), claim.name.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !taken.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        } else {
            errors.push_invalid(&path.child("name"), name, names::is_dns1123_label(name));
        }
        let detail = match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (None, None) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            (Some(_), None) | (None, Some(_)) => None,
        };
        if let Some(detail) = detail {
            errors.push(internal::invalid(&path, "v1.PodResourceClaim", claim, detail));
        }
        let named = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        for (field, name) in named {
            if let Some(name) = name {
                errors.push_invalid(&path.child(field), name, names::is_dns1123_subdomain(name));
            }
        }
    }
}

/// Requests and limits of the whole pod: not less than its containers ask for together, nor than one of them may have.
fn pod_resources(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let Some(resources) = &spec.resources else { return };
    let path = path.child("resources");
    if resources.claims.is_some() {
        errors.push(FieldError::forbidden(&path.child("claims"), "claims cannot be set for Resources at pod-level"));
    }
    requirements(errors, &path, resources, resources::pod_resource_name, &containers::claim_names(spec));
    let pod = k8s_openapi::api::core::v1::Pod {
        spec: Some(PodSpec { resources: None, overhead: None, ..spec.clone() }),
        ..Default::default()
    };
    for (resource, needed) in &api::pods::requests(&pod).0 {
        let given = resources.requests.as_ref().and_then(|requests| requests.get(resource)).map(checks::quantity);
        let given = given.unwrap_or_default();
        if *needed > given {
            let detail = format!("must be greater than or equal to aggregate container requests of {needed}");
            errors.push(FieldError::invalid(&path.child("requests").key(resource), given.to_string(), detail));
        }
    }
    for (i, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (resource, limit) in limits.into_iter().flatten() {
            let whole = resources.limits.as_ref().and_then(|limits| limits.get(resource)).map(checks::quantity);
            let limit = checks::quantity(limit);
            if let Some(whole) = whole.filter(|whole| limit > *whole) {
                let path = path.child("containers").index(i).key(resource).child("limits");
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

fn host_alias(errors: &mut FieldErrors, path: &FieldPath, alias: &HostAlias) {
    checks::ip(errors, &path.child("ip"), &alias.ip);
    for (i, name) in alias.hostnames.iter().flatten().enumerate() {
        errors.push_invalid(&path.child("hostnames").index(i), name, names::is_dns1123_subdomain(name));
    }
}

fn dns_config(errors: &mut FieldErrors, path: &FieldPath, config: Option<&PodDNSConfig>, needed: bool) {
    const MAX_SERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    const MAX_SEARCH_CHARACTERS: usize = 2048;
    let Some(config) = config else {
        if needed {
            errors.push(FieldError::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if needed && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(&path.child("nameservers"), detail));
        return;
    }
    if servers.len() > MAX_SERVERS {
        let detail = format!("must not have more than {MAX_SERVERS} nameservers");
        errors.push(FieldError::invalid(&path.child("nameservers"), servers, detail));
    }
    for (i, server) in servers.iter().enumerate() {
        checks::ip(errors, &path.child("nameservers").index(i), server);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::invalid(&path.child("searches"), searches, detail));
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let detail =
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list");
        errors.push(FieldError::invalid(&path.child("searches"), searches, detail));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.push_invalid(&path.child("searches").index(i), search, names::is_search_path(search));
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(&path.child("options").index(i), "must not be empty"));
        }
    }
}

#[cfg(test)]
mod tests;
