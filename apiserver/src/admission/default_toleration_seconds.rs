//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise.

use api::error::ApiError;
use api::well_known::taints;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Toleration};

use super::{Attributes, Lookup, Operation, Plugin};
use crate::object::{Object, downcast_mut};

const SECONDS: i64 = 300;

/// See the module.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.is("", "pods")
    }

    async fn mutate(
        &self,
        _: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if let Some(spec) = object.and_then(downcast_mut::<Pod>).and_then(|pod| pod.spec.as_mut()) {
            for taint in [taints::NOT_READY, taints::UNREACHABLE] {
                tolerate(&mut spec.tolerations, taint);
            }
        }
        Ok(())
    }
}

fn tolerate(tolerations: &mut Option<Vec<Toleration>>, taint: &str) {
    let fits =
        |value: &Option<String>, wanted: &str| value.as_deref().is_none_or(|value| value.is_empty() || value == wanted);
    let tolerated =
        |toleration: &Toleration| fits(&toleration.key, taint) && fits(&toleration.effect, taints::NO_EXECUTE);
    if tolerations.iter().flatten().any(tolerated) {
        return;
    }
    tolerations.get_or_insert_default().push(Toleration {
        key: Some(taint.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(taints::NO_EXECUTE.to_owned()),
        toleration_seconds: Some(SECONDS),
        ..Toleration::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_what_is_missing_is_added() {
        let added =
            |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let all = json!({"operator": "Exists"});
        let own = json!({"key": taints::NOT_READY, "operator": "Exists", "effect": "NoExecute"});
        let other = json!({"key": taints::NOT_READY, "operator": "Exists", "effect": "NoSchedule"});
        let table: [(Value, Vec<Value>); 4] = [
            (Value::Null, vec![added(taints::NOT_READY), added(taints::UNREACHABLE)]),
            (json!([all]), vec![all]),
            (json!([own]), vec![own, added(taints::UNREACHABLE)]),
            (json!([other]), vec![other, added(taints::NOT_READY), added(taints::UNREACHABLE)]),
        ];
        for (before, after) in table {
            let mut tolerations: Option<Vec<Toleration>> = serde_json::from_value(before).expect("tolerations");
            tolerate(&mut tolerations, taints::NOT_READY);
            tolerate(&mut tolerations, taints::UNREACHABLE);
            assert_eq!(serde_json::to_value(tolerations).unwrap(), Value::Array(after));
        }
    }
}
