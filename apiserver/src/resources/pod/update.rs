//! What may change in a pod: images, a shorter deadline, more tolerations, fewer gates. The rest of the spec is fixed.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Container, Pod as Object, PodSpec, Toleration};

use crate::resources::{internal, pod_spec};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

const MIRROR: &str = "kubernetes.io/config.mirror";

/// All errors of an update of a pod.
pub fn validate(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    pod_spec::validate(&mut errors, &path, &new);
    if let Some(refused) = counts(&path, &new, &old) {
        errors.push(refused);
        return errors;
    }
    deadline(&mut errors, &path, &new, &old);
    tolerations(&mut errors, &path, &new, &old);
    gates(&mut errors, &path, &new, &old);
    if !errors.is_empty() {
        return errors;
    }
    if with_allowed_changes(&new, &old) != old {
        let diff = internal::difference("v1.PodSpec", &old, with_allowed_changes(&new, &old));
        errors.push(FieldError::forbidden(&path, format!("{MUTABLE}\n{diff}")));
    }
    errors
}

/// All errors of a write to `/ephemeralcontainers`.
pub fn validate_ephemeral(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let (spec, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    pod_spec::validate(&mut errors, &path, &spec);
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        let detail = "static pods do not support ephemeral containers";
        return FieldErrors::from(FieldError::forbidden(&FieldPath::default(), detail));
    }
    pod_spec::validate_ephemeral(&mut errors, &path.child("ephemeralContainers"), &spec, &before);
    errors
}

fn counts(path: &FieldPath, new: &PodSpec, old: &PodSpec) -> Option<FieldError> {
    let detail = "pod updates may not add or remove containers";
    let init = |spec: &PodSpec| spec.init_containers.as_ref().map_or(0, Vec::len);
    if new.containers.len() != old.containers.len() {
        return Some(FieldError::forbidden(&path.child("containers"), detail));
    }
    (init(new) != init(old)).then(|| FieldError::forbidden(&path.child("initContainers"), detail))
}

fn deadline(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    let path = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(&path, new, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, serde_json::Value::Null, detail));
        }
        (Some(_) | None, _) => {}
    }
}

fn tolerations(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    let same =
        |a: &Toleration, b: &Toleration| Toleration { toleration_seconds: b.toleration_seconds, ..a.clone() } == *b;
    let kept = |old: &Toleration| new.tolerations.iter().flatten().any(|new| same(new, old));
    if !old.tolerations.iter().flatten().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), detail));
    }
}

fn gates(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    for gate in new.scheduling_gates.iter().flatten() {
        if !old.scheduling_gates.iter().flatten().any(|known| known.name == gate.name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&path.child("schedulingGates"), detail));
        }
    }
}

/// The new spec with everything that may change set back to what it was.
fn with_allowed_changes(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    restore_images(&mut spec.containers, &old.containers);
    restore_images(
        spec.init_containers.as_deref_mut().unwrap_or_default(),
        old.init_containers.as_deref().unwrap_or_default(),
    );
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    // A gated pod is not scheduled yet, so its node selector may become narrower.
    let gated = old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let narrower =
        old.node_selector.iter().flatten().all(|(k, v)| new.node_selector.as_ref().and_then(|s| s.get(k)) == Some(v));
    if gated && narrower {
        spec.node_selector.clone_from(&old.node_selector);
    }
    spec
}

fn restore_images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}
