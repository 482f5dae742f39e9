//! RuntimeClass: a pod that names a class gets the class's overhead, node selector and tolerations; the class must exist, and
//! nobody else sets an overhead.

use api::error::ApiError;
use api::pods::Resources;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast, downcast_mut};

const GROUP: &str = "node.k8s.io";
const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// See the module.
pub struct RuntimeClasses;

#[async_trait]
impl Plugin for RuntimeClasses {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(pod) = object.and_then(downcast_mut::<Pod>) else { return Ok(()) };
        let Some(class) = class_of(attributes, pod, lookup).await? else { return Ok(()) };
        let applied = apply(pod.spec.get_or_insert_default(), &class);
        applied.map_err(|why| attributes.forbidden(Some(pod), &why))
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(pod) = object.and_then(downcast::<Pod>) else { return Ok(()) };
        let class = class_of(attributes, pod, lookup).await?;
        let fixed =
            class.as_ref().and_then(|class| class.overhead.as_ref()).map(|overhead| overhead.pod_fixed.as_ref());
        let own = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
        let why = match (fixed, own) {
            (Some(fixed), own) if Resources::from_wire(fixed) != Resources::from_wire(own) => MISMATCH,
            (None, Some(_)) => "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            (Some(_), _) | (None, None) => return Ok(()),
        };
        Err(attributes.forbidden(Some(pod), why))
    }
}

async fn class_of(
    attributes: &Attributes<'_>,
    pod: &Pod,
    lookup: &dyn Lookup,
) -> Result<Option<RuntimeClass>, ApiError> {
    let Some(name) = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) else { return Ok(None) };
    match find::<RuntimeClass>(lookup, GROUP, "runtimeclasses", "", name).await? {
        Some(class) => Ok(Some(class)),
        None => {
            let why = format!("pod rejected: RuntimeClass {} not found", api::field::go_quote(name));
            Err(attributes.forbidden(Some(pod), &why))
        }
    }
}

fn apply(spec: &mut PodSpec, class: &RuntimeClass) -> Result<(), String> {
    if let Some(overhead) = &class.overhead {
        let fixed = overhead.pod_fixed.as_ref();
        if spec.overhead.is_some() && Resources::from_wire(spec.overhead.as_ref()) != Resources::from_wire(fixed) {
            return Err(MISMATCH.to_owned());
        }
        spec.overhead.clone_from(&overhead.pod_fixed);
    }
    let Some(scheduling) = &class.scheduling else { return Ok(()) };
    for (key, wanted) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        match selector.get(key) {
            Some(own) if own != wanted => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            Some(_) => {}
            None => drop(selector.insert(key.clone(), wanted.clone())),
        }
    }
    let merged =
        merge(spec.tolerations.as_deref().unwrap_or_default(), scheduling.tolerations.as_deref().unwrap_or_default());
    spec.tolerations = (!merged.is_empty()).then_some(merged);
    Ok(())
}

/// Both lists, without what another toleration covers anyway.
fn merge(first: &[Toleration], second: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<&Toleration> = first.iter().chain(second).collect();
    let mut merged: Vec<Toleration> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let later = |other: &&&Toleration| **other != *one && covers(other, one);
        if !merged.iter().any(|kept| covers(kept, one)) && !all[i + 1..].iter().any(|other| later(&other)) {
            merged.push((*one).clone());
        }
    }
    merged
}

/// Whether whatever `narrow` tolerates `wide` tolerates too.
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (operator, effect) = (text(&wide.operator), text(&wide.effect));
    if wide == narrow {
        return true;
    }
    let any_key = text(&wide.key).is_empty() && operator == "Exists";
    if (text(&wide.key) != text(&narrow.key) && !any_key) || (!effect.is_empty() && effect != text(&narrow.effect)) {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide.toleration_seconds
        && narrow.toleration_seconds.is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        "" | "Equal" => text(&narrow.operator) == "Equal" && text(&narrow.value) == text(&wide.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    async fn admit(spec: Value) -> Result<Value, String> {
        let toleration = json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
        let objects = Objects::with(&[
            (
                GROUP,
                "runtimeclasses",
                json!({"metadata": {"name": "full"}, "handler": "h", "overhead": {"podFixed": {"cpu": "10m"}},
                "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [toleration]}}),
            ),
            (GROUP, "runtimeclasses", json!({"metadata": {"name": "plain"}, "handler": "h"})),
        ]);
        let (pods, user) = (resource("", "pods", "Pod", true), User::default());
        let mut spec = spec;
        spec["containers"] = json!([]);
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a pod");
        let attributes = create(&pods, &user, "n");
        let mutated = RuntimeClasses.mutate(&attributes, Some(&mut pod), &objects).await;
        mutated.map_err(|error| error.message)?;
        RuntimeClasses.validate(&attributes, Some(&pod), &objects).await.map_err(|error| error.message)?;
        let spec = pod.spec.unwrap_or_default();
        Ok(json!([spec.overhead, spec.node_selector, spec.tolerations]))
    }

    #[tokio::test]
    async fn classes_bring_overhead_and_scheduling() {
        let toleration = || json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
        let narrow = json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let table = [
            (json!({}), Ok(json!([null, null, null]))),
            (json!({"runtimeClassName": "plain"}), Ok(json!([null, null, null]))),
            (json!({"runtimeClassName": "full"}), Ok(json!([{"cpu": "10m"}, {"a": "b"}, [toleration()]]))),
            (
                json!({"runtimeClassName": "full", "overhead": {"cpu": "0.01"}, "nodeSelector": {"c": "d"}, "tolerations": [narrow]}),
                Ok(json!([{"cpu": "10m"}, {"a": "b", "c": "d"}, [toleration()]])),
            ),
            (json!({"runtimeClassName": "none"}), Err("pod rejected: RuntimeClass \"none\" not found")),
            (json!({"runtimeClassName": "full", "overhead": {"cpu": "1"}}), Err(MISMATCH)),
            (
                json!({"overhead": {"cpu": "1"}}),
                Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
            ),
            (
                json!({"runtimeClassName": "full", "nodeSelector": {"a": "c"}}),
                Err("conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c"),
            ),
        ];
        for (spec, expected) in table {
            let expected = expected.map_err(|why| format!("pods \"x\" is forbidden: {why}"));
            assert_eq!(admit(spec).await, expected);
        }
    }
}
