//! The rules of `metadata` that hold for every kind: what the server fills in, what clients may not change, what is valid.
//! Entry points: [`begin`], [`carry_over`], [`validate`], [`validate_update`].

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names::{is_dns1123_label, label_value, path_segment, qualified_name};
use api::well_known::finalizers;
use api::{ApiError, GroupResource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use process::{Clock, Rng};

use super::Warnings;
use crate::resources::{ResourceInfo, internal};

/// Generated names keep this much of their prefix: with the suffix they are DNS labels.
const GENERATED_PREFIX_MAX: usize = 58;
const SUFFIX: usize = 5;
const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Groups whose kinds may have finalizers of any name: upstream checks them with the rules for all kinds of all servers.
const LENIENT_GROUPS: [&str; 5] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "coordination.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];
const STANDARD_FINALIZERS: [&str; 3] = [finalizers::KUBERNETES, finalizers::ORPHAN, finalizers::FOREGROUND];

/// Puts the request's namespace into an object that names none; refuses another one.
pub fn match_namespace(meta: &mut ObjectMeta, info: &ResourceInfo, namespace: &str) -> Result<(), ApiError> {
    let expected = if info.namespaced { namespace } else { "" };
    match meta.namespace.as_deref().unwrap_or_default() {
        "" if expected.is_empty() => meta.namespace = None,
        "" => meta.namespace = Some(expected.to_owned()),
        given if given == expected => {}
        _ if expected.is_empty() => meta.namespace = None,
        _ => {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(why));
        }
    }
    Ok(())
}

/// The name in an updated object must be the URL's.
pub fn match_name(meta: &ObjectMeta, name: &str) -> Result<(), ApiError> {
    match meta.name.as_deref().unwrap_or_default() {
        "" => Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given == name => Ok(()),
        given => Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Forgets what a client says about a new object that is for the server to say.
pub fn wipe(meta: &mut ObjectMeta) {
    meta.uid = None;
    meta.creation_timestamp = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
}

/// Fills in what the server decides about a new object; a missing name is generated.
pub fn begin(meta: &mut ObjectMeta, clock: &Clock, rng: &Rng) {
    wipe(meta);
    meta.uid = Some(rng.uuid());
    meta.creation_timestamp = Some(Time(clock.now_seconds()));
    let prefix = meta.generate_name.as_deref().unwrap_or_default();
    if meta.name.as_deref().unwrap_or_default().is_empty() && !prefix.is_empty() {
        let mut end = prefix.len().min(GENERATED_PREFIX_MAX);
        while !prefix.is_char_boundary(end) {
            end -= 1;
        }
        meta.name = Some(format!("{}{}", &prefix[..end], rng.suffix(SUFFIX)));
    }
}

/// Keeps what an update can't change or may leave out.
pub fn carry_over(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.generation = old.generation;
    new.self_link = None;
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    if new.uid.as_deref().unwrap_or_default().is_empty() {
        new.uid.clone_from(&old.uid);
    }
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if old.deletion_grace_period_seconds.is_some() && new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
}

/// Everything that is wrong with the metadata of an object; `name_rule` answers what is wrong with a name or a prefix.
pub fn validate(meta: &ObjectMeta, info: &ResourceInfo, name_rule: &dyn Fn(&str, bool) -> Vec<String>) -> FieldErrors {
    let mut errors = validate_at(&FieldPath::root("metadata"), meta, info.namespaced, name_rule);
    standard_finalizers(meta, info, &mut errors);
    errors
}

/// As [`validate`], for the metadata of an object inside another one.
pub fn validate_embedded(meta: &ObjectMeta, path: &FieldPath) -> FieldErrors {
    let namespaced = meta.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty());
    validate_at(path, meta, namespaced, &|name, _| path_segment(name))
}

fn validate_at(
    path: &FieldPath,
    meta: &ObjectMeta,
    namespaced: bool,
    name_rule: &dyn Fn(&str, bool) -> Vec<String>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let generate_name = meta.generate_name.as_deref().unwrap_or_default();
    if !generate_name.is_empty() {
        errors.push_invalid(&path.child("generateName"), generate_name, name_rule(generate_name, true));
    }
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(&path.child("name"), "name or generateName is required")),
        name => errors.push_invalid(&path.child("name"), name, name_rule(name, false)),
    }
    validate_namespace(meta, namespaced, path, &mut errors);
    if let Some(generation) = meta.generation.filter(|generation| *generation < 0) {
        errors.push(FieldError::invalid(&path.child("generation"), generation, "must be greater than or equal to 0"));
    }
    validate_common(meta, path, &mut errors);
    validate_finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers"), &mut errors);
    errors
}

