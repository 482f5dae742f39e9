//! Annotations that mean something in pods: static pods, what deleting one costs, and the old forms of security profiles,
//! which their fields have to agree with. Entry points: [`annotations`], [`changes`], [`profiles_agree`],
//! [`profiles_from_annotations`].

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, SecurityContext};

use crate::resources::pod_spec;
use crate::resources::volume_sources::descending_path;

/// A static pod's copy.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const LOCAL: &str = "localhost/";

type Annotations = BTreeMap<String, String>;

/// All errors of the annotations themselves.
pub fn annotations(errors: &mut FieldErrors, path: &FieldPath, annotations: Option<&Annotations>, spec: &PodSpec) {
    let Some(annotations) = annotations else { return };
    if let Some(value) = annotations.get(MIRROR).filter(|_| spec.node_name.as_deref().unwrap_or_default().is_empty()) {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = annotations.get(DELETION_COST).filter(|value| !is_cost(value)) {
        errors.push(FieldError::invalid(&path.key(DELETION_COST), value, "must be a 32bit integer"));
    }
    if let Some(profile) = annotations.get(SECCOMP) {
        seccomp(errors, &path.child(SECCOMP), profile);
    }
    for (key, profile) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_OF_CONTAINER)) {
        seccomp(errors, &path.child(key), profile);
    }
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        if !containers(&FieldPath::default(), spec).iter().any(|container| container.name == name) {
            errors.push(FieldError::invalid(&path.key(key), name, "container not found"));
        }
        if !matches!(value.as_str(), "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", api::field::go_quote(value));
            errors.push(FieldError::invalid(&path.key(key), value, detail));
        }
    }
}

fn seccomp(errors: &mut FieldErrors, path: &FieldPath, profile: &str) {
    match profile.strip_prefix(LOCAL) {
        Some(file) => descending_path(errors, path, file),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// A container of any kind: what matters of it here.
struct Container<'a> {
    path: FieldPath,
    name: &'a str,
    context: Option<&'a SecurityContext>,
}

/// In upstream's order: init containers, containers, ephemeral ones.
fn containers<'a>(path: &FieldPath, spec: &'a PodSpec) -> Vec<Container<'a>> {
    let init = spec.init_containers.iter().flatten().map(|c| (&c.name, &c.security_context));
    let main = spec.containers.iter().map(|c| (&c.name, &c.security_context));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, &c.security_context));
    let lists = [
        ("initContainers", init.collect::<Vec<_>>()),
        ("containers", main.collect()),
        ("ephemeralContainers", ephemeral.collect()),
    ];
    let of_list = |(list, containers): (&str, Vec<(&'a String, &'a Option<SecurityContext>)>)| {
        let at = path.child(list);
        let container = move |(i, (name, context)): (usize, (&'a String, &'a Option<SecurityContext>))| Container {
            path: at.index(i).child("securityContext"),
            name,
            context: context.as_ref(),
        };
        containers.into_iter().enumerate().map(container).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of_list).collect()
}

