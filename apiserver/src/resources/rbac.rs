//! Role, ClusterRole, RoleBinding, ClusterRoleBinding: who may do what.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use api::selector::LabelSelector;
use k8s_openapi::api::rbac::v1::{
    ClusterRole as ClusterRoleObject, ClusterRoleBinding as ClusterRoleBindingObject, PolicyRule,
};
use k8s_openapi::api::rbac::v1::{Role as RoleObject, RoleBinding as RoleBindingObject, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::printing::{self, AGE, NAME};
use super::{Column, Columns, Kind, MetadataCheck, checks, name_or_prefix};

/// Rules for one namespace.
pub struct Role;
/// Rules for all namespaces, cluster-scoped kinds and plain paths.
pub struct ClusterRole;
/// Gives a role to subjects in one namespace.
pub struct RoleBinding;
/// Gives a cluster role to subjects everywhere.
pub struct ClusterRoleBinding;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Upstream looks at a changed object as at a new one, and once more as part of the change.
const ON_UPDATE: &[MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Whole, MetadataCheck::Change];

impl Kind for Role {
    type Object = RoleObject;
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = ON_UPDATE;

    fn validate(object: &RoleObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules(&mut errors, object.rules.as_deref().unwrap_or_default(), true);
        errors
    }

    fn validate_update(new: &RoleObject, _old: &RoleObject) -> FieldErrors {
        twice(Self::validate(new))
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::path_segment, name, prefix)
    }

    fn columns() -> Columns<RoleObject> {
        printing::name_and_created()
    }
}

impl Kind for ClusterRole {
    type Object = ClusterRoleObject;
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = ON_UPDATE;

    fn validate(object: &ClusterRoleObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        rules(&mut errors, object.rules.as_deref().unwrap_or_default(), false);
        if let Some(aggregation) = &object.aggregation_rule {
            let path = FieldPath::root("aggregationRule").child("clusterRoleSelectors");
            let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
            if selectors.is_empty() {
                errors.push(FieldError::required(
                    &path,
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                ));
            }
            for (i, selector) in selectors.iter().enumerate() {
                let path = path.index(i);
                checks::label_selector(&mut errors, &path, Some(selector));
                if LabelSelector::from_meta(selector).is_err() {
                    errors.push(FieldError::invalid(&path, Value::Null, "invalid label selector."));
                }
            }
        }
        errors
    }

    fn validate_update(new: &ClusterRoleObject, _old: &ClusterRoleObject) -> FieldErrors {
        twice(Self::validate(new))
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::path_segment, name, prefix)
    }

    fn columns() -> Columns<ClusterRoleObject> {
        printing::name_and_created()
    }
}

impl Kind for RoleBinding {
    type Object = RoleBindingObject;
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = ON_UPDATE;

    fn set_defaults(object: &mut RoleBindingObject) {
        binding_defaults(&mut object.role_ref, &mut object.subjects);
    }

    fn validate(object: &RoleBindingObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        role_ref(&mut errors, &object.role_ref, &["Role", "ClusterRole"]);
        subjects(&mut errors, object.subjects.as_deref().unwrap_or_default(), true);
        errors
    }

    fn validate_update(new: &RoleBindingObject, old: &RoleBindingObject) -> FieldErrors {
        let mut errors = twice(Self::validate(new));
        same_role(&mut errors, &new.role_ref, &old.role_ref);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::path_segment, name, prefix)
    }

    fn columns() -> Columns<RoleBindingObject> {
        let cells = |object: &RoleBindingObject, now| {
            binding_cells(&object.metadata, &object.role_ref, object.subjects.as_deref(), now)
        };
        Columns { columns: binding_columns(), cells }
    }
}

impl Kind for ClusterRoleBinding {
    type Object = ClusterRoleBindingObject;
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = ON_UPDATE;

    fn set_defaults(object: &mut ClusterRoleBindingObject) {
        binding_defaults(&mut object.role_ref, &mut object.subjects);
    }

    fn validate(object: &ClusterRoleBindingObject) -> FieldErrors {
        let mut errors = FieldErrors::new();
        role_ref(&mut errors, &object.role_ref, &["ClusterRole"]);
        subjects(&mut errors, object.subjects.as_deref().unwrap_or_default(), false);
        errors
    }

    fn validate_update(new: &ClusterRoleBindingObject, old: &ClusterRoleBindingObject) -> FieldErrors {
        let mut errors = twice(Self::validate(new));
        same_role(&mut errors, &new.role_ref, &old.role_ref);
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::path_segment, name, prefix)
    }

    fn columns() -> Columns<ClusterRoleBindingObject> {
        let cells = |object: &ClusterRoleBindingObject, now| {
            binding_cells(&object.metadata, &object.role_ref, object.subjects.as_deref(), now)
        };
        Columns { columns: binding_columns(), cells }
    }
}

/// See [`ON_UPDATE`]: what is wrong is told twice.
fn twice(errors: FieldErrors) -> FieldErrors {
    let mut all = errors.clone();
    all.extend(errors);
    all
}