/// What a kind's own check of an update looks at in the metadata; all kinds are looked at before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataCheck {
    /// What changed.
    Change,
    /// All of it, as if the object were new.
    Whole,
}

/// Everything that is wrong with the metadata of an updated object: what every kind is checked for, then what its own
/// checks look at, so that what is wrong stands there as often as upstream says it.
pub fn validate_updated(
    (new, old): (&ObjectMeta, &ObjectMeta),
    info: &ResourceInfo,
    checks: &[MetadataCheck],
    name_rule: &dyn Fn(&str, bool) -> Vec<String>,
) -> FieldErrors {
    let path = FieldPath::root("metadata");
    let mut errors = validate_at(&path, new, info.namespaced, &|name, _| path_segment(name));
    let changes = validate_update(new, old);
    errors.extend(changes.clone());
    for check in checks {
        match check {
            MetadataCheck::Change => {
                errors.extend(changes.clone());
                standard_finalizers(new, info, &mut errors);
            }
            MetadataCheck::Whole => errors.extend(validate(new, info, name_rule)),
        }
    }
    errors
}

fn validate_namespace(meta: &ObjectMeta, namespaced: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("namespace");
    match (namespaced, meta.namespace.as_deref().unwrap_or_default()) {
        (true, "") => errors.push(FieldError::required(&path, "")),
        (true, namespace) => errors.push_invalid(&path, namespace, is_dns1123_label(namespace)),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(&path, "not allowed on this type")),
    }
}

fn validate_common(meta: &ObjectMeta, path: &FieldPath, errors: &mut FieldErrors) {
    let none = BTreeMap::new();
    let labels = path.child("labels");
    for (key, value) in meta.labels.as_ref().unwrap_or(&none) {
        errors.push_invalid(&labels, key, qualified_name(key));
        errors.push_invalid(&labels, value, label_value(value));
    }
    let annotations = path.child("annotations");
    let mut size = 0;
    for (key, value) in meta.annotations.as_ref().unwrap_or(&none) {
        errors.push_invalid(&annotations, key, qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(&annotations, ANNOTATIONS_MAX));
    }
    validate_owners(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences"), errors);
}

fn validate_owners(owners: &[OwnerReference], path: &FieldPath, errors: &mut FieldErrors) {
    let mut controller: Option<&OwnerReference> = None;
    for owner in owners {
        validate_owner(owner, path, errors);
        if owner.controller != Some(true) {
            continue;
        }
        let Some(first) = controller else {
            controller = Some(owner);
            continue;
        };
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
            first.kind, first.name, owner.kind, owner.name
        );
        errors.push(internal::invalid_list(path, "meta/v1.OwnerReference", owners, &detail));
    }
}

fn validate_owner(owner: &OwnerReference, path: &FieldPath, errors: &mut FieldErrors) {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    if version.is_empty() {
        errors.push(FieldError::invalid(&path.child("apiVersion"), &owner.api_version, "version must not be empty"));
    }
    for (name, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(FieldError::invalid(&path.child(name), value, "must not be empty"));
        }
    }
    if owner.kind == "Event" && group.is_empty() && version == "v1" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(internal::invalid(path, "meta/v1.OwnerReference", owner, detail));
    }
}

