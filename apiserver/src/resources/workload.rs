//! What the kinds that keep pods alive share: a selector that must match the template, pods that restart always, counts of pods in
//! the status, and two cells of their Tables.

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as MetaSelector, ObjectMeta};
use serde_json::Value;

use super::{Column, checks, internal, pod_spec, printing};

/// All errors of a selector that must be there and not be empty; answers it if it can be used. A missing one selects nothing.
/// `kind` is how upstream calls the kind here, `unusable` what it says of a selector with bad parts.
pub fn selector_errors(
    errors: &mut FieldErrors,
    path: &FieldPath,
    selector: &MetaSelector,
    kind: &str,
    unusable: &str,
) -> Option<LabelSelector> {
    let path = path.child("selector");
    if is_missing(selector) {
        errors.push(FieldError::required(&path, ""));
        return Some(LabelSelector::nothing());
    }
    checks::label_selector(errors, &path, Some(selector));
    emptiness(errors, &path, selector, kind);
    let usable = LabelSelector::from_meta(selector);
    if usable.is_err() {
        errors.push(internal::invalid(&path, "meta/v1.LabelSelector", selector, unusable));
    }
    usable.ok()
}

/// Whether there is no selector at all.
pub fn is_missing(selector: &MetaSelector) -> bool {
    *selector == MetaSelector::default()
}

/// A selector that is there says something.
pub fn emptiness(errors: &mut FieldErrors, path: &FieldPath, selector: &MetaSelector, kind: &str) {
    let labels = selector.match_labels.as_ref().map_or(0, BTreeMap::len);
    if labels + selector.match_expressions.as_ref().map_or(0, Vec::len) == 0 {
        errors.push(FieldError::invalid(
            path,
            MetaSelector::default(),
            format!("empty selector is invalid for {kind}"),
        ));
    }
}

/// A selector never changes.
pub fn selector_stays(errors: &mut FieldErrors, new: &MetaSelector, old: &MetaSelector) {
    let path = FieldPath::root("spec").child("selector");
    checks::immutable_as(errors, &path, "meta/v1.LabelSelector", new, old);
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
    labels_match(errors, path, selector, template);
    pod_spec::validate_template(errors, path, template);
    restart_always(errors, path, template, kind);
}

/// The selector finds the template's pods.
pub fn labels_match(errors: &mut FieldErrors, path: &FieldPath, selector: &LabelSelector, template: &PodTemplateSpec) {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    if !selector.is_everything() && !selector.matches_option(labels) {
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&path.child("metadata").child("labels"), labels, detail));
    }
}

/// Pods that are kept alive restart always and have no deadline.
pub fn restart_always(errors: &mut FieldErrors, path: &FieldPath, template: &PodTemplateSpec, kind: &str) {
    let path = path.child("spec");
    let spec = template.spec.as_ref();
    let restart = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    checks::one_of(errors, &path.child("restartPolicy"), restart, &["Always"]);
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}

/// Counts of a status that may not be negative.
pub fn counts(errors: &mut FieldErrors, counts: &[(&str, Option<i64>)]) {
    for (name, count) in counts {
        checks::non_negative_option(errors, &FieldPath::root("status").child(name), *count);
    }
}

/// Counts that may not be more than the whole.
pub fn parts_of(errors: &mut FieldErrors, whole: i32, parts: &[(&str, Option<i32>)]) {
    for (name, count) in parts {
        at_most(errors, name, *count, whole, "cannot be greater than status.replicas");
    }
}

/// A count that may not be more than another.
pub fn at_most(errors: &mut FieldErrors, name: &str, count: Option<i32>, whole: i32, detail: &str) {
    let count = count.unwrap_or_default();
    if count > whole {
        errors.push(FieldError::invalid(&FieldPath::root("status").child(name), count, detail));
    }
}

/// Collisions of names are only ever added to.
pub fn collisions(errors: &mut FieldErrors, new: Option<i32>, old: Option<i32>) {
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        let path = FieldPath::root("status").child("collisionCount");
        errors.push(FieldError::invalid(&path, new.unwrap_or_default(), "cannot be decremented"));
    }
}

/// Whether an update counts as one of what is desired; a new object always does.
pub fn desires_more(new: &ObjectMeta, old: Option<&ObjectMeta>) -> bool {
    old.is_none_or(|old| old.generation != new.generation)
}

/// The warning on a new object whose name becomes part of host names, but is no DNS label.
pub fn name_warning(meta: &ObjectMeta, old: Option<&ObjectMeta>) -> Option<String> {
    let messages = names::is_dns1123_label(meta.name.as_deref().unwrap_or_default());
    (old.is_none() && !messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// The warnings of a kind whose name and template become pods.
pub fn warnings(new: &ObjectMeta, old: Option<&ObjectMeta>, template: Option<&PodTemplateSpec>) -> Vec<String> {
    let mut warnings: Vec<String> = name_warning(new, old).into_iter().collect();
    if desires_more(new, old) {
        warnings.extend(pod_spec::template_warnings(&FieldPath::root("spec").child("template"), template));
    }
    warnings
}

/// The columns of what runs in the pods.
pub fn container_columns() -> [Column; 2] {
    [
        printing::wide("Containers", "Names of each container in the template."),
        printing::wide("Images", "Images referenced by each container in the template."),
    ]
}

/// Their cells.
pub fn container_cells(template: Option<&PodTemplateSpec>) -> [Value; 2] {
    let (containers, images) = printing::containers(template.and_then(|template| template.spec.as_ref()));
    [Value::from(containers), Value::from(images)]
}

/// `ready/desired`.
pub fn ready_cell(ready: Option<i32>, desired: Option<i32>) -> Value {
    Value::from(format!("{}/{}", ready.unwrap_or_default(), desired.unwrap_or_default()))
}