fn rules(errors: &mut FieldErrors, rules: &[PolicyRule], namespaced: bool) {
    for (i, rule) in rules.iter().enumerate() {
        let path = FieldPath::root("rules").index(i);
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if !empty(&rule.non_resource_urls) {
            let path = path.child("nonResourceURLs");
            if namespaced {
                errors.push(FieldError::invalid(
                    &path,
                    &rule.non_resource_urls,
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !(empty(&rule.api_groups) && empty(&rule.resources) && empty(&rule.resource_names)) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&path, &rule.non_resource_urls, detail));
            }
            continue;
        }
        if empty(&rule.api_groups) {
            errors.push(FieldError::required(
                &path.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty(&rule.resources) {
            errors.push(FieldError::required(
                &path.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

fn binding_defaults(role: &mut RoleRef, subjects: &mut Option<Vec<Subject>>) {
    let unset = |group: &Option<String>| group.as_deref().unwrap_or_default().is_empty();
    if unset(&role.api_group) {
        role.api_group = Some(GROUP.to_owned());
    }
    for subject in subjects.iter_mut().flatten() {
        if unset(&subject.api_group) && ["User", "Group"].contains(&subject.kind.as_str()) {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn role_ref(errors: &mut FieldErrors, role: &RoleRef, kinds: &[&str]) {
    let path = FieldPath::root("roleRef");
    checks::one_of(errors, &path.child("apiGroup"), role.api_group.as_deref().unwrap_or_default(), &[GROUP]);
    checks::one_of(errors, &path.child("kind"), &role.kind, kinds);
    if role.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        errors.push_invalid(&path.child("name"), &role.name, names::path_segment(&role.name));
    }
}

fn same_role(errors: &mut FieldErrors, new: &RoleRef, old: &RoleRef) {
    if new != old {
        let shown =
            json!({"APIGroup": new.api_group.as_deref().unwrap_or_default(), "Kind": new.kind, "Name": new.name});
        errors.push(FieldError::invalid(&FieldPath::root("roleRef"), shown, "cannot change roleRef"));
    }
}

fn subjects(errors: &mut FieldErrors, subjects: &[Subject], namespaced: bool) {
    for (i, subject) in subjects.iter().enumerate() {
        let path = FieldPath::root("subjects").index(i);
        let group = subject.api_group.as_deref().unwrap_or_default();
        checks::required(errors, &path.child("name"), &subject.name);
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    errors.push_invalid(&path.child("name"), &subject.name, names::is_dns1123_subdomain(&subject.name));
                }
                checks::one_of(errors, &path.child("apiGroup"), group, &[""]);
                if !namespaced {
                    checks::required(
                        errors,
                        &path.child("namespace"),
                        subject.namespace.as_deref().unwrap_or_default(),
                    );
                }
            }
            "User" | "Group" => checks::one_of(errors, &path.child("apiGroup"), group, &[GROUP]),
            other => checks::one_of(errors, &path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn binding_columns() -> Vec<Column> {
    vec![
        NAME,
        printing::text(
            "Role",
            "RoleRef can only reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
        ),
        AGE,
        printing::wide("Users", "Users in the roleBinding"),
        printing::wide("Groups", "Groups in the roleBinding"),
        printing::wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
    ]
}

fn binding_cells(meta: &ObjectMeta, role: &RoleRef, subjects: Option<&[Subject]>, now: Timestamp) -> Vec<Value> {
    let named = |kind: &str| {
        let found = subjects.unwrap_or_default().iter().filter(|subject| subject.kind == kind);
        let shown = found.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", subject.namespace.as_deref().unwrap_or_default(), subject.name),
            _ => subject.name.clone(),
        });
        Value::from(shown.collect::<Vec<_>>().join(", "))
    };
    vec![
        printing::name(meta),
        Value::from(format!("{}/{}", role.kind, role.name)),
        printing::age(meta, now),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let table = [
            (
                json!({"apiGroups": [""], "resources": ["pods"]}),
                "rules[0].verbs: Required value: verbs must contain at least one value",
            ),
            (
                json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ),
            (
                json!({"resources": ["pods"], "verbs": ["get"]}),
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            ),
        ];
        for (rule, message) in table {
            let object: RoleObject = serde_json::from_value(json!({"rules": [rule]})).expect("a role");
            assert_eq!(Role::validate(&object).to_string(), message);
        }
        assert_eq!(Role::validate_name("a/b", false), ["may not contain '/'"]);
        assert!(Role::validate_name("my:role", false).is_empty());
    }

    #[test]
    fn bindings() {
        let binding = |value: Value| {
            let mut object: RoleBindingObject = serde_json::from_value(value).expect("a binding");
            RoleBinding::set_defaults(&mut object);
            object
        };
        let table = [
            (
                json!({"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "User"}]}),
                "subjects[0].name: Required value",
            ),
            (
                json!({"roleRef": {"kind": "Rule", "name": "a"}}),
                "roleRef.kind: Unsupported value: \"Rule\": supported values: \"Role\", \"ClusterRole\"",
            ),
            (
                json!({"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "ServiceAccount", "name": "d"}]}),
                "[]",
            ),
        ];
        for (value, message) in table {
            assert_eq!(RoleBinding::validate(&binding(value)).to_string(), message);
        }
        let old = binding(json!({"metadata": {"name": "a"}, "roleRef": {"kind": "Role", "name": "a"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "default", "namespace": "ns"}]}));
        let new = binding(json!({"roleRef": {"kind": "Role", "name": "b"}}));
        let message = "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"b\"}: cannot change roleRef";
        assert_eq!(RoleBinding::validate_update(&new, &old).to_string(), message);
        let row = (RoleBinding::columns().cells)(&old, Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["a", "Role/a", "<unknown>", "u", "", "ns/default"]);
    }
}
