//! What the kinds that keep pods alive share: a selector that must match the template, and pods that restart always.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;

use super::{checks, internal, pod_spec};

/// All errors of selector and template; `kind` is how upstream calls the kind in the messages.
pub fn selector_and_template(
    errors: &mut FieldErrors,
    path: &FieldPath,
    selector: &MetaSelector,
    template: &PodTemplateSpec,
    kind: &str,
) {
    let selector = selector_errors(errors, path, selector, kind);
    template_errors(errors, &path.child("template"), selector.as_ref(), template, kind);
}

/// All errors of a selector; answers it if it can be used. A missing one selects nothing.
pub fn selector_errors(
    errors: &mut FieldErrors,
    path: &FieldPath,
    selector: &MetaSelector,
    kind: &str,
) -> Option<LabelSelector> {
    let path = path.child("selector");
    if *selector == MetaSelector::default() {
        errors.push(FieldError::required(&path, ""));
        return Some(LabelSelector::nothing());
    }
    checks::label_selector(errors, &path, Some(selector));
    let empty = |selector: &MetaSelector| {
        selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    };
    if empty(selector) {
        let detail = format!("empty selector is invalid for {}", kind.to_lowercase());
        errors.push(FieldError::invalid(&path, MetaSelector::default(), detail));
    }
    match LabelSelector::from_meta(selector) {
        Ok(selector) => Some(selector),
        Err(_) => {
            errors.push(internal::invalid(&path, "meta/v1.LabelSelector", selector, "invalid label selector"));
            None
        }
    }
}

/// All errors of a template, and whether the selector finds its pods.
pub fn template_errors(
    errors: &mut FieldErrors,
    path: &FieldPath,
    selector: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    kind: &str,
) {
    let Some(selector) = selector else { return };
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    if !selector.is_everything() && !selector.matches(&labels) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&path.child("metadata").child("labels"), labels, detail));
    }
    pod_spec::validate_template(errors, path, template);
    let path = path.child("spec");
    let spec = template.spec.as_ref();
    let restart = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    checks::one_of(errors, &path.child("restartPolicy"), restart, &["Always"]);
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}

/// A count that may not be negative, nor more than the whole (the first one).
pub fn parts_of(errors: &mut FieldErrors, whole: i32, parts: &[(&str, i32)]) {
    let path = FieldPath::root("status");
    for (name, count) in [("replicas", whole)].iter().chain(parts) {
        checks::non_negative(errors, &path.child(name), *count);
    }
    for (name, count) in parts.iter().filter(|(_, count)| *count > whole) {
        errors.push(FieldError::invalid(&path.child(name), count, "cannot be greater than status.replicas"));
    }
}