/// Where a profile is named by an annotation and by a field, both say the same. `path` is the spec's.
pub fn profiles_agree(errors: &mut FieldErrors, path: &FieldPath, given: Option<&Annotations>, spec: &PodSpec) {
    let Some(given) = given else { return };
    let of_pod = spec.security_context.as_ref();
    let containers = containers(path, spec);
    if let (Some(profile), Some(annotation)) = (of_pod.and_then(|c| c.seccomp_profile.as_ref()), given.get(SECCOMP)) {
        let path = path.child("securityContext").child("seccompProfile");
        agree(errors, &path, annotation, &Profile::of_seccomp(profile), "seccomp");
    }
    for container in &containers {
        let profile = container.context.and_then(|context| context.seccomp_profile.as_ref());
        let annotation = given.get(&format!("{SECCOMP_OF_CONTAINER}{}", container.name));
        if let (Some(profile), Some(annotation)) = (profile, annotation) {
            agree(
                errors,
                &container.path.child("seccompProfile"),
                annotation,
                &Profile::of_seccomp(profile),
                "seccomp",
            );
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    for container in &containers {
        let own = container.context.and_then(|context| context.app_armor_profile.as_ref());
        let profile = own.or(of_pod.and_then(|context| context.app_armor_profile.as_ref()));
        let annotation = given.get(&format!("{APP_ARMOR}{}", container.name));
        if let (Some(AppArmorProfile { type_, localhost_profile }), Some(annotation)) = (profile, annotation) {
            let profile = Profile { kind: type_, file: localhost_profile.as_deref() };
            agree(errors, &container.path.child("appArmorProfile"), annotation, &profile, "apparmor");
        }
    }
}

/// A profile as its field says it.
struct Profile<'a> {
    kind: &'a str,
    file: Option<&'a str>,
}

impl<'a> Profile<'a> {
    fn of_seccomp(profile: &'a SeccompProfile) -> Self {
        Self { kind: &profile.type_, file: profile.localhost_profile.as_deref() }
    }
}

fn agree(errors: &mut FieldErrors, path: &FieldPath, annotation: &str, profile: &Profile<'_>, what: &str) {
    let default = annotation == "runtime/default" || what == "seccomp" && annotation == "docker/default";
    let file = annotation.strip_prefix(LOCAL);
    let same_kind = match profile.kind {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => default,
        "Localhost" => file.is_some(),
        _ => return,
    };
    if !same_kind {
        let detail = format!("{what} type in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    } else if profile.kind == "Localhost" && profile.file != file {
        let detail = format!("{what} profile in annotation and field must match");
        errors.push(FieldError::forbidden(&path.child("localhostProfile"), detail));
    }
}

/// Fills in the fields of AppArmor profiles that only old annotations name.
pub fn profiles_from_annotations(given: Option<&Annotations>, spec: &mut PodSpec) {
    let Some(given) = given.filter(|given| given.keys().any(|key| key.starts_with(APP_ARMOR))) else { return };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.clone());
    let fill = |name: &str, context: &mut Option<SecurityContext>| {
        let named = context.as_ref().is_some_and(|context| context.app_armor_profile.is_some());
        let profile = given.get(&format!("{APP_ARMOR}{name}")).and_then(|annotation| app_armor_profile(annotation));
        if let Some(profile) = profile.filter(|profile| !named && of_pod.as_ref() != Some(profile)) {
            context.get_or_insert_default().app_armor_profile = Some(profile);
        }
    };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        fill(&container.name, &mut container.security_context);
    }
}

/// The profile that an annotation stands for, if it is a valid one.
fn app_armor_profile(annotation: &str) -> Option<AppArmorProfile> {
    let (kind, file) = match (annotation, annotation.strip_prefix(LOCAL)) {
        ("unconfined", _) => ("Unconfined", None),
        ("runtime/default", _) => ("RuntimeDefault", None),
        (_, Some(file)) if !file.is_empty() => ("Localhost", Some(file.to_owned())),
        (_, Some(_) | None) => return None,
    };
    let profile = AppArmorProfile { type_: kind.to_owned(), localhost_profile: file };
    let mut errors = FieldErrors::new();
    pod_spec::app_armor(&mut errors, &FieldPath::default(), Some(&profile));
    errors.is_empty().then_some(profile)
}

/// Which AppArmor annotations upstream warns of: those whose containers have no field of their own that says it, and no pod's.
/// `in_template` is the path of a template; in a pod those count that became a field.
pub fn old_profiles(path: &FieldPath, given: Option<&Annotations>, spec: &PodSpec, in_template: bool) -> Vec<String> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let warned = |container: &Container<'_>| {
        let key = format!("{APP_ARMOR}{}", container.name);
        let annotation = given?.get(&key)?;
        let own = container.context.and_then(|context| context.app_armor_profile.as_ref());
        let old = if in_template {
            own.is_none() && of_pod.is_none()
        } else {
            let meant = app_armor_profile(annotation);
            meant.is_none() && own.is_none() || meant.is_some() && own == meant.as_ref()
        };
        let at = path.key(&key);
        old.then(|| format!("{at}: deprecated since v1.30; use the \"appArmorProfile\" field instead"))
    };
    containers(&FieldPath::default(), spec).iter().filter_map(warned).collect()
}