fn validate_finalizers(names: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    for name in names {
        errors.push_invalid(path, name, qualified_name(name));
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(finalizers::ORPHAN) && has(finalizers::FOREGROUND) {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, names, detail));
    }
}

/// Finalizers of Kubernetes' own kinds are standard ones or belong to a domain.
fn standard_finalizers(meta: &ObjectMeta, info: &ResourceInfo, errors: &mut FieldErrors) {
    if info.custom || LENIENT_GROUPS.contains(&info.group.as_str()) {
        return;
    }
    let path = FieldPath::root("metadata").child("finalizers");
    for (i, name) in meta.finalizers.iter().flatten().enumerate() {
        if !name.contains('/') && !is_standard_finalizer(name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(i), name, detail));
        }
    }
}

/// Whether the name of a finalizer is one that Kubernetes itself uses.
pub fn is_standard_finalizer(name: &str) -> bool {
    STANDARD_FINALIZERS.contains(&name)
}

/// Everything that is wrong with a change of metadata.
fn validate_update(new: &ObjectMeta, old: &ObjectMeta) -> FieldErrors {
    let path = FieldPath::root("metadata");
    let mut errors = FieldErrors::new();
    if old.deletion_timestamp.is_some() {
        no_new_finalizers(new, old, &path.child("finalizers"), &mut errors);
    }
    let same = |name: &str, new: &Option<String>, old: &Option<String>, errors: &mut FieldErrors| {
        if new.as_deref().unwrap_or_default() != old.as_deref().unwrap_or_default() {
            errors.push(FieldError::invalid(&path.child(name), new, "field is immutable"));
        }
    };
    same("name", &new.name, &old.name, &mut errors);
    same("namespace", &new.namespace, &old.namespace, &mut errors);
    same("uid", &new.uid, &old.uid, &mut errors);
    if new.deletion_timestamp != old.deletion_timestamp {
        errors.push(FieldError::invalid(
            &path.child("deletionTimestamp"),
            &new.deletion_timestamp,
            "field is immutable",
        ));
    }
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds {
        let value = new.deletion_grace_period_seconds;
        errors.push(FieldError::invalid(&path.child("deletionGracePeriodSeconds"), value, "field is immutable"));
    }
    validate_common(new, &path, &mut errors);
    errors
}

