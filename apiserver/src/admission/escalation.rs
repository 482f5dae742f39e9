//! Refuses roles and bindings that would give away more than their writer holds; the rules are [`crate::authz::escalation`]'s.
//!
//! Upstream checks this in the storage of these kinds, after admission and before validation: here it is the last mutating plugin.

use std::sync::Arc;

use api::error::ApiError;
use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::{Attributes, Lookup, Operation, Plugin};
use crate::authz::Authorizers;
use crate::authz::escalation::{Place, check_binding, check_role};
use crate::authz::rbac::GROUP;
use crate::object::{Object, downcast};

/// See the module.
pub struct Escalation {
    authorizers: Arc<Authorizers>,
}

impl Escalation {
    /// Asks these.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }
}

#[async_trait]
impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && attributes.resource.group == GROUP
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        _: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let object: &dyn Object = object;
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let at = Place { plural: &attributes.resource.plural, namespace: attributes.namespace, name };
        if let Some(wanted) = rules(object).filter(|wanted| attributes.old.and_then(rules).as_ref() != Some(wanted)) {
            return check_role(&self.authorizers, attributes.user, &at, &wanted);
        }
        match binding(object).filter(|wanted| attributes.old.and_then(binding).as_ref() != Some(wanted)) {
            Some((role, _)) => check_binding(&self.authorizers, attributes.user, &at, role),
            None => Ok(()),
        }
    }
}

/// The rules of a role. An aggregated role counts as everything, since anybody may add to it.
fn rules(object: &dyn Object) -> Option<Vec<PolicyRule>> {
    if let Some(role) = downcast::<Role>(object) {
        return Some(role.rules.clone().unwrap_or_default());
    }
    let role = downcast::<ClusterRole>(object)?;
    let mut rules = role.rules.clone().unwrap_or_default();
    if role.aggregation_rule.is_some() {
        let all = || Some(vec!["*".to_owned()]);
        let verbs = vec!["*".to_owned()];
        rules.push(PolicyRule { api_groups: all(), resources: all(), verbs: verbs.clone(), ..PolicyRule::default() });
        rules.push(PolicyRule { non_resource_urls: all(), verbs, ..PolicyRule::default() });
    }
    Some(rules)
}

fn binding(object: &dyn Object) -> Option<(&RoleRef, &[Subject])> {
    if let Some(binding) = downcast::<RoleBinding>(object) {
        return Some((&binding.role_ref, binding.subjects.as_deref().unwrap_or_default()));
    }
    let binding = downcast::<ClusterRoleBinding>(object)?;
    Some((&binding.role_ref, binding.subjects.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::{create, resource};
    use crate::authn::User;
    use crate::view::fixture::Objects;
    use serde_json::json;

    #[tokio::test]
    async fn writers_of_roles_need_what_they_write() {
        let info = resource(GROUP, "clusterroles", "ClusterRole", false);
        let role = |value| serde_json::from_value::<ClusterRole>(value).expect("a role");
        let pods = || json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        let reference = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "held"});
        let objects = Arc::new(Objects::with(&[
            (GROUP, "clusterroles", json!({"metadata": {"name": "held"}, "rules": pods()})),
            (
                GROUP,
                "clusterrolebindings",
                json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": [{"kind": "User", "name": "alice"}]}),
            ),
        ]));
        let plugin = Escalation::new(Arc::new(Authorizers::new(objects.clone())));
        let user = User { name: "alice".to_owned(), ..User::default() };
        let refused = |answer: Result<(), ApiError>| answer.map_err(|error| error.code);
        let mut fine = role(json!({"metadata": {"name": "x"}, "rules": pods()}));
        let mut wide = role(
            json!({"metadata": {"name": "x"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
        );
        let mut open = role(json!({"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": []}}));
        let create = || create(&info, &user, "");
        assert_eq!(refused(plugin.mutate(&create(), Some(&mut fine), objects.as_ref()).await), Ok(()));
        assert_eq!(refused(plugin.mutate(&create(), Some(&mut wide), objects.as_ref()).await), Err(403));
        assert_eq!(refused(plugin.mutate(&create(), Some(&mut open), objects.as_ref()).await), Err(403));
        let old = wide.clone();
        let relabel = Attributes { operation: Operation::Update, old: Some(&old), ..create() };
        assert_eq!(refused(plugin.mutate(&relabel, Some(&mut wide), objects.as_ref()).await), Ok(()));
    }
}
