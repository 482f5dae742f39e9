//! Brings RBAC's first roles and bindings about: what is missing is created, what lost rules or subjects gets them back, and what
//! an administrator added stays. A role with the annotation autoupdate=false is the administrator's. Entry point: [`reconcile`].

use std::collections::BTreeMap;

use api::error::ApiError;
use api::well_known::annotations;
use futures::future::try_join_all;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::Policy;
use super::writer::{Kept, Writer};
use crate::authz::rules;

/// Compares everything with what is there, and writes the differences side by side.
pub(super) async fn reconcile(writer: &Writer, policy: Policy) -> Result<(), ApiError> {
    try_join_all(policy.cluster_roles.into_iter().map(|wanted| ensure(writer, wanted))).await?;
    try_join_all(policy.roles.into_iter().map(|wanted| ensure(writer, wanted))).await?;
    try_join_all(policy.cluster_bindings.into_iter().map(|wanted| ensure(writer, wanted))).await?;
    try_join_all(policy.bindings.into_iter().map(|wanted| ensure(writer, wanted))).await?;
    Ok(())
}

async fn ensure<T: Reconciled>(writer: &Writer, wanted: T) -> Result<(), ApiError> {
    let (namespace, name) =
        (wanted.metadata().namespace.clone().unwrap_or_default(), wanted.metadata().name.clone().unwrap_or_default());
    match writer.get::<T>(&namespace, &name) {
        None => writer.create(wanted).await,
        Some(found) => match merged(&found, &wanted) {
            None => Ok(()),
            // Another server that starts now has done it.
            Some(next) => {
                writer.replace(next).await.or_else(|error| if error.is_conflict() { Ok(()) } else { Err(error) })
            }
        },
    }
}

/// A kind that is brought about.
trait Reconciled: Kept + PartialEq {
    /// Adds to self what it lacks of `wanted`, metadata aside.
    fn complete(&mut self, wanted: &Self);
}

impl Reconciled for ClusterRole {
    fn complete(&mut self, wanted: &Self) {
        if wanted.aggregation_rule.is_some() {
            self.aggregation_rule.clone_from(&wanted.aggregation_rule);
        } else {
            add_rules(&mut self.rules, &wanted.rules);
        }
    }
}

impl Reconciled for Role {
    fn complete(&mut self, wanted: &Self) {
        add_rules(&mut self.rules, &wanted.rules);
    }
}

impl Reconciled for ClusterRoleBinding {
    fn complete(&mut self, wanted: &Self) {
        add_subjects(&mut self.subjects, &wanted.subjects);
    }
}

impl Reconciled for RoleBinding {
    fn complete(&mut self, wanted: &Self) {
        add_subjects(&mut self.subjects, &wanted.subjects);
    }
}

/// What is to be stored instead of `found`; none if nothing is missing.
fn merged<T: Reconciled>(found: &T, wanted: &T) -> Option<T> {
    if protected(found.metadata()) {
        return None;
    }
    let mut next = found.clone();
    next.complete(wanted);
    let (own, wanted) = (next.metadata_mut(), wanted.metadata());
    add_entries(&mut own.labels, &wanted.labels);
    add_entries(&mut own.annotations, &wanted.annotations);
    (next != *found).then_some(next)
}

fn add_entries(own: &mut Option<BTreeMap<String, String>>, wanted: &Option<BTreeMap<String, String>>) {
    if let Some(wanted) = wanted {
        own.get_or_insert_default().extend(wanted.clone());
    }
}

fn protected(meta: &ObjectMeta) -> bool {
    let value = meta.annotations.as_ref().and_then(|all| all.get(annotations::RBAC_AUTOUPDATE));
    value.is_some_and(|value| value == "false")
}

fn add_rules(own: &mut Option<Vec<PolicyRule>>, wanted: &Option<Vec<PolicyRule>>) {
    let missing = rules::uncovered(own.as_deref().unwrap_or_default(), wanted.as_deref().unwrap_or_default());
    if !missing.is_empty() {
        own.get_or_insert_default().extend(rules::compact(missing));
    }
}

fn add_subjects(own: &mut Option<Vec<Subject>>, wanted: &Option<Vec<Subject>>) {
    for subject in wanted.iter().flatten() {
        if !own.iter().flatten().any(|known| known == subject) {
            own.get_or_insert_default().push(subject.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(value: serde_json::Value) -> ClusterRole {
        serde_json::from_value(value).expect("a role")
    }

    #[test]
    fn what_is_missing_comes_back_and_what_was_added_stays() {
        let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
        let wanted =
            role(json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": [rule("pods", &["get", "list"])]}));
        assert_eq!(merged(&wanted, &wanted.clone()).map(|next| next.rules), None, "nothing is missing");
        let more = role(json!({"metadata": {"name": "r"}, "rules": [rule("pods", &["*"]), rule("nodes", &["get"])]}));
        let next = merged(&more, &wanted).expect("the label is missing");
        assert_eq!((next.rules, next.metadata.labels), (more.rules.clone(), wanted.metadata.labels.clone()));
        let less = role(json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "rules": [rule("pods", &["get"])]}));
        let next = merged(&less, &wanted).expect("a verb is missing");
        assert_eq!(serde_json::to_value(next.rules).unwrap(), json!([rule("pods", &["get"]), rule("pods", &["list"])]));
        let own = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(merged(&role(json!({"metadata": {"name": "r", "annotations": own}, "rules": []})), &wanted), None);
    }
}
