//! Priority: a pod's priority is that of its PriorityClass; nobody sets the number by hand.

use api::error::ApiError;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{Attributes, Lookup, Operation, Plugin, find};
use crate::object::{Object, downcast, downcast_mut};

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";
const PREEMPT: &str = "PreemptLowerPriority";
/// Classes that every cluster has, also before they are stored.
const SYSTEM: [(&str, i32); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// See the module.
pub struct Priority;

/// What a class says.
struct Resolved {
    class: Option<String>,
    value: i32,
    policy: String,
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        written && (attributes.is("", "pods") || attributes.is(GROUP, PLURAL))
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let Some(pod) = object.and_then(downcast_mut::<Pod>) else { return Ok(()) };
        match attributes.operation {
            Operation::Create => {
                let spec = pod.spec.get_or_insert_default();
                let resolved = resolve(spec.priority_class_name.as_deref(), lookup).await?;
                let applied = resolved.and_then(|resolved| apply(spec, resolved));
                applied.map_err(|why| attributes.forbidden(Some(pod), &why))?;
            }
            Operation::Update => keep(pod, attributes.old.and_then(downcast::<Pod>)),
            Operation::Delete | Operation::Connect => {}
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        match object.filter(|_| attributes.is(GROUP, PLURAL)).and_then(downcast::<PriorityClass>) {
            Some(class) => check_default(attributes, class, lookup).await,
            None => Ok(()),
        }
    }
}

/// Only one class may be the default.
async fn check_default(
    attributes: &Attributes<'_>,
    class: &PriorityClass,
    lookup: &dyn Lookup,
) -> Result<(), ApiError> {
    if class.global_default != Some(true) {
        return Ok(());
    }
    let default = default_class(lookup).await?.and_then(|resolved| resolved.class);
    let own = class.metadata.name.clone();
    match default {
        Some(name) if attributes.operation == Operation::Create || own.as_ref() != Some(&name) => {
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(attributes.forbidden(Some(class), &why))
        }
        Some(_) | None => Ok(()),
    }
}

async fn resolve(name: Option<&str>, lookup: &dyn Lookup) -> Result<Result<Resolved, String>, ApiError> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => named(name, lookup).await,
        None => Ok(Ok(default_class(lookup).await?.unwrap_or_else(|| Resolved {
            class: None,
            value: 0,
            policy: PREEMPT.to_owned(),
        }))),
    }
}

async fn named(name: &str, lookup: &dyn Lookup) -> Result<Result<Resolved, String>, ApiError> {
    if let Some(class) = find::<PriorityClass>(lookup, GROUP, PLURAL, "", name).await? {
        return Ok(Ok(resolved(class)));
    }
    let system = SYSTEM.iter().find(|(system, _)| *system == name);
    let system = system.map(|(name, value)| Resolved {
        class: Some((*name).to_owned()),
        value: *value,
        policy: PREEMPT.to_owned(),
    });
    Ok(system.ok_or_else(|| format!("no PriorityClass with name {name} was found")))
}

/// The class for pods that name none; of several the one with the lowest value, as upstream.
async fn default_class(lookup: &dyn Lookup) -> Result<Option<Resolved>, ApiError> {
    let mut lowest: Option<PriorityClass> = None;
    for bytes in lookup.list(GROUP, PLURAL, "").await? {
        let class: PriorityClass = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        if class.global_default == Some(true) && lowest.as_ref().is_none_or(|lowest| class.value < lowest.value) {
            lowest = Some(class);
        }
    }
    Ok(lowest.map(resolved))
}

fn resolved(class: PriorityClass) -> Resolved {
    Resolved {
        class: class.metadata.name,
        value: class.value.unwrap_or_default(),
        policy: class.preemption_policy.unwrap_or_else(|| PREEMPT.to_owned()),
    }
}

