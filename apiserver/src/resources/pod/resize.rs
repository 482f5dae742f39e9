//! `pods/resize`: more or less CPU and memory for the containers of a pod that runs. Entry points: [`prepare`], [`validate`].
//!
//! Invariant: nothing but resources and resize policies changes, and never the class of service.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::pods;
use k8s_openapi::api::core::v1::{Container, Pod as Object, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

type Amounts = Option<BTreeMap<String, Quantity>>;

const ONLY: &str = "only cpu and memory resources are mutable";

/// What of a write counts.
pub fn prepare(new: &Object, old: &Object) -> PodSpec {
    let wanted = new.spec.clone().unwrap_or_default();
    let mut spec = old.spec.clone().unwrap_or_default();
    take_over(&mut spec.containers, &wanted.containers);
    take_over(
        spec.init_containers.as_deref_mut().unwrap_or_default(),
        wanted.init_containers.as_deref().unwrap_or_default(),
    );
    spec.resources.clone_from(&wanted.resources);
    spec
}

fn take_over(containers: &mut [Container], wanted: &[Container]) {
    for wanted in wanted {
        if let Some(container) = containers.iter_mut().find(|container| container.name == wanted.name) {
            container.resources.clone_from(&wanted.resources);
            container.resize_policy.clone_from(&wanted.resize_policy);
        }
    }
}

/// All errors of a resize.
pub fn validate(new: &Object, old: &Object) -> FieldErrors {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let path = FieldPath::root("spec");
    let (spec, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let mut errors = FieldErrors::new();
    super::update::whole(&mut errors, new);
    let refused = |detail: &str| FieldErrors::from(FieldError::forbidden(&FieldPath::unnamed(), detail));
    if old.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return refused("static pods cannot be resized");
    }
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        return refused("windows pods cannot be resized");
    }
    let class = old.status.as_ref().and_then(|status| status.qos_class.clone());
    let class = class.unwrap_or_else(|| pods::qos_class(&before).as_str().to_owned());
    if class != pods::qos_class(&spec).as_str() {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class, detail));
    }
    if !is_supported(old) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    nothing_removed(&mut errors, &path.child("resources"), spec.resources.as_ref(), before.resources.as_ref());
    let init =
        (spec.init_containers.as_deref().unwrap_or_default(), before.init_containers.as_deref().unwrap_or_default());
    for (i, (now, before)) in init.0.iter().zip(init.1).enumerate().filter(|(_, (_, old))| pods::is_sidecar(old)) {
        let path = path.child("initContainers").index(i).child("resources");
        nothing_removed(&mut errors, &path, now.resources.as_ref(), before.resources.as_ref());
    }
    for (i, (now, before)) in spec.containers.iter().zip(&before.containers).enumerate() {
        let path = path.child("containers").index(i).child("resources");
        nothing_removed(&mut errors, &path, now.resources.as_ref(), before.resources.as_ref());
    }
    for (now, before) in spec.containers.iter().zip(&before.containers) {
        if other_resources(now) != other_resources(before) {
            errors.push(FieldError::forbidden(&path, ONLY));
        }
    }
    for (now, before) in init.0.iter().zip(init.1) {
        if pods::is_sidecar(before) && other_resources(now) != other_resources(before) {
            let detail = "only cpu and memory resources for sidecar containers are mutable";
            errors.push(FieldError::forbidden(&path, detail));
        } else if !pods::is_sidecar(before) && now != before {
            errors.push(FieldError::forbidden(&path, "resources for non-sidecar init containers are immutable"));
        }
    }
    errors
}

/// A container that runs on a node that can resize reports its resources.
fn is_supported(pod: &Object) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let running = statuses.iter().find(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.is_none_or(|status| status.resources.is_some())
}

fn nothing_removed(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) {
    let (new, old) = (new.cloned().unwrap_or_default(), old.cloned().unwrap_or_default());
    let removed = |new: &Amounts, old: &Amounts| {
        old.iter().flatten().any(|(name, _)| !new.as_ref().is_some_and(|amounts| amounts.contains_key(name)))
    };
    if removed(&new.requests, &old.requests) {
        errors.push(FieldError::forbidden(&path.child("requests"), "resource requests cannot be removed"));
    }
    if removed(&new.limits, &old.limits) {
        errors.push(FieldError::forbidden(&path.child("limits"), "resource limits cannot be removed"));
    }
}

/// The container without what may change.
fn other_resources(container: &Container) -> Container {
    let mut container = Container { resize_policy: None, ..container.clone() };
    if let Some(resources) = &mut container.resources {
        for amounts in [&mut resources.limits, &mut resources.requests] {
            if let Some(named) = amounts {
                named.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                if named.is_empty() {
                    *amounts = None;
                }
            }
        }
    }
    container.resources = container.resources.filter(|resources| *resources != ResourceRequirements::default());
    container
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use crate::resources::pod::Pod;
    use serde_json::{Value, json};

    fn pod(resources: Value) -> Object {
        let mut pod: Object = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": resources}]}}))
        .expect("a pod");
        Pod::set_defaults(&mut pod);
        Pod::prepare_for_create(&mut pod);
        pod
    }

    #[test]
    fn what_may_be_resized() {
        let requests = |amounts: Value| json!({"requests": amounts});
        let table = [
            (requests(json!({"cpu": "1"})), requests(json!({"cpu": "2"})), "[]"),
            (requests(json!({"cpu": "1"})), requests(json!({"cpu": "1", "memory": "1Gi"})), "[]"),
            (
                json!({}),
                requests(json!({"cpu": "1"})),
                "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing",
            ),
            (
                requests(json!({"cpu": "1", "memory": "1Gi"})),
                requests(json!({"cpu": "1"})),
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ),
            (
                requests(json!({"cpu": "1", "ephemeral-storage": "1Gi"})),
                requests(json!({"cpu": "1", "ephemeral-storage": "2Gi"})),
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
        ];
        for (before, after, expected) in table {
            let old = pod(before);
            let mut new = pod(after);
            new.status.clone_from(&old.status);
            new.spec = Some(prepare(&new, &old));
            assert_eq!(validate(&new, &old).to_string(), expected);
        }
    }

    #[test]
    fn nothing_else_is_taken_from_the_write() {
        let old = pod(json!({"requests": {"cpu": "1"}}));
        let mut new = pod(json!({"requests": {"cpu": "2"}}));
        let spec = new.spec.as_mut().expect("a spec");
        spec.containers[0].image = Some("other".to_owned());
        spec.node_name = Some("n".to_owned());
        let prepared = prepare(&new, &old);
        assert_eq!(prepared.containers[0].image.as_deref(), Some("i"));
        assert_eq!(prepared.node_name, None);
        assert_eq!(prepared.containers[0].resources, new.spec.expect("a spec").containers[0].resources);
    }
}
