//! Annotations that mean something in pods: static pods, what deleting one costs, and the old forms of security profiles.
//! Entry points: [`annotations`], [`changes`].

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::PodSpec;

/// A static pod's copy.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

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
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let init = spec.init_containers.iter().flatten().map(|container| &container.name);
        if !spec.containers.iter().map(|container| &container.name).chain(init).any(|known| known == name) {
            errors.push(FieldError::invalid(&path.key(key), name, "container not found"));
        }
        if !matches!(value.as_str(), "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", api::field::go_quote(value));
            errors.push(FieldError::invalid(&path.key(key), value, detail));
        }
    }
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
}
