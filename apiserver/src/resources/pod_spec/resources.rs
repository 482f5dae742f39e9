//! Requests and limits of containers.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};

use crate::resources::checks::{self, is_huge_pages, is_native_resource, quantity};

/// All errors of requests and limits.
pub fn requirements(
    errors: &mut FieldErrors,
    path: &FieldPath,
    requirements: &ResourceRequirements,
    name_rule: fn(&mut FieldErrors, &FieldPath, &str),
    claims: &BTreeSet<&str>,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (resource, amount) in requirements.limits.iter().flatten() {
        let path = limits_path.key(resource);
        name_rule(errors, &path, resource);
        checks::resource_quantity(errors, &path, resource, amount);
        huge_pages(errors, &path, resource, quantity(amount));
    }
    for (resource, amount) in requirements.requests.iter().flatten() {
        let path = requests_path.key(resource);
        name_rule(errors, &path, resource);
        checks::resource_quantity(errors, &path, resource, amount);
        let amount = quantity(amount);
        let overcommit = is_native_resource(resource) && !is_huge_pages(resource);
        match requirements.limits.as_ref().and_then(|limits| limits.get(resource)).map(quantity) {
            Some(limit) if amount != limit && !overcommit => {
                let detail = format!("must be equal to {resource} limit of {limit}");
                errors.push(FieldError::invalid(&requests_path, amount.to_string(), detail));
            }
            Some(limit) if amount > limit => {
                let detail = format!("must be less than or equal to {resource} limit of {limit}");
                errors.push(FieldError::invalid(&requests_path, amount.to_string(), detail));
            }
            None if !overcommit => {
                errors.push(FieldError::required(&limits_path, "Limit must be set for non overcommitable resources"));
            }
            Some(_) | None => {}
        }
        huge_pages(errors, &path, resource, amount);
    }
    let mut named = requirements.limits.iter().chain(&requirements.requests).flat_map(|amounts| amounts.keys());
    let huge = named.clone().any(|resource| is_huge_pages(resource));
    if huge && !named.any(|resource| resource == "cpu" || resource == "memory") {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    let given = requirements.claims.as_deref().unwrap_or_default();
    claim_names(errors, &path.child("claims"), given, claims);
}

/// Huge pages come whole.
fn huge_pages(errors: &mut FieldErrors, path: &FieldPath, resource: &str, amount: Quantity) {
    let Some(size) = resource.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok()) else { return };
    let (size, bytes) = (size.value(), amount.value());
    if size <= 0 || bytes < size || bytes % size != 0 {
        let detail = format!("{amount} is not positive integer multiple of {resource}");
        errors.push(FieldError::invalid(path, amount.to_string(), detail));
    }
}

fn claim_names(errors: &mut FieldErrors, path: &FieldPath, given: &[ResourceClaim], known: &BTreeSet<&str>) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in given.iter().enumerate() {
        let (path, name) = (path.index(i), claim.name.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let request = claim.request.as_deref().filter(|request| !request.is_empty());
        let key = request.map_or_else(|| name.to_owned(), |request| format!("{name}/{request}"));
        let part = format!("{name}/");
        if taken.contains(name) || request.is_none() && taken.iter().any(|key| key.starts_with(&part)) {
            errors.push(FieldError::duplicate(&path, name));
        } else if taken.contains(&key) {
            errors.push(FieldError::duplicate(&path, &key));
        }
        if let Some(request) = request {
            errors.push_invalid(&path.child("request"), request, names::is_dns1123_label(request));
        }
        taken.insert(key);
        if !known.contains(name) {
            let all = known.iter().copied().collect::<Vec<_>>().join(", ");
            let rest = if known.is_empty() { " which is empty".to_owned() } else { format!(": {all}") };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            errors.push(FieldError { detail, ..FieldError::not_found(&path, name) });
        }
    }
}

/// The name of a resource that a whole pod can ask for.
pub fn pod_resource_name(errors: &mut FieldErrors, path: &FieldPath, resource: &str) {
    let before = errors.len();
    checks::resource_name(errors, path, resource);
    if errors.len() == before && !matches!(resource, "cpu" | "memory") && !is_huge_pages(resource) {
        errors.push(checks::unsupported(path, resource, &["cpu", "hugepages-", "memory"]));
    }
}

/// The name of a resource that a container can ask for.
pub fn container_resource_name(errors: &mut FieldErrors, path: &FieldPath, resource: &str) {
    checks::resource_name(errors, path, resource);
    let standard = ["cpu", "memory", "ephemeral-storage"].contains(&resource) || is_huge_pages(resource);
    if !resource.contains('/') && !standard {
        errors.push(FieldError::invalid(path, resource, "must be a standard resource for containers"));
    } else if !is_native_resource(resource) && !checks::is_extended_resource(resource) {
        errors.push(FieldError::invalid(path, resource, "doesn't follow extended resource name standard"));
    }
}
