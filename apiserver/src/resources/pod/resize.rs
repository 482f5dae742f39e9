//! `pods/resize`: more or less CPU and memory for the containers of a pod that runs. Entry points: [`prepare`], [`validate`].
//!
//! Invariant: nothing but CPU and memory changes, and never the class of service.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::pods;
use k8s_openapi::api::core::v1::{Container, ContainerResizePolicy, Pod as Object, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

type Amounts = Option<BTreeMap<String, Quantity>>;

/// What of a write counts. Containers that come, go, or change their names or places are left as they were sent, for
/// [`validate`] to refuse them.
pub fn prepare(new: &Object, old: &Object) -> PodSpec {
    let wanted = new.spec.clone().unwrap_or_default();
    let mut spec = old.spec.clone().unwrap_or_default();
    if wanted.containers.len() != spec.containers.len() || init(&wanted).len() != init(&spec).len() {
        return wanted;
    }
    take_over(&mut spec.containers, &wanted.containers);
    take_over(
        spec.init_containers.as_deref_mut().unwrap_or_default(),
        wanted.init_containers.as_deref().unwrap_or_default(),
    );
    spec.resources.clone_from(&wanted.resources);
    spec
}

fn take_over(containers: &mut [Container], wanted: &[Container]) {
    if containers.iter().zip(wanted).any(|(container, wanted)| container.name != wanted.name) {
        containers.clone_from_slice(wanted);
        return;
    }
    for (container, wanted) in containers.iter_mut().zip(wanted) {
        container.resources.clone_from(&wanted.resources);
        container.resize_policy.clone_from(&wanted.resize_policy);
    }
}

fn init(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
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
    of_the_pod(&mut errors, &path, spec.resources.as_ref(), before.resources.as_ref());
    let lists = [
        ("containers", spec.containers.as_slice(), before.containers.as_slice()),
        ("initContainers", init(&spec), init(&before)),
    ];
    let mut moved = false;
    for (name, now, before) in lists {
        moved |= others(&mut errors, &path.child(name), name, now, before);
    }
    if !moved {
        for (name, now, before) in lists.iter().rev() {
            for (i, (now, before)) in now.iter().zip(*before).enumerate() {
                let path = path.child(name).index(i).child("resources");
                nothing_removed(&mut errors, &path, "resource", now.resources.as_ref(), before.resources.as_ref());
            }
        }
        only_cpu_and_memory(&mut errors, &path, &spec, &before);
    }
    errors
}

/// A container that runs on a node that can resize reports its resources.
fn is_supported(pod: &Object) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let running = statuses.iter().find(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.is_none_or(|status| status.resources.is_some())
}

/// What the pod as a whole asks for.
fn of_the_pod(
    errors: &mut FieldErrors,
    path: &FieldPath,
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) {
    if old.is_some() && new.is_none() {
        errors.push(FieldError::forbidden(&path.child("resources"), "pod-level resources cannot be removed"));
        return;
    }
    nothing_removed(errors, &path.child("resources"), "pod-level resource", new, old);
    let (new, old) = (new.cloned().unwrap_or_default(), old.cloned().unwrap_or_default());
    if with_old_cpu_and_memory(&new, &old) != normal(&old) {
        errors.push(FieldError::forbidden(path, "only cpu and memory resources are mutable at pod-level"));
    }
}

/// Whether the containers are others than before.
fn others(errors: &mut FieldErrors, path: &FieldPath, what: &str, now: &[Container], before: &[Container]) -> bool {
    if now.len() != before.len() {
        errors.push(FieldError::forbidden(path, format!("{what} may not be added or removed on resize")));
        return true;
    }
    let renamed = now.iter().zip(before).enumerate().filter(|(_, (now, before))| now.name != before.name);
    let renamed: Vec<usize> = renamed.map(|(i, _)| i).collect();
    for i in &renamed {
        let detail = format!("{what} may not be renamed or reordered on resize");
        errors.push(FieldError::forbidden(&path.index(*i).child("name"), detail));
    }
    !renamed.is_empty()
}

fn only_cpu_and_memory(errors: &mut FieldErrors, path: &FieldPath, spec: &PodSpec, before: &PodSpec) {
    for (now, before) in spec.containers.iter().zip(&before.containers) {
        if changes_more(now, before) {
            errors.push(FieldError::forbidden(path, "only cpu and memory resources are mutable"));
        }
    }
    for (i, (now, before)) in init(spec).iter().zip(init(before)).enumerate() {
        let path = path.child("initContainers").index(i);
        if changes_more(now, before) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(FieldError::forbidden(&path, detail));
        }
        let restarts = |policy: &ContainerResizePolicy| policy.restart_policy == "RestartContainer";
        if now != before && !pods::is_sidecar(now) && now.resize_policy.iter().flatten().any(restarts) {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
}

fn nothing_removed(
    errors: &mut FieldErrors,
    path: &FieldPath,
    what: &str,
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) {
    let (new, old) = (new.cloned().unwrap_or_default(), old.cloned().unwrap_or_default());
    let removed = |new: &Amounts, old: &Amounts| {
        old.iter().flatten().any(|(name, _)| !new.as_ref().is_some_and(|amounts| amounts.contains_key(name)))
    };
    if removed(&new.requests, &old.requests) {
        errors.push(FieldError::forbidden(&path.child("requests"), format!("{what} requests cannot be removed")));
    }
    if removed(&new.limits, &old.limits) {
        errors.push(FieldError::forbidden(&path.child("limits"), format!("{what} limits cannot be removed")));
    }
}

/// Whether more changes in a container than its CPU and memory.
fn changes_more(now: &Container, before: &Container) -> bool {
    let old = before.resources.clone().unwrap_or_default();
    let resources = with_old_cpu_and_memory(&now.resources.clone().unwrap_or_default(), &old);
    let now = Container { resources: Some(resources), ..now.clone() };
    now != Container { resources: Some(normal(&old)), ..before.clone() }
}

fn with_old_cpu_and_memory(new: &ResourceRequirements, old: &ResourceRequirements) -> ResourceRequirements {
    let amounts = |new: &Amounts, old: &Amounts| {
        let mut amounts = new.clone().unwrap_or_default();
        for name in ["cpu", "memory"] {
            match old.as_ref().and_then(|old| old.get(name)) {
                Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        Some(amounts)
    };
    ResourceRequirements {
        limits: amounts(&new.limits, &old.limits),
        requests: amounts(&new.requests, &old.requests),
        claims: normal(new).claims,
    }
}

/// Without a difference between nothing and an empty list.
fn normal(resources: &ResourceRequirements) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(resources.limits.clone().unwrap_or_default()),
        requests: Some(resources.requests.clone().unwrap_or_default()),
        claims: resources.claims.clone().filter(|claims| !claims.is_empty()),
    }
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

    #[test]
    fn containers_stay_the_same() {
        let named = |names: &[&str], init: &[&str]| {
            let list = |names: &[&str]| -> Vec<Value> {
                names
                    .iter()
                    .map(|name| json!({"name": name, "image": "i", "resources": {"requests": {"cpu": "1"}}}))
                    .collect()
            };
            let spec = json!({"containers": list(names), "initContainers": list(init)});
            let mut pod: Object =
                serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec}))
                    .expect("a pod");
            Pod::set_defaults(&mut pod);
            Pod::prepare_for_create(&mut pod);
            pod
        };
        let old = named(&["a", "b"], &["i"]);
        let table: &[(&[&str], &[&str], &str)] = &[
            (&["a", "b"], &["i"], "[]"),
            (&["a"], &["i"], "spec.containers: Forbidden: containers may not be added or removed on resize"),
            (&["a", "b"], &[], "spec.initContainers: Forbidden: initContainers may not be added or removed on resize"),
            (
                &["b", "a"],
                &["i"],
                "[spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize, spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize]",
            ),
            (
                &["a", "b"],
                &["j"],
                "spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize",
            ),
        ];
        for (names, init, expected) in table {
            let mut new = named(names, init);
            new.status.clone_from(&old.status);
            new.spec = Some(prepare(&new, &old));
            assert_eq!(validate(&new, &old).to_string(), *expected);
        }
    }

    #[test]
    fn pods_and_init_containers_are_resized_too() {
        let of = |pod: Value, init: Value| {
            let mut pod: Object = serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {
                "resources": pod, "initContainers": [{"name": "i", "image": "i", "resizePolicy": init["policy"], "resources": init["resources"]}],
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}}))
            .expect("a pod");
            Pod::set_defaults(&mut pod);
            Pod::prepare_for_create(&mut pod);
            pod
        };
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let init = |amount: &str| json!({"resources": cpu(amount)});
        let restarted = |amount: &str| json!({"resources": cpu(amount), "policy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]});
        let table = [
            (of(cpu("1"), init("1")), of(cpu("2"), init("2")), "[]"),
            (of(Value::Null, init("1")), of(cpu("2"), init("1")), "[]"),
            (
                of(cpu("1"), init("1")),
                of(Value::Null, init("1")),
                "spec.resources: Forbidden: pod-level resources cannot be removed",
            ),
            (
                of(json!({"limits": {"cpu": "1"}}), init("1")),
                of(json!({"requests": {"cpu": "1"}}), init("1")),
                "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed",
            ),
            (
                of(Value::Null, restarted("1")),
                of(Value::Null, restarted("2")),
                "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
            ),
            (
                of(Value::Null, init("1")),
                of(Value::Null, restarted("1")),
                "[spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable, spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized]",
            ),
        ];
        for (old, mut new, expected) in table {
            new.status.clone_from(&old.status);
            new.spec = Some(prepare(&new, &old));
            assert_eq!(validate(&new, &old).to_string(), expected);
        }
    }
}