/// Which seccomp annotations have no effect any more, because the fields that replaced them are not set.
pub fn old_seccomp(path: &FieldPath, given: Option<&Annotations>, spec: &PodSpec) -> Vec<String> {
    let Some(given) = given else { return Vec::new() };
    let set = |context: Option<&SecurityContext>| context.is_some_and(|context| context.seccomp_profile.is_some());
    let of_pod = spec.security_context.as_ref().is_some_and(|context| context.seccomp_profile.is_some());
    let pod = (!of_pod).then(|| SECCOMP.to_owned());
    let all = containers(&FieldPath::default(), spec);
    let unset = all.iter().filter(|container| !set(container.context));
    let keys = pod.into_iter().chain(unset.map(|container| format!("{SECCOMP_OF_CONTAINER}{}", container.name)));
    let warning =
        |key: String| format!("{}: non-functional in v1.27+; use the \"seccompProfile\" field instead", path.key(&key));
    keys.filter(|key| given.contains_key(key)).map(warning).collect()
}

/// A number without a plus sign or leading zeros.
fn is_cost(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let plain = !value.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
    plain && value.parse::<i32>().is_ok()
}

/// All errors of a change: what a pod is can't be changed by an annotation.
pub fn changes(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: Option<&Annotations>,
    old: Option<&Annotations>,
    spec: &PodSpec,
) {
    let mut refuse = |key: &String, what: &str| {
        if key.starts_with(APP_ARMOR) {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not {what} AppArmor annotations")));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(&path.key(key), format!("may not {what} mirror pod annotation")));
        }
    };
    for (key, before) in old.into_iter().flatten() {
        if new.and_then(|new| new.get(key)) != Some(before) {
            refuse(key, "remove or update");
        }
    }
    for key in new.into_iter().flatten().map(|(key, _)| key) {
        if !old.is_some_and(|old| old.contains_key(key)) {
            refuse(key, "add");
        }
    }
    annotations(errors, path, new, spec);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_refused() {
        let path = FieldPath::root("metadata").child("annotations");
        let table = [
            (of(&[(DELETION_COST, "-5")]), "[]"),
            (
                of(&[(DELETION_COST, "+5")]),
                "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+5\": must be a 32bit integer",
            ),
            (
                of(&[(MIRROR, "x")]),
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
            ),
        ];
        for (given, expected) in table {
            let mut errors = FieldErrors::new();
            annotations(&mut errors, &path, Some(&given), &PodSpec::default());
            assert_eq!(errors.to_string(), expected);
        }
        let spec = PodSpec { node_name: Some("n".to_owned()), ..PodSpec::default() };
        let mut errors = FieldErrors::new();
        changes(&mut errors, &path, None, Some(&of(&[(MIRROR, "x")])), &spec);
        assert_eq!(
            errors.to_string(),
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"
        );
    }

    #[test]
    fn annotations_and_fields_say_the_same() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}}]}))
        .expect("a spec");
        let armor = format!("{APP_ARMOR}c");
        let table = [
            (of(&[(SECCOMP, "docker/default"), (&armor, "localhost/p")]), "[]"),
            (
                of(&[(SECCOMP, "unconfined"), (&armor, "localhost/q")]),
                "[spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match, spec.containers[0].securityContext.appArmorProfile.localhostProfile: Forbidden: apparmor profile in annotation and field must match]",
            ),
        ];
        for (given, expected) in table {
            let mut errors = FieldErrors::new();
            profiles_agree(&mut errors, &FieldPath::root("spec"), Some(&given), &spec);
            assert_eq!(errors.to_string(), expected);
        }
    }

    #[test]
    fn an_annotation_becomes_a_field() {
        let mut spec: PodSpec =
            serde_json::from_value(serde_json::json!({"containers": [{"name": "c"}, {"name": "d"}]})).expect("a spec");
        let (valid, other) = (format!("{APP_ARMOR}c"), format!("{APP_ARMOR}d"));
        let given = of(&[(&valid, "runtime/default"), (&other, "localhost/")]);
        profiles_from_annotations(Some(&given), &mut spec);
        let kinds: Vec<Option<String>> = spec
            .containers
            .iter()
            .map(|container| {
                let context = container.security_context.as_ref()?;
                context.app_armor_profile.as_ref().map(|profile| profile.type_.clone())
            })
            .collect();
        assert_eq!(kinds, [Some("RuntimeDefault".to_owned()), None]);
        assert_eq!(old_profiles(&FieldPath::default(), Some(&given), &spec, false).len(), 2);
    }
}
