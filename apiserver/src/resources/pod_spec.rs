//! What every kind with pods in it shares: defaults and validation of a pod's spec and of pod templates.
//! Entry points: [`set_defaults`], [`validate`], [`validate_template`].
//!
//! Invariant: errors come in upstream's order, so that a message with several of them reads the same.

mod containers;
mod defaults;
mod env;
mod probes;
mod resources;
mod scheduling;
mod security;
mod volumes;
mod warnings;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec, PodTemplateSpec};

pub use self::containers::validate_ephemeral;
pub use self::defaults::{set_pod_defaults, set_template_defaults};
pub use self::resources::{container_resource_name, requirements};
pub use self::scheduling::{node_selector, taint_effect, toleration_list};
pub use self::volumes::{SourceRef, host_path};
pub use self::warnings::{template_warnings, warnings};
use super::checks;

/// All errors of a pod's spec.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec) {
    let volumes = volumes::validate(errors, &path.child("volumes"), spec.volumes.as_deref().unwrap_or_default());
    containers::validate(errors, path, spec, &volumes);
    if spec.host_network == Some(true) {
        containers::host_network_ports(errors, path, spec);
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
    validate(errors, &path.child("spec"), &spec);
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
    for (resource, amount) in spec.overhead.iter().flatten() {
        let path = path.child("overhead").key(resource);
        container_resource_name(errors, &path, resource);
        checks::resource_quantity(errors, &path, resource, amount);
    }
    if let Some(os) = &spec.os {
        if os.name.is_empty() {
            errors.push(FieldError::required(&path.child("os").child("name"), "cannot be empty"));
        } else {
            checks::one_of(errors, &path.child("os"), &os.name, &["linux", "windows"]);
        }
    }
}

fn host_alias(errors: &mut FieldErrors, path: &FieldPath, alias: &HostAlias) {
    checks::ip(errors, &path.child("ip"), &alias.ip);
    for name in alias.hostnames.iter().flatten() {
        errors.push_invalid(&path.child("hostnames"), name, names::is_dns1123_subdomain(name));
    }
}

fn dns_config(errors: &mut FieldErrors, path: &FieldPath, config: Option<&PodDNSConfig>, needed: bool) {
    const MAX_SERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
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
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        // Search paths may hold underscores (relaxed since 1.34) and end with a dot.
        let plain = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        errors.push_invalid(
            &path.child("searches").index(i),
            search,
            names::is_dns1123_subdomain(plain.trim_start_matches('-')),
        );
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(&path.child("options").index(i), "must not be empty"));
        }
    }
}

#[cfg(test)]
mod tests;
