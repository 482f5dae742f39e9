//! What may change in a pod: images, a shorter deadline, more tolerations, fewer gates. The rest of the spec is fixed.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod as Object, PodSpec, Toleration,
};

use super::annotations;
use crate::resources::{checks, internal, pod_spec};

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// All errors of a pod at any time of its life.
pub fn whole(errors: &mut FieldErrors, pod: &Object) {
    let path = FieldPath::root("spec");
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let meta = FieldPath::root("metadata").child("annotations");
    annotations::annotations(errors, &meta, pod.metadata.annotations.as_ref(), spec);
    pod_spec::validate(errors, &path, spec, pod_spec::Of::Pod(pod.metadata.name.as_deref().unwrap_or_default()));
    if spec.service_account_name.as_deref().unwrap_or_default().is_empty() {
        for (i, volume) in spec.volumes.iter().flatten().enumerate() {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            for (j, _) in sources.enumerate().filter(|(_, source)| source.service_account_token.is_some()) {
                let path = path.child("volumes").index(i).child("projected").child("sources").index(j);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path.child("serviceAccountToken"), detail));
            }
        }
    }
    pod_spec::images(errors, &path, spec);
}

/// All errors of an update of a pod.
pub fn validate(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    whole(&mut errors, new);
    let meta = FieldPath::root("metadata").child("annotations");
    let none = PodSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let (now, earlier) = (new.metadata.annotations.as_ref(), old.metadata.annotations.as_ref());
    annotations::changes(&mut errors, &meta, now, earlier, spec);
    let (new, old) = (spec, before);
    let init = (new.init_containers.as_deref().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    if !(images(&mut errors, &path.child("containers"), &new.containers, &old.containers)
        && images(&mut errors, &path.child("initContainers"), init.0, init.1)
        && deadline(&mut errors, &path, new, old))
    {
        return errors;
    }
    tolerations(&mut errors, &path, new, old);
    gates(&mut errors, &path, new, old);
    if new == old {
        return errors;
    }
    let allowed = with_allowed_changes(&mut errors, &path, new, old);
    if allowed != *old {
        let diff = internal::difference("v1.PodSpec", old, allowed);
        errors.push(FieldError::forbidden(&path, format!("{MUTABLE}\n{diff}")));
    }
    errors
}

/// All errors of a write to `/ephemeralcontainers`.
pub fn validate_ephemeral(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let (spec, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    whole(&mut errors, new);
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(annotations::MIRROR)) {
        let detail = "static pods do not support ephemeral containers";
        return FieldErrors::from(FieldError::forbidden(&FieldPath::unnamed(), detail));
    }
    pod_spec::validate_ephemeral(&mut errors, &path.child("ephemeralContainers"), &spec, &before);
    errors
}

/// Images may change, the number of containers may not: false if it did.
fn images(errors: &mut FieldErrors, path: &FieldPath, new: &[Container], old: &[Container]) -> bool {
    if new.len() != old.len() {
        errors.push(FieldError::forbidden(path, "pod updates may not add or remove containers"));
        return false;
    }
    for (i, container) in new.iter().enumerate() {
        let (path, image) = (path.index(i).child("image"), container.image.as_deref().unwrap_or_default());
        if image.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if image.trim() != image {
            errors.push(FieldError::invalid(&path, image, "must not have leading or trailing whitespace"));
        }
    }
    true
}

/// A deadline comes nearer: false if it can't be one, or moves away.
fn deadline(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            checks::in_range(errors, &path, new, 0, i64::from(i32::MAX));
            false
        }
        (Some(new), Some(old)) if new > old => {
            errors.push(FieldError::invalid(&path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, serde_json::Value::Null, detail));
            true
        }
        (Some(_) | None, _) => true,
    }
}

fn tolerations(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    let same =
        |a: &Toleration, b: &Toleration| Toleration { toleration_seconds: b.toleration_seconds, ..a.clone() } == *b;
    let kept = |old: &Toleration| new.tolerations.iter().flatten().any(|new| same(new, old));
    let path = path.child("tolerations");
    if !old.tolerations.iter().flatten().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path, detail));
        return;
    }
    pod_spec::toleration_list(errors, &path, new.tolerations.as_deref().unwrap_or_default());
}

fn gates(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) {
    for (i, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !old.scheduling_gates.iter().flatten().any(|known| known.name == gate.name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&path.child("schedulingGates").index(i).child("name"), detail));
        }
    }
}

/// The new spec with everything that may change set back to what it was.
fn with_allowed_changes(errors: &mut FieldErrors, path: &FieldPath, new: &PodSpec, old: &PodSpec) -> PodSpec {
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
    // A gated pod is not scheduled yet, so where it may run can become narrower.
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        let selector = new.node_selector.clone().unwrap_or_default();
        if old.node_selector.iter().flatten().any(|(key, value)| selector.get(key) != Some(value)) {
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.child("nodeSelector"), selector, detail));
        }
        spec.node_selector.clone_from(&old.node_selector);
        node_affinity(errors, path, &mut spec, old);
    }
    spec
}

/// Requirements on nodes may be added to; the spec gets the old ones back.
fn node_affinity(errors: &mut FieldErrors, path: &FieldPath, spec: &mut PodSpec, old: &PodSpec) {
    let of = |spec: &PodSpec| spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let (now, before) = (of(spec), of(old));
    if now == before {
        return;
    }
    node_requirements(errors, path, now.as_ref(), before.as_ref());
    match &mut spec.affinity {
        None => spec.affinity = before.map(|node| Affinity { node_affinity: Some(node), ..Affinity::default() }),
        Some(affinity)
            if old.affinity.is_none() && affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() =>
        {
            spec.affinity = None;
        }
        Some(affinity) => affinity.node_affinity = before,
    }
}

/// Where something is required already, only more can be.
fn node_requirements(
    errors: &mut FieldErrors,
    path: &FieldPath,
    now: Option<&NodeAffinity>,
    before: Option<&NodeAffinity>,
) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: Option<&NodeAffinity>| {
        let required = affinity?.required_during_scheduling_ignored_during_execution.as_ref()?;
        Some(required.node_selector_terms.clone())
    };
    let (added, kept) = (terms(now).unwrap_or_default(), terms(before).unwrap_or_default());
    let path = path.child("affinity").child("nodeAffinity").child(REQUIRED).child("nodeSelectorTerms");
    if !kept.is_empty() && kept.len() != added.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(internal::invalid_list(&path, "v1.NodeSelectorTerm", &added, detail));
        return;
    }
    for (i, (new, _)) in added.iter().zip(&kept).enumerate().filter(|(_, (new, old))| !only_added(new, old)) {
        let detail = "only additions are allowed (no mutations or deletions)";
        errors.push(internal::invalid(&path.index(i), "v1.NodeSelectorTerm", new, detail));
    }
}

fn only_added(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let starts = |new: &Option<Vec<NodeSelectorRequirement>>, old: &Option<Vec<NodeSelectorRequirement>>| {
        new.as_deref().unwrap_or_default().starts_with(old.as_deref().unwrap_or_default())
    };
    let empty = |term: &NodeSelectorTerm| {
        term.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && term.match_fields.as_ref().is_none_or(Vec::is_empty)
    };
    starts(&new.match_expressions, &old.match_expressions)
        && starts(&new.match_fields, &old.match_fields)
        && (!empty(old) || empty(new))
}

fn restore_images(new: &mut [Container], old: &[Container]) {
    for (new, old) in new.iter_mut().zip(old) {
        new.image.clone_from(&old.image);
    }
}
