//! TaintNodesByCondition: a new node takes no pods before the node controller has seen it ready.

use api::error::ApiError;
use api::well_known::taints;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{Attributes, Lookup, Operation, Plugin};
use crate::object::{Object, downcast_mut};

/// See the module.
pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "nodes")
    }

    async fn mutate(
        &self,
        _: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        if let Some(node) = object.and_then(downcast_mut::<Node>) {
            taint(node);
        }
        Ok(())
    }
}

fn taint(node: &mut Node) {
    let present = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !present.iter().any(|taint| taint.key == taints::NOT_READY && taint.effect == taints::NO_SCHEDULE) {
        let (key, effect) = (taints::NOT_READY.to_owned(), taints::NO_SCHEDULE.to_owned());
        present.push(Taint { key, effect, ..Taint::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_begin_tainted_once() {
        let mut node = Node::default();
        taint(&mut node);
        taint(&mut node);
        let found = node.spec.and_then(|spec| spec.taints).expect("taints");
        assert_eq!(
            found.iter().map(|taint| (taint.key.as_str(), taint.effect.as_str())).collect::<Vec<_>>(),
            [(taints::NOT_READY, "NoSchedule")]
        );
    }
}
