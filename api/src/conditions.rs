//! Conditions of a status: get one, set one.
//!
//! Invariant: `lastTransitionTime` changes exactly when `status` does, whoever sets the condition.

use k8s_openapi::api::apps::v1::{DaemonSetCondition, DeploymentCondition, ReplicaSetCondition, StatefulSetCondition};
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::{
    NamespaceCondition, NodeCondition, PersistentVolumeClaimCondition, PodCondition, ReplicationControllerCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as MetaCondition, Time};
use k8s_openapi::jiff::Timestamp;

/// What all condition types of the API have in common.
pub trait Condition: PartialEq {
    /// The type, unique within the list.
    fn condition_type(&self) -> &str;
    /// `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// When the status last changed.
    fn last_transition_time(&self) -> Option<Timestamp>;
    /// Overwrites the time of the last change.
    fn set_last_transition_time(&mut self, time: Timestamp);
}

macro_rules! conditions {
    ($($name:ident),* $(,)?) => {$(
        impl Condition for $name {
            fn condition_type(&self) -> &str { &self.type_ }
            fn status(&self) -> &str { &self.status }
            fn last_transition_time(&self) -> Option<Timestamp> { self.last_transition_time.as_ref().map(|t| t.0) }
            fn set_last_transition_time(&mut self, time: Timestamp) { self.last_transition_time = Some(Time(time)); }
        }
    )*};
}

conditions!(
    PodCondition,
    NodeCondition,
    ReplicationControllerCondition,
    NamespaceCondition,
    PersistentVolumeClaimCondition,
    ReplicaSetCondition,
    DeploymentCondition,
    StatefulSetCondition,
    DaemonSetCondition,
    JobCondition,
);

impl Condition for MetaCondition {
    fn condition_type(&self) -> &str {
        &self.type_
    }
    fn status(&self) -> &str {
        &self.status
    }
    fn last_transition_time(&self) -> Option<Timestamp> {
        Some(self.last_transition_time.0)
    }
    fn set_last_transition_time(&mut self, time: Timestamp) {
        self.last_transition_time = Time(time);
    }
}

/// The condition of this type.
pub fn get<'a, C: Condition>(conditions: &'a [C], condition_type: &str) -> Option<&'a C> {
    conditions.iter().find(|c| c.condition_type() == condition_type)
}

/// Whether the condition of this type is there and `True`.
pub fn is_true<C: Condition>(conditions: &[C], condition_type: &str) -> bool {
    get(conditions, condition_type).is_some_and(|c| c.status() == "True")
}

/// Sets the condition of its type, in place or at the end. The time of transition is `now` if the status is new, the
/// old one otherwise. Answers whether anything changed.
pub fn set<C: Condition>(conditions: &mut Vec<C>, mut condition: C, now: Timestamp) -> bool {
    let Some(old) = conditions.iter_mut().find(|c| c.condition_type() == condition.condition_type()) else {
        condition.set_last_transition_time(now);
        conditions.push(condition);
        return true;
    };
    let since = if old.status() == condition.status() { old.last_transition_time().unwrap_or(now) } else { now };
    condition.set_last_transition_time(since);
    let changed = *old != condition;
    *old = condition;
    changed
}

/// Removes the condition of this type; answers whether it was there.
pub fn remove<C: Condition>(conditions: &mut Vec<C>, condition_type: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.condition_type() != condition_type);
    conditions.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &str, reason: &str) -> PodCondition {
        PodCondition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            ..PodCondition::default()
        }
    }

    #[test]
    fn the_transition_time_follows_the_status_only() {
        let at = |s| Timestamp::from_second(s).expect("in range");
        let mut list = Vec::new();
        assert!(set(&mut list, ready("False", "a"), at(1)));
        assert!(!set(&mut list, ready("False", "a"), at(2)));
        assert!(set(&mut list, ready("False", "b"), at(3)));
        assert_eq!(list[0].last_transition_time(), Some(at(1)));
        assert!(set(&mut list, ready("True", "b"), at(4)));
        assert_eq!(list[0].last_transition_time(), Some(at(4)));
        assert!(is_true(&list, "Ready") && !is_true(&list, "Other"));
        assert!(remove(&mut list, "Ready") && list.is_empty());
    }
}
