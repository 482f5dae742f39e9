//! Nobody grants by a role or binding what they do not hold themselves, unless `escalate` or `bind` says so.
//! Entry points: [`check_role`], [`check_binding`]; both answer upstream's message.

use api::error::ApiError;
use api::names::GroupResource;
use api::well_known::groups;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};

use super::rbac::GROUP;
use super::{Attributes, Authorizers, Decision, Target, rules};
use crate::authn::User;

/// Where the write happens.
pub struct Place<'a> {
    /// roles, clusterroles, rolebindings or clusterrolebindings.
    pub plural: &'a str,
    /// Empty for the cluster-scoped kinds.
    pub namespace: &'a str,
    /// Name of the role or binding.
    pub name: &'a str,
}

/// Whether the user may write a role with these rules.
pub fn check_role(
    authorizers: &Authorizers,
    user: &User,
    at: &Place<'_>,
    wanted: &[PolicyRule],
) -> Result<(), ApiError> {
    if may(authorizers, user, "escalate", Target::resource(GROUP, at.plural, "", at.namespace, at.name)) {
        return Ok(());
    }
    refuse_unheld(authorizers, user, at, wanted)
}

/// Whether the user may write a binding to this role.
pub fn check_binding(authorizers: &Authorizers, user: &User, at: &Place<'_>, role: &RoleRef) -> Result<(), ApiError> {
    let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if may(authorizers, user, "bind", Target::resource(GROUP, plural, "", at.namespace, &role.name)) {
        return Ok(());
    }
    match authorizers.rbac().role_rules(role, at.namespace) {
        Ok(wanted) => refuse_unheld(authorizers, user, at, &wanted),
        Err(_) => Err(ApiError::not_found(&GroupResource::new(GROUP, plural.trim_end_matches('s')), &role.name)),
    }
}

fn may(authorizers: &Authorizers, user: &User, verb: &str, target: Target) -> bool {
    user.groups.iter().any(|group| group == groups::MASTERS)
        || matches!(authorizers.authorize(&Attributes::new(user, verb, target)), Decision::Allow(_))
}

fn refuse_unheld(
    authorizers: &Authorizers,
    user: &User,
    at: &Place<'_>,
    wanted: &[PolicyRule],
) -> Result<(), ApiError> {
    let (held, errors) = authorizers.rbac().rules_of(user, at.namespace);
    let missing = rules::compact(rules::uncovered(&held, wanted));
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<_> = missing.iter().map(rules::describe).collect();
    missing.sort();
    let (name, groups) = (api::field::go_quote(&user.name), rules::quoted(&user.groups));
    let mut why = format!(
        "user {name} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
        missing.join("\n")
    );
    if !errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
    }
    Err(ApiError::forbidden(&GroupResource::new(GROUP, at.plural), at.name, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixture::Objects;
    use serde_json::json;
    use std::sync::Arc;

    fn authorizers() -> Authorizers {
        let writer = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}]);
        let binder =
            json!([{"apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["all"], "verbs": ["bind"]}]);
        let role_ref = |name: &str| json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        Authorizers::new(Arc::new(Objects::with(&[
            (
                GROUP,
                "clusterroles",
                json!({"metadata": {"name": "all"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
            ),
            (GROUP, "clusterroles", json!({"metadata": {"name": "writer"}, "rules": writer})),
            (GROUP, "clusterroles", json!({"metadata": {"name": "binder"}, "rules": binder})),
            (GROUP, "roles", json!({"metadata": {"name": "local", "namespace": "n"}, "rules": writer})),
            (
                GROUP,
                "rolebindings",
                json!({"metadata": {"name": "w", "namespace": "n"}, "roleRef": role_ref("writer"), "subjects": [{"kind": "User", "name": "alice"}]}),
            ),
            (
                GROUP,
                "rolebindings",
                json!({"metadata": {"name": "b", "namespace": "n"}, "roleRef": role_ref("binder"), "subjects": [{"kind": "User", "name": "bob"}]}),
            ),
        ])))
    }

    fn user(name: &str) -> User {
        User { name: name.to_owned(), groups: vec!["system:authenticated".to_owned()], ..User::default() }
    }

    #[test]
    fn only_what_is_held_is_granted() {
        let authorizers = authorizers();
        let at = Place { plural: "roles", namespace: "n", name: "e" };
        let rules = |resource: &str| {
            vec![
                serde_json::from_value(json!({"apiGroups": [""], "resources": [resource], "verbs": ["get", "list"]}))
                    .unwrap(),
            ]
        };
        assert!(check_role(&authorizers, &user("alice"), &at, &rules("pods")).is_ok());
        let error = check_role(&authorizers, &user("alice"), &at, &rules("secrets")).unwrap_err();
        assert_eq!(
            error.message,
            "roles.rbac.authorization.k8s.io \"e\" is forbidden: user \"alice\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC \
             permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
        );
    }

    #[test]
    fn bindings_need_the_rules_or_the_verb() {
        let authorizers = authorizers();
        let at = Place { plural: "rolebindings", namespace: "n", name: "e" };
        let role = |name: &str| RoleRef {
            api_group: Some(GROUP.to_owned()),
            kind: if name == "local" { "Role" } else { "ClusterRole" }.to_owned(),
            name: name.to_owned(),
        };
        let table = [
            ("alice", "local", 0),
            ("bob", "local", 403),
            ("alice", "writer", 0),
            ("alice", "all", 403),
            ("bob", "all", 0),
            ("bob", "writer", 403),
            ("alice", "none", 404),
        ];
        for (name, bound, code) in table {
            let answer = check_binding(&authorizers, &user(name), &at, &role(bound));
            assert_eq!(answer.map_or_else(|error| error.code, |()| 0), code, "{name} binds {bound}");
        }
    }
}