fn no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &FieldPath, errors: &mut FieldErrors) {
    let known = old.finalizers.as_deref().unwrap_or_default();
    let added = new.finalizers.iter().flatten().filter(|name| !known.contains(name));
    let added: Vec<String> = added.map(|name| api::field::go_quote(name)).collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// The 409 for a new object whose name is taken.
pub fn name_taken(resource: &GroupResource, name: &str, being_deleted: bool) -> ApiError {
    let mut error = ApiError::already_exists(resource, name);
    if being_deleted {
        error.message = format!("object is being deleted: {}", error.message);
    }
    error
}

/// Takes away owners that stand twice and warns of them; `late` is after the mutating plugins.
pub fn single_owners(meta: &mut ObjectMeta, warnings: &Warnings, late: bool) {
    let Some(owners) = meta.owner_references.as_mut() else { return };
    let mut single: Vec<OwnerReference> = Vec::with_capacity(owners.len());
    let mut repeated = Vec::new();
    for owner in std::mem::take(owners) {
        if single.contains(&owner) {
            repeated.push(owner.uid);
        } else {
            single.push(owner);
        }
    }
    *owners = single;
    if !repeated.is_empty() {
        let when = if late { " after mutating admission happens" } else { "" };
        warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject \
             such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: [{}]",
            repeated.join(" ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ResourceInfo {
        let rows = crate::resources::table();
        let row = rows.iter().find(|row| row.info().plural == "configmaps").expect("config maps are served");
        row.info().clone()
    }

    fn messages(meta: ObjectMeta) -> Vec<String> {
        let meta = ObjectMeta { name: Some("a".into()), namespace: Some("n".into()), ..meta };
        validate(&meta, &info(), &|name, _| path_segment(name)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn metadata_is_checked_in_upstreams_words() {
        let finalizers = |name: &str| ObjectMeta { finalizers: Some(vec![name.to_owned()]), ..ObjectMeta::default() };
        assert_eq!(
            messages(finalizers("plain")),
            [
                "metadata.finalizers[0]: Invalid value: \"plain\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        assert_eq!(messages(finalizers("example.org/f")), [""; 0]);
        let malformed = messages(finalizers("a b"));
        assert!(malformed[0].starts_with("metadata.finalizers: Invalid value: \"a b\": name part must consist of"));
        assert!(malformed[1].starts_with("metadata.finalizers[0]: Invalid value: \"a b\": name is neither a standard"));
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: "p".into(),
            uid: String::new(),
            ..OwnerReference::default()
        };
        let owned = ObjectMeta { owner_references: Some(vec![owner.clone()]), ..ObjectMeta::default() };
        assert_eq!(messages(owned), ["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"]);
        let controller = OwnerReference { uid: "u".into(), controller: Some(true), ..owner };
        let two = ObjectMeta { owner_references: Some(vec![controller.clone(), controller]), ..ObjectMeta::default() };
        assert!(messages(two)[0].ends_with("Found \"true\" in references for Pod/p and Pod/p"));
        let event = |version: &str| OwnerReference {
            api_version: version.into(),
            kind: "Event".into(),
            name: "e".into(),
            uid: "u".into(),
            ..OwnerReference::default()
        };
        let owned = |owner| messages(ObjectMeta { owner_references: Some(vec![owner]), ..ObjectMeta::default() });
        assert!(owned(event("v1"))[0].ends_with("/v1, Kind=Event is disallowed from being an owner"));
        assert_eq!(owned(event("v2")), [""; 0]);
    }

    #[test]
    fn identity_is_immutable() {
        let old = ObjectMeta { name: Some("a".into()), uid: Some("u".into()), ..ObjectMeta::default() };
        let new = ObjectMeta { uid: Some("v".into()), ..old.clone() };
        assert_eq!(validate_update(&new, &old).to_string(), "metadata.uid: Invalid value: \"v\": field is immutable");
        let deleting =
            ObjectMeta { deletion_timestamp: Some(Time("2001-01-01T00:00:00Z".parse().unwrap())), ..old.clone() };
        let finalized = ObjectMeta { finalizers: Some(vec!["a.org/new".into()]), ..deleting.clone() };
        assert!(
            validate_update(&finalized, &deleting)
                .to_string()
                .ends_with("found new finalizers []string{\"a.org/new\"}")
        );
    }

    #[test]
    fn an_update_is_checked_as_often_as_upstream_does() {
        use MetadataCheck::{Change, Whole};
        let old = ObjectMeta { name: Some("a".into()), namespace: Some("n".into()), ..ObjectMeta::default() };
        let labels = Some(BTreeMap::from([("a".to_owned(), "b c".to_owned())]));
        let new = ObjectMeta { labels, ..old.clone() };
        let table: [(&[MetadataCheck], usize); 4] = [(&[], 2), (&[Change], 3), (&[Change, Whole], 4), (&[Whole], 3)];
        for (checks, count) in table {
            let errors = validate_updated((&new, &old), &info(), checks, &|name, _| path_segment(name));
            assert_eq!(errors.len(), count, "{checks:?}");
        }
        let new = ObjectMeta { labels: None, finalizers: Some(vec!["plain".into()]), ..new };
        let found = |checks| validate_updated((&new, &old), &info(), checks, &|name, _| path_segment(name)).len();
        assert_eq!((found(&[]), found(&[Change, Whole])), (0, 2), "only a kind's own checks know standard finalizers");
    }

    #[test]
    fn names_are_generated_from_a_short_prefix() {
        let mut meta = ObjectMeta { generate_name: Some("g".repeat(80)), ..ObjectMeta::default() };
        begin(&mut meta, &Clock::system(), &Rng::seeded(1));
        assert_eq!(meta.name.map(|name| name.len()), Some(63));
    }
}
