//! What makes `kubectl apply --server-side` the successor of the client-side `kubectl apply`: fields of the last applied
//! configuration, which the client kept in an annotation, are no conflicts; the annotation is kept up to date.

use serde_json::{Map, Value};

use super::conflict::{Conflict, Conflicts};
use super::prune::fields_of;
use super::{Applied, Config};
use crate::write::managed_fields::{Write, compare};

/// The only manager for which this holds.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ANNOTATIONS_MAX: usize = 256 * 1024;

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.pointer("/metadata/annotations").and_then(Value::as_object)
}

fn last_applied(object: &Value) -> Option<&str> {
    annotations(object)?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The conflicts that the last applied configuration does not explain.
pub(super) fn unexplained(conflicts: Conflicts, live: &Value, write: &Write<'_>) -> Conflicts {
    let Some(last) = last_applied(live).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return conflicts;
    };
    let Some(node) = write.kind.node(write.version) else { return conflicts };
    if last.get("apiVersion").and_then(Value::as_str) != Some(write.version) {
        return conflicts;
    }
    let mut own = fields_of(node, &last);
    let changes = compare(node, Some(&last), Some(live));
    for changed in [&changes.modified, &changes.added, &changes.removed] {
        own.subtract(changed);
    }
    let left: Vec<Conflict> = conflicts.0.into_iter().filter(|conflict| !conflict.is_in(&own)).collect();
    Conflicts(left)
}

/// Renews the annotation if the object has it.
pub(super) fn keep(applied: &mut Applied, live: &Value, config: &Config<'_>, write: &Write<'_>) {
    if write.manager != KUBECTL || last_applied(applied.object.as_ref().unwrap_or(live)).is_none() {
        return;
    }
    let mut text = without_annotation(config.value).to_string();
    text.push('\n');
    let object = applied.object.get_or_insert_with(|| live.clone());
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.to_owned(), Value::from(text));
    let size: usize = annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_MAX {
        annotations.remove(ANNOTATION);
    }
    if applied.object.as_ref() == Some(live) {
        applied.object = None;
    }
}

fn without_annotation(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(ANNOTATION);
        if annotations.is_empty()
            && let Some(Value::Object(meta)) = config.get_mut("metadata")
        {
            meta.remove("annotations");
        }
    }
    config
}
