//! What a delete does to an object. Entry point: [`next`], which decides from the object alone; `delete` and `delete_collection` in
//! [`super`] carry it out.
//!
//! Finalizers and the grace period keep an object in the store; whoever removes the last of them removes the object.

use api::ApiError;
use api::names::GroupResource;
use api::well_known::finalizers;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::http::options::{DeleteOptions, Propagation};
use crate::object::Object;
use crate::resources::{DeletedBy, ResourceInfo, Strategy};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the object is on its way out already.
    Wait,
    /// Store the object as it was changed; it stays for now.
    Mark,
    /// Store the object as it was changed, then remove it: watchers see both.
    MarkAndRemove,
    /// Remove it.
    Remove,
}

/// Refuses a delete of another object than the one that is meant.
pub fn check_preconditions(
    options: &DeleteOptions,
    meta: &ObjectMeta,
    info: &ResourceInfo,
    by: DeletedBy,
) -> Result<(), ApiError> {
    let name = meta.name.as_deref().unwrap_or_default();
    let conflict = |what: &str, given: &str, found: &str, hint: &str| match by {
        DeletedBy::All => {
            let why = format!(
                "the {what} in the precondition ({given}) does not match the {what} in record ({found}). {hint}"
            );
            ApiError::conflict(&GroupResource::new(&info.group, &info.kind), name, &why)
        }
        DeletedBy::Kind | DeletedBy::KindAlone => {
            let why = format!("Precondition failed: {what} in precondition: {given}, {what} in object meta: {found}");
            ApiError::conflict(&info.group_resource(), name, &why)
        }
    };
    let uid = meta.uid.as_deref().unwrap_or_default();
    if let Some(given) = options.uid.as_deref().filter(|given| *given != uid) {
        return Err(conflict("UID", given, uid, "The object might have been deleted and then recreated"));
    }
    let version = meta.resource_version.as_deref().unwrap_or_default();
    if let Some(given) = options.resource_version.as_deref().filter(|given| *given != version) {
        return Err(conflict("ResourceVersion", given, version, "The object might have been modified"));
    }
    Ok(())
}

/// Decides, and changes the object where it is to be stored.
pub fn next(strategy: &dyn Strategy, object: &mut dyn Object, options: &DeleteOptions, now: Timestamp) -> Step {
    if object.metadata().deletion_timestamp.is_none() && strategy.begin_deletion(object, now) {
        let meta = object.metadata_mut();
        meta.deletion_timestamp = Some(Time(now));
        if strategy.deleted_by() != DeletedBy::KindAlone {
            update_finalizers(meta, options, false);
        }
        return Step::Mark;
    }
    if strategy.holds_removal(object) {
        return Step::Wait;
    }
    let grace =
        match (object.metadata().deletion_timestamp.clone(), strategy.grace_period(object, options.grace_period)) {
            (_, None) => Grace::None,
            (Some(deadline), Some(_)) => shorten(object.metadata_mut(), &deadline, options),
            (None, Some(seconds)) => start(object.metadata_mut(), seconds, now),
        };
    if grace == Grace::Pending {
        return Step::Wait;
    }
    let meta = object.metadata_mut();
    let had_finalizers = has_finalizers(meta);
    let changed = update_finalizers(meta, options, strategy.orphans_by_default());
    match grace {
        Grace::Seconds(0) if !has_finalizers(meta) => Step::MarkAndRemove,
        Grace::Seconds(_) => Step::Mark,
        Grace::None if had_finalizers || (changed && has_finalizers(meta)) => {
            mark(meta, now);
            if has_finalizers(meta) { Step::Mark } else { Step::Remove }
        }
        Grace::None | Grace::Pending => Step::Remove,
    }
}

/// Whether nothing keeps an object that was marked for deletion.
pub fn is_finished(strategy: &dyn Strategy, object: &dyn Object, old: &ObjectMeta) -> bool {
    let graceful_wait = old.deletion_grace_period_seconds.unwrap_or(0) > 0;
    old.deletion_timestamp.is_some()
        && !has_finalizers(object.metadata())
        && !graceful_wait
        && !strategy.holds_removal(object)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// The kind has no grace period, or it was cut off.
    None,
    /// The grace period runs and does not change.
    Pending,
    /// It runs from now on, or is shorter now.
    Seconds(i64),
}

fn start(meta: &mut ObjectMeta, seconds: i64, now: Timestamp) -> Grace {
    meta.deletion_timestamp = Some(Time(now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now)));
    meta.deletion_grace_period_seconds = Some(seconds);
    if let Some(generation) = meta.generation.filter(|generation| *generation > 0) {
        meta.generation = Some(generation + 1);
    }
    Grace::Seconds(seconds)
}

/// A running grace period can only become shorter.
fn shorten(meta: &mut ObjectMeta, deadline: &Time, options: &DeleteOptions) -> Grace {
    let Some(running) = meta.deletion_grace_period_seconds else { return Grace::None };
    match options.grace_period {
        Some(wanted) if wanted < running => {
            let by = SignedDuration::from_secs(wanted - running);
            meta.deletion_timestamp = Some(Time(deadline.0.saturating_add(by).unwrap_or(deadline.0)));
            meta.deletion_grace_period_seconds = Some(wanted);
            Grace::Seconds(wanted)
        }
        Some(_) | None => Grace::Pending,
    }
}

