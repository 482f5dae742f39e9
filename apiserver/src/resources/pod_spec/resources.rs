//! Requests and limits of containers.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::resources::checks::{self, is_huge_pages, is_native_resource, quantity};

/// All errors of requests and limits.
pub fn requirements(errors: &mut FieldErrors, path: &FieldPath, requirements: Option<&ResourceRequirements>) {
    let Some(requirements) = requirements else { return };
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (resource, amount) in requirements.limits.iter().flatten() {
        container_resource_name(errors, &limits_path.key(resource), resource);
        checks::resource_quantity(errors, &limits_path.key(resource), resource, amount);
    }
    for (resource, amount) in requirements.requests.iter().flatten() {
        container_resource_name(errors, &requests_path.key(resource), resource);
        checks::resource_quantity(errors, &requests_path.key(resource), resource, amount);
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
    }
    let mut named = requirements.limits.iter().chain(&requirements.requests).flat_map(|amounts| amounts.keys());
    let huge = named.clone().any(|resource| is_huge_pages(resource));
    if huge && !named.any(|resource| resource == "cpu" || resource == "memory") {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
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