fn apply(spec: &mut PodSpec, resolved: Resolved) -> Result<(), String> {
    const RULE: &str = "must not be provided in pod spec; priority admission controller computed";
    let Resolved { class, value, policy } = resolved;
    if let Some(given) = spec.priority.filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) {RULE} {value} from the given PriorityClass name"
        ));
    }
    if let Some(given) = spec.preemption_policy.as_ref().filter(|given| **given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) {RULE} {policy} from the given PriorityClass name"
        ));
    }
    spec.priority_class_name = class;
    spec.priority = Some(value);
    spec.preemption_policy = Some(policy);
    Ok(())
}

/// An update that leaves the numbers out means no change.
fn keep(pod: &mut Pod, old: Option<&Pod>) {
    let Some((spec, old)) = pod.spec.as_mut().zip(old.and_then(|old| old.spec.as_ref())) else { return };
    spec.priority = spec.priority.or(old.priority);
    spec.preemption_policy = spec.preemption_policy.take().or_else(|| old.preemption_policy.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::{Value, json};

    async fn admit(spec: Value, classes: &[Value]) -> Result<Value, String> {
        let classes: Vec<_> = classes.iter().map(|class| (GROUP, PLURAL, class.clone())).collect();
        let (pods, user) = (resource("", "pods", "Pod", true), User::default());
        let mut spec = spec;
        spec["containers"] = json!([]);
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a pod");
        let answer = Priority.mutate(&create(&pods, &user, "n"), Some(&mut pod), &Objects::with(&classes)).await;
        let spec = pod.spec.unwrap_or_default();
        answer
            .map(|()| json!([spec.priority_class_name, spec.priority, spec.preemption_policy]))
            .map_err(|error| error.message)
    }

    #[tokio::test]
    async fn classes_give_numbers() {
        let class = |name: &str, value: i32, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
        let classes = [class("a", 7, false), class("b", 5, true)];
        let table = [
            (json!({}), &classes[..0], Ok(json!([null, 0, PREEMPT]))),
            (json!({}), &classes, Ok(json!(["b", 5, "Never"]))),
            (json!({"priorityClassName": "a"}), &classes, Ok(json!(["a", 7, "Never"]))),
            (
                json!({"priorityClassName": "system-node-critical"}),
                &classes[..0],
                Ok(json!(["system-node-critical", 2_000_001_000, PREEMPT])),
            ),
            (
                json!({"priorityClassName": "zz"}),
                &classes,
                Err("pods \"x\" is forbidden: no PriorityClass with name zz was found"),
            ),
            (
                json!({"priorityClassName": "a", "priority": 3}),
                &classes,
                Err(
                    "pods \"x\" is forbidden: the integer value of priority (3) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name",
                ),
            ),
        ];
        for (spec, classes, expected) in table {
            assert_eq!(admit(spec, classes).await, expected.map_err(str::to_owned));
        }
    }

    #[tokio::test]
    async fn there_is_one_default() {
        let class =
            |name: &str, default: bool| json!({"metadata": {"name": name}, "value": 5, "globalDefault": default});
        let objects = Objects::with(&[(GROUP, PLURAL, class("a", true)), (GROUP, PLURAL, class("b", false))]);
        let (classes, user) = (resource(GROUP, PLURAL, "PriorityClass", false), User::default());
        let refused = "priorityclasses.scheduling.k8s.io \"x\" is forbidden: PriorityClass a is already marked as default. Only one default can exist";
        let table = [
            (Operation::Create, class("x", true), Some(refused)),
            (Operation::Create, class("x", false), None),
            (Operation::Update, class("b", true), Some(refused)),
            (Operation::Update, class("a", true), None),
        ];
        for (operation, value, expected) in table {
            let class: PriorityClass = serde_json::from_value(value).expect("a class");
            let attributes = Attributes { operation, ..create(&classes, &user, "") };
            let answer = Priority.validate(&attributes, Some(&class), &objects).await;
            assert_eq!(answer.err().map(|error| error.message).as_deref(), expected);
        }
    }
}
