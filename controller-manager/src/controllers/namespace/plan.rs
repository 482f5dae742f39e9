//! What the conditions of a namespace that is being deleted say, and whether it may go.
//!
//! Entry point: [`plan`]. Pure; invariant: a namespace is finalized only when nothing failed and nothing remains.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long content with finalizers is expected to stay.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);

/// What one round of deleting a namespace's content left.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Content {
    /// Why not all kinds could be discovered.
    pub discovery_failure: Option<String>,
    /// Why some content could not be deleted or listed, one text per kind.
    pub failures: Vec<String>,
    /// `resource.group` to the number of objects left.
    pub remaining: BTreeMap<String, usize>,
    /// Finalizer to the number of objects that wait for it.
    pub finalizers: BTreeMap<String, usize>,
    /// How long the pods' grace lasts at most.
    pub pods_grace: Duration,
}

/// What to do with the namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The conditions to write, if they differ.
    pub conditions: Option<Vec<NamespaceCondition>>,
    /// Whether to take the finalizer `kubernetes` away.
    pub finalize: bool,
    /// When to look again at the latest, if something remains.
    pub look_again: Option<Duration>,
}

/// Decides what to do after one round.
pub fn plan(now: Timestamp, before: &[NamespaceCondition], content: &Content) -> Plan {
    let mut conditions = before.to_vec();
    for wanted in wanted(now, content) {
        match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
            None => conditions.push(wanted),
            Some(condition) => {
                let since = condition.last_transition_time.clone();
                let same = condition.status == wanted.status;
                *condition = NamespaceCondition {
                    last_transition_time: if same { since } else { wanted.last_transition_time.clone() },
                    ..wanted
                };
            }
        }
    }
    let clean = content.discovery_failure.is_none() && content.failures.is_empty() && content.remaining.is_empty();
    Plan {
        conditions: (conditions != before).then_some(conditions),
        finalize: clean,
        look_again: (!content.remaining.is_empty()).then(|| look_again(content)),
    }
}

fn look_again(content: &Content) -> Duration {
    let finalizers = if content.finalizers.is_empty() { Duration::ZERO } else { FINALIZER_ESTIMATE };
    content.pods_grace.max(finalizers) / 2 + Duration::from_secs(1)
}

fn wanted(now: Timestamp, content: &Content) -> [NamespaceCondition; 5] {
    let condition = |type_: &str, bad: Option<(&str, String)>, good: (&str, &str)| {
        let status = if bad.is_some() { "True" } else { "False" };
        let (reason, message) = bad.unwrap_or((good.0, good.1.to_owned()));
        NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            last_transition_time: Some(Time(now)),
            reason: Some(reason.to_owned()),
            message: Some(message),
        }
    };
    let removed = ("ContentRemoved", "All content successfully removed");
    [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            content.discovery_failure.clone().map(|why| ("DiscoveryFailed", why)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            failures(content).map(|why| ("ContentDeletionFailed", why)),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        condition("NamespaceContentRemaining", remaining(content).map(|why| ("SomeResourcesRemain", why)), removed),
        condition(
            "NamespaceFinalizersRemaining",
            finalizers(content).map(|why| ("SomeFinalizersRemain", why)),
            removed,
        ),
    ]
}

fn failures(content: &Content) -> Option<String> {
    let mut failures = content.failures.clone();
    failures.sort();
    let count = failures.len();
    (count > 0).then(|| format!("Failed to delete all resource types, {count} remaining: {}", failures.join(", ")))
}

fn remaining(content: &Content) -> Option<String> {
    let mut texts: Vec<_> = content
        .remaining
        .iter()
        .map(|(resource, count)| format!("{resource} has {count} resource instances"))
        .collect();
    texts.sort();
    (!texts.is_empty()).then(|| format!("Some resources are remaining: {}", texts.join(", ")))
}

fn finalizers(content: &Content) -> Option<String> {
    let mut texts: Vec<_> = content
        .finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    texts.sort();
    let list = texts.join(", ");
    (!texts.is_empty()).then(|| format!("Some content in the namespace has finalizers remaining: {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::now;

    fn told(plan: &Plan, type_: &str) -> (String, String) {
        let conditions = plan.conditions.as_ref().unwrap();
        let condition = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (condition.status.clone(), condition.message.clone().unwrap())
    }

    #[test]
    fn an_empty_namespace_goes() {
        let first = plan(now(), &[], &Content::default());
        assert!(first.finalize);
        assert_eq!(
            told(&first, "NamespaceContentRemaining"),
            ("False".into(), "All content successfully removed".into())
        );
        let again = plan(now(), &first.conditions.unwrap(), &Content::default());
        assert_eq!(again.conditions, None);
    }

    #[test]
    fn what_remains_is_told_in_upstreams_words() {
        let content = Content {
            remaining: [("configmaps.".to_owned(), 1)].into(),
            finalizers: [("x.example.org/hold".to_owned(), 1)].into(),
            failures: vec!["b".into(), "a".into()],
            ..Content::default()
        };
        let first = plan(now(), &[], &content);
        assert!(!first.finalize);
        assert_eq!(first.look_again, Some(Duration::from_millis(8500)));
        let table = [
            ("NamespaceContentRemaining", "Some resources are remaining: configmaps. has 1 resource instances"),
            (
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: x.example.org/hold in 1 resource instances",
            ),
            ("NamespaceDeletionContentFailure", "Failed to delete all resource types, 2 remaining: a, b"),
        ];
        for (type_, message) in table {
            assert_eq!(told(&first, type_), ("True".to_owned(), message.to_owned()));
        }
        assert_eq!(plan(now(), &first.conditions.unwrap(), &content).conditions, None, "again");
    }

    #[test]
    fn pods_are_given_their_grace() {
        let content = Content {
            remaining: [("pods.".to_owned(), 2)].into(),
            pods_grace: Duration::from_secs(30),
            ..Content::default()
        };
        assert_eq!(plan(now(), &[], &content).look_again, Some(Duration::from_secs(16)));
    }
}