/// Marks an object without a grace period as being deleted.
fn mark(meta: &mut ObjectMeta, now: Timestamp) {
    if meta.deletion_grace_period_seconds.is_none()
        && let Some(generation) = meta.generation.filter(|generation| *generation > 0)
    {
        meta.generation = Some(generation + 1);
    }
    if meta.deletion_timestamp.as_ref().is_none_or(|time| time.0 > now) {
        meta.deletion_timestamp = Some(Time(now));
    }
    meta.deletion_grace_period_seconds = Some(0);
}

fn has_finalizers(meta: &ObjectMeta) -> bool {
    meta.finalizers.as_ref().is_some_and(|names| !names.is_empty())
}

/// Sets the garbage collector's finalizers as the options ask; true if that changed something.
fn update_finalizers(meta: &mut ObjectMeta, options: &DeleteOptions, orphans_by_default: bool) -> bool {
    let old = meta.finalizers.clone().unwrap_or_default();
    let has = |wanted: &str| old.iter().any(|name| name == wanted);
    let wanted = match options.propagation {
        Some(propagation) => propagation,
        None if has(finalizers::ORPHAN) => Propagation::Orphan,
        None if has(finalizers::FOREGROUND) => Propagation::Foreground,
        None if orphans_by_default => Propagation::Orphan,
        None => Propagation::Background,
    };
    let ours = |name: &String| name == finalizers::ORPHAN || name == finalizers::FOREGROUND;
    let mut names: Vec<String> = old.iter().filter(|name| !ours(name)).cloned().collect();
    match wanted {
        Propagation::Orphan => names.push(finalizers::ORPHAN.to_owned()),
        Propagation::Foreground => names.push(finalizers::FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let changed = names.len() != old.len() || names.iter().any(|name| !old.contains(name));
    if changed {
        meta.finalizers = (!names.is_empty()).then_some(names);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn decide(plural: &str, object: serde_json::Value, options: DeleteOptions) -> (Step, Option<i64>, Vec<String>) {
        let rows = crate::resources::table();
        let row = rows.iter().find(|row| row.info().plural == plural).expect("the kind is served");
        let mut object = row.decode(object).expect("the object decodes");
        let step = next(row.as_ref(), object.as_mut(), &options, NOW.parse().expect("a timestamp"));
        let meta = object.metadata();
        (step, meta.deletion_grace_period_seconds, meta.finalizers.clone().unwrap_or_default())
    }

    fn pod(node: &str, deleting: Option<i64>) -> serde_json::Value {
        let mut meta = json!({"name": "p"});
        if let Some(grace) = deleting {
            meta["deletionTimestamp"] = json!(NOW);
            meta["deletionGracePeriodSeconds"] = json!(grace);
        }
        json!({"metadata": meta, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 60, "containers": []}})
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_period: Some(seconds), ..DeleteOptions::default() }
    }

    #[test]
    fn pods_go_gracefully() {
        let table = [
            (pod("n", None), DeleteOptions::default(), (Step::Mark, Some(60))),
            (pod("n", None), grace(5), (Step::Mark, Some(5))),
            (pod("n", None), grace(0), (Step::MarkAndRemove, Some(0))),
            (pod("", None), DeleteOptions::default(), (Step::MarkAndRemove, Some(0))),
            (pod("n", Some(60)), DeleteOptions::default(), (Step::Wait, Some(60))),
            (pod("n", Some(60)), grace(90), (Step::Wait, Some(60))),
            (pod("n", Some(60)), grace(10), (Step::Mark, Some(10))),
            (pod("n", Some(60)), grace(0), (Step::MarkAndRemove, Some(0))),
        ];
        for (object, options, expected) in table {
            let (step, seconds, _) = decide("pods", object.clone(), options);
            assert_eq!((step, seconds), expected, "{object}");
        }
    }

    #[test]
    fn finalizers_keep_the_object() {
        let plain = json!({"metadata": {"name": "a"}});
        let held = json!({"metadata": {"name": "a", "finalizers": ["example.org/f"]}});
        let propagation = |propagation| DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        assert_eq!(decide("configmaps", plain.clone(), DeleteOptions::default()), (Step::Remove, None, vec![]));
        assert_eq!(decide("configmaps", held.clone(), DeleteOptions::default()).0, Step::Mark);
        let orphan = decide("configmaps", plain.clone(), propagation(Propagation::Orphan));
        assert_eq!(orphan, (Step::Mark, Some(0), vec!["orphan".to_owned()]));
        let foreground = decide("configmaps", held, propagation(Propagation::Foreground));
        assert_eq!(foreground.2, ["example.org/f", "foregroundDeletion"]);
        let collected = json!({"metadata": {"name": "a", "finalizers": ["orphan"]}});
        assert_eq!(decide("configmaps", collected, propagation(Propagation::Background)).0, Step::Remove);
    }

    #[test]
    fn namespaces_wait_for_their_contents() {
        let active = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
        assert_eq!(decide("namespaces", active.clone(), DeleteOptions::default()).0, Step::Mark);
        let mut terminating = active;
        terminating["metadata"]["deletionTimestamp"] = json!(NOW);
        assert_eq!(decide("namespaces", terminating.clone(), DeleteOptions::default()).0, Step::Wait);
        terminating["spec"] = json!({});
        assert_eq!(decide("namespaces", terminating, DeleteOptions::default()).0, Step::Remove);
    }
}
