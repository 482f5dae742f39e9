//! Server-side apply: a manager says which fields it wants and what they shall be. Entry point: [`apply`].
//!
//! Fields that the manager applied before and leaves out now go, unless somebody else owns them; fields that others own and that
//! would change are conflicts, unless the manager takes them by force. Pure: the object, its owners and the configuration go in,
//! the new object and its owners come out.

mod check;
mod conflict;
mod last_applied;
mod merge;
mod overlay;
mod prune;

use api::ApiError;
use serde_json::Value;

use super::managed_fields::{self, Entry, EntryError, Held, Managed, Manager, Write};
use managed_fields::Versioned;

pub use conflict::{Conflict, Conflicts};
pub use overlay::overlay;

/// Who owns the fields of an object that was never applied before.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why a configuration can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration is of another kind or version than the request.
    #[error("invalid object type: {0}")]
    Type(String),
    /// The configuration says who owns what.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// The configuration does not fit the type.
    #[error("failed to create typed patch object ({of}): {why}")]
    Malformed {
        /// Namespace, name and type.
        of: String,
        /// What does not fit.
        why: String,
    },
    /// Nobody can read who owns what.
    #[error("failed to decode managed fields: {0}")]
    Owners(#[from] EntryError),
    /// Others own what would change.
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflicts(conflicts) => conflicts.into(),
            ApplyError::Type(_) | ApplyError::ManagedFields => ApiError::bad_request(error.to_string()),
            ApplyError::Malformed { .. } | ApplyError::Owners(_) => ApiError::unclassified(error.to_string()),
        }
    }
}

/// What a manager wants.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// The fields, as an object of the request's version.
    pub value: &'a Value,
    /// The kind that the request names.
    pub kind: &'a str,
    /// Take fields away from others.
    pub force: bool,
}

/// How an apply ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The new object without `metadata.managedFields`; none if it is as it was.
    pub object: Option<Value>,
    /// Who owns what now.
    pub managed: Managed,
}

/// Applies a configuration to an object, which is in the version of the request and without `metadata.managedFields`.
pub fn apply(live: &Value, managed: Managed, config: &Config<'_>, write: &Write<'_>) -> Result<Applied, ApplyError> {
    let value = normal_numbers(config.value.clone());
    let config = Config { value: &value, ..*config };
    check_type(&config, write)?;
    if config.value.pointer("/metadata/managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    let node = write.kind.node(write.version).ok_or_else(|| ApplyError::Type(type_of(config.value)))?;
    let problems = check::problems(node, config.value);
    if !problems.is_empty() {
        return Err(ApplyError::Malformed { of: described(config.value), why: check::show(&problems) });
    }
    let managed = if managed.is_empty() { owned_before(live, write) } else { managed };
    let mut applied = match merged(live, managed.clone(), &config, write) {
        Err(conflicts) if write.manager == last_applied::KUBECTL => {
            let left = last_applied::unexplained(conflicts, live, write);
            if !left.0.is_empty() {
                return Err(left.into());
            }
            merged(live, managed, &Config { force: true, ..config }, write)?
        }
        other => other?,
    };
    last_applied::keep(&mut applied, live, &config, write);
    Ok(applied)
}

/// The owners of an object that has none: what it has is owned by whoever made it.
fn owned_before(live: &Value, write: &Write<'_>) -> Managed {
    let before = Write { manager: BEFORE_FIRST_APPLY, ..*write };
    managed_fields::update(&write.kind.empty(write.version), live, Managed::default(), &before)
}

/// The merged object and its owners.
fn merged(live: &Value, mut managed: Managed, config: &Config<'_>, write: &Write<'_>) -> Result<Applied, Conflicts> {
    let Some(node) = write.kind.node(write.version) else { return Ok(Applied { object: None, managed }) };
    let manager = Manager::applier(write.manager, write.subresource);
    let last = managed.take(&manager);
    let mut fields = prune::fields_of(node, config.value);
    fields.subtract_trees(write.ignored);
    if !write.only.is_empty() {
        fields.keep_paths(write.only);
    }
    let merged = merge::merge(node, Some(live), Some(config.value)).unwrap_or(Value::Null);
    let time = last.as_ref().and_then(|last| last.time);
    let new = match last.filter(|last| !last.fields.is_empty()) {
        Some(last) => {
            managed.insert(Entry {
                manager: manager.clone(),
                version: write.version.to_owned(),
                fields: Held::from(fields.clone()),
                time,
            });
            let pruned = prune::prune(merged, &managed, &last, write);
            managed.take(&manager);
            pruned
        }
        None => merged,
    };
    take_over(live, &new, &mut managed, config.force, write)?;
    let changed = new != *live;
    Write::strip(&mut fields);
    if !fields.is_empty() {
        let time = if changed { Some(write.now) } else { time };
        managed.insert(Entry { manager, version: write.version.to_owned(), fields: Held::from(fields), time });
    }
    Ok(Applied { object: changed.then_some(new), managed })
}

/// Takes the changed fields away from the others, by force or if none of them owns any.
fn take_over(live: &Value, new: &Value, others: &mut Managed, force: bool, write: &Write<'_>) -> Result<(), Conflicts> {
    let mut changes = Versioned::new(write, live, new);
    let mut conflicts = Vec::new();
    others.retain(|entry| {
        let Some(changes) = changes.at(&entry.version) else { return false };
        let mut taken = entry.fields.read().into_owned();
        let mut brought = changes.added.clone();
        brought.union(changes.modified.clone());
        taken.intersect(&brought);
        if !force {
            conflicts.extend(Conflict::all_of(entry, &taken));
        }
        entry.fields.subtract(&taken);
        entry.fields.subtract(&changes.removed);
        true
    });
    if conflicts.is_empty() { Ok(()) } else { Err(Conflicts::sorted(conflicts)) }
}

fn check_type(config: &Config<'_>, write: &Write<'_>) -> Result<(), ApplyError> {
    let text = |name: &str| config.value.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("kind") == config.kind && text("apiVersion") == write.version {
        return Ok(());
    }
    Err(ApplyError::Type(type_of(config.value)))
}

/// Group, version and kind as upstream prints them.
fn type_of(object: &Value) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("apiVersion").split('/').collect::<Vec<_>>().as_slice() {
        [version] => format!("/{version}, Kind={}", text("kind")),
        [group, version] => format!("{group}/{version}, Kind={}", text("kind")),
        _ => "/, Kind=".to_owned(),
    }
}

/// An object as errors name it.
pub fn described(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}; {}", text("/metadata/namespace"), text("/metadata/name"), type_of(object))
}

/// Whole numbers are integers, however they were written.
fn normal_numbers(mut value: Value) -> Value {
    match &mut value {
        Value::Number(number) if number.is_f64() => {
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e15) {
                value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = normal_numbers(item.take())),
        Value::Object(fields) => fields.values_mut().for_each(|field| *field = normal_numbers(field.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

#[cfg(test)]
mod tests;
