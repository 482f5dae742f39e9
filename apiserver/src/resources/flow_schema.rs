//! FlowSchema: which requests form a flow, and which priority level answers them.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema as Object, FlowSchemaSpec, FlowSchemaStatus, NonResourcePolicyRule, PolicyRulesWithSubjects,
    ResourcePolicyRule, ServiceAccountSubject, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};
use crate::flow_control::objects;

/// See the module.
pub struct FlowSchema;

/// The precedence of a schema that names none.
const DEFAULT_PRECEDENCE: i32 = 1000;
const LAST_PRECEDENCE: i32 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// What main writes and status writes of the kinds of flow control leave alone.
pub(super) const RESET_FIELDS: [&[&str]; 2] = [&["status"], &["metadata", "spec"]];

impl Kind for FlowSchema {
    type Object = Object;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        if spec.matching_precedence.unwrap_or_default() == 0 {
            spec.matching_precedence = Some(DEFAULT_PRECEDENCE);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(FlowSchemaStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        keep_metadata(&mut new.metadata, &old.metadata);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let spec = object.spec.clone().unwrap_or_default();
        check_spec(&mut errors, &path, &spec, name);
        check_mandatory(&mut errors, &path, &spec, name);
        check_conditions(&mut errors, object);
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        check_conditions(&mut errors, new);
        errors
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        RESET_FIELDS[usize::from(subresource.is_some())]
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("PriorityLevel", "The priority level that answers the requests."),
            printing::text("MatchingPrecedence", "Among schemas that match, the one with the lowest number counts."),
            printing::text("DistinguisherMethod", "What tells the flows of the schema apart."),
            AGE,
            printing::text("MissingPL", "Whether the priority level is missing or broken."),
        ];
        let cells = |object: &Object, now| {
            let spec = object.spec.clone().unwrap_or_default();
            let method = spec.distinguisher_method.map_or_else(|| "<none>".to_owned(), |method| method.type_);
            vec![
                printing::name(&object.metadata),
                Value::from(spec.priority_level_configuration.name),
                Value::from(spec.matching_precedence.unwrap_or_default()),
                Value::from(method),
                printing::age(&object.metadata, now),
                Value::from(dangling(object)),
            ]
        };
        Columns { columns, cells }
    }

    fn table_rank(object: &Object) -> i64 {
        object.spec.as_ref().and_then(|spec| spec.matching_precedence).unwrap_or_default().into()
    }
}

fn dangling(object: &Object) -> String {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition.type_.as_deref() == Some("Dangling"));
    found.map_or_else(|| "?".to_owned(), |condition| condition.status.clone().unwrap_or_default())
}

/// A status write changes no metadata but who owns what.
pub(super) fn keep_metadata(new: &mut ObjectMeta, old: &ObjectMeta) {
    let (managed, version) = (new.managed_fields.take(), new.resource_version.take());
    *new = ObjectMeta { managed_fields: managed, resource_version: version, ..old.clone() };
}

fn check_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &FlowSchemaSpec, name: &str) {
    let precedence = spec.matching_precedence.unwrap_or_default();
    let mut wrong = |detail: String| {
        errors.push(FieldError::invalid(&path.child("matchingPrecedence"), precedence, detail));
    };
    if precedence <= 0 {
        wrong("must be a positive value".to_owned());
    }
    if precedence > LAST_PRECEDENCE {
        wrong(format!("must not be greater than {LAST_PRECEDENCE}"));
    }
    if precedence == 1 && name != objects::EXEMPT {
        wrong("only the schema named 'exempt' may have matchingPrecedence 1".to_owned());
    }
    if let Some(method) = spec.distinguisher_method.as_ref().map(|method| &method.type_)
        && !["ByNamespace", "ByUser"].contains(&method.as_str())
    {
        let path = path.child("distinguisherMethod").child("type");
        errors.push(checks::unsupported(&path, json!({"Type": method}), &["ByNamespace", "ByUser"]));
    }
    let level = &spec.priority_level_configuration.name;
    let level_path = path.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        errors.push(FieldError::required(&level_path, "must reference a priority level"));
    } else {
        errors.push_invalid(&level_path, level, names::is_dns1123_subdomain(level));
    }
    for (i, rule) in spec.rules.iter().flatten().enumerate() {
        check_rules(errors, &path.child("rules").index(i), rule);
    }
}

fn check_rules(errors: &mut FieldErrors, path: &FieldPath, rules: &PolicyRulesWithSubjects) {
    if rules.subjects.is_empty() {
        errors.push(FieldError::required(&path.child("subjects"), "subjects must contain at least one value"));
    }
    for (i, subject) in rules.subjects.iter().enumerate() {
        check_subject(errors, &path.child("subjects").index(i), subject);
    }
    let resource = rules.resource_rules.as_deref().unwrap_or_default();
    let plain = rules.non_resource_rules.as_deref().unwrap_or_default();
    if resource.is_empty() && plain.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, detail));
    }
    for (i, rule) in resource.iter().enumerate() {
        check_resource_rule(errors, &path.child("resourceRules").index(i), rule);
    }
    for (i, rule) in plain.iter().enumerate() {
        check_plain_rule(errors, &path.child("nonResourceRules").index(i), rule);
    }
}

fn check_subject(errors: &mut FieldErrors, path: &FieldPath, subject: &Subject) {
    let forbidden = [
        ("serviceAccount", "ServiceAccount", subject.service_account.is_some()),
        ("user", "User", subject.user.is_some()),
        ("group", "Group", subject.group.is_some()),
    ];
    match subject.kind.as_str() {
        "ServiceAccount" => check_account(errors, &path.child("serviceAccount"), subject.service_account.as_ref()),
        "User" => check_named(errors, path, "user", "User", subject.user.as_ref().map(|user| &user.name)),
        "Group" => check_named(errors, path, "group", "Group", subject.group.as_ref().map(|group| &group.name)),
        other => {
            errors.push(checks::unsupported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"]));
            return;
        }
    }
    for (field, kind, given) in forbidden {
        if given && kind != subject.kind {
            let detail = format!("{field} is forbidden when subject kind is not '{kind}'");
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

fn check_named(errors: &mut FieldErrors, path: &FieldPath, field: &str, kind: &str, name: Option<&String>) {
    let path = path.child(field);
    match name {
        None => errors.push(FieldError::required(&path, format!("{field} is required when subject kind is '{kind}'"))),
        Some(name) => checks::required(errors, &path.child("name"), name),
    }
}

fn check_account(errors: &mut FieldErrors, path: &FieldPath, account: Option<&ServiceAccountSubject>) {
    let Some(account) = account else {
        let detail = "serviceAccount is required when subject kind is 'ServiceAccount'";
        errors.push(FieldError::required(path, detail));
        return;
    };
    if account.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else if account.name != "*" {
        errors.push_invalid(&path.child("name"), &account.name, names::is_dns1123_subdomain(&account.name));
    }
    let namespace = &account.namespace;
    if namespace.is_empty() {
        let detail = "must specify namespace for service account";
        errors.push(FieldError::required(&path.child("namespace"), detail));
    } else {
        errors.push_invalid(&path.child("namespace"), namespace, names::is_dns1123_label(namespace));
    }
}

fn check_verbs(errors: &mut FieldErrors, path: &FieldPath, verbs: &[String]) {
    let path = path.child("verbs");
    if verbs.is_empty() {
        errors.push(FieldError::required(&path, "verbs must contain at least one value"));
    } else if has_wildcard(verbs) {
        alone(errors, &path, verbs, "verbs");
    } else if !verbs.iter().all(|verb| VERBS.contains(&verb.as_str())) {
        errors.push(checks::unsupported(&path, verbs, &VERBS));
    }
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|item| item == "*")
}

/// `*` stands alone.
fn alone(errors: &mut FieldErrors, path: &FieldPath, list: &[String], what: &str) {
    if list.len() > 1 && has_wildcard(list) {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path, list, detail));
    }
}

fn check_resource_rule(errors: &mut FieldErrors, path: &FieldPath, rule: &ResourcePolicyRule) {
    check_verbs(errors, path, &rule.verbs);
    let lists = [
        ("apiGroups", &rule.api_groups, "api group", "api groups"),
        ("resources", &rule.resources, "resource", "resources"),
    ];
    for (field, list, one, many) in lists {
        let path = path.child(field);
        if list.is_empty() {
            errors.push(FieldError::required(&path, format!("resource rules must supply at least one {one}")));
        }
        alone(errors, &path, list, many);
    }
    let path = path.child("namespaces");
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(FieldError::required(&path, detail));
    } else if has_wildcard(namespaces) {
        alone(errors, &path, namespaces, "namespaces");
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            let explained = |message| format!("each member of this list must be '*' or a DNS-1123 label; {message}");
            let messages = names::is_dns1123_label(namespace).into_iter().map(explained).collect();
            errors.push_invalid(&path.index(i), namespace, messages);
        }
    }
}

fn check_plain_rule(errors: &mut FieldErrors, path: &FieldPath, rule: &NonResourcePolicyRule) {
    check_verbs(errors, path, &rule.verbs);
    let path = path.child("nonResourceURLs");
    let urls = &rule.non_resource_urls;
    if urls.is_empty() {
        errors.push(FieldError::required(&path, "nonResourceURLs must contain at least one value"));
    } else if has_wildcard(urls) {
        alone(errors, &path, urls, "non-resource URLs");
    } else {
        for (i, url) in urls.iter().enumerate() {
            if let Some(detail) = url_problem(url) {
                errors.push(FieldError::invalid(&path.index(i), url, detail));
            }
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

fn check_mandatory(errors: &mut FieldErrors, path: &FieldPath, spec: &FlowSchemaSpec, name: &str) {
    let schemas = objects::schemas().into_iter().filter(|schema| schema.mandatory).map(|schema| schema.object);
    let Some(fixed) = schemas.into_iter().find(|schema| schema.metadata.name.as_deref() == Some(name)) else { return };
    if *spec != fixed.spec.unwrap_or_default() {
        let detail = format!("{}: spec of '{name}' must equal the fixed value", internal_form(spec));
        errors.push(FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail });
    }
}

/// Upstream shows its internal struct, in its own order of fields.
fn internal_form(spec: &FlowSchemaSpec) -> String {
    let method = spec.distinguisher_method.as_ref().map(|method| json!({"Type": method.type_}));
    let rules = spec.rules.as_ref().map(|rules| {
        let rules: Vec<String> = rules.iter().map(internal_rules).collect();
        format!("[{}]", rules.join(","))
    });
    format!(
        "{{\"PriorityLevelConfiguration\":{},\"MatchingPrecedence\":{},\"DistinguisherMethod\":{},\"Rules\":{}}}",
        json!({"Name": spec.priority_level_configuration.name}),
        spec.matching_precedence.unwrap_or_default(),
        json!(method),
        rules.unwrap_or_else(|| "null".to_owned())
    )
}

fn internal_rules(rules: &PolicyRulesWithSubjects) -> String {
    let subjects: Vec<String> = rules.subjects.iter().map(internal_subject).collect();
    let resource = rules.resource_rules.as_ref().map(|rules| {
        let rules = rules.iter().map(|rule| {
            format!(
                "{{\"Verbs\":{},\"APIGroups\":{},\"Resources\":{},\"ClusterScope\":{},\"Namespaces\":{}}}",
                json!(rule.verbs),
                json!(rule.api_groups),
                json!(rule.resources),
                rule.cluster_scope.unwrap_or_default(),
                json!(rule.namespaces)
            )
        });
        format!("[{}]", rules.collect::<Vec<_>>().join(","))
    });
    let plain = rules.non_resource_rules.as_ref().map(|rules| {
        let rules = rules.iter().map(|rule| {
            format!("{{\"Verbs\":{},\"NonResourceURLs\":{}}}", json!(rule.verbs), json!(rule.non_resource_urls))
        });
        format!("[{}]", rules.collect::<Vec<_>>().join(","))
    });
    let null = || "null".to_owned();
    format!(
        "{{\"Subjects\":[{}],\"ResourceRules\":{},\"NonResourceRules\":{}}}",
        subjects.join(","),
        resource.unwrap_or_else(null),
        plain.unwrap_or_else(null)
    )
}

fn internal_subject(subject: &Subject) -> String {
    let account = subject
        .service_account
        .as_ref()
        .map(|account| format!("{{\"Namespace\":{},\"Name\":{}}}", json!(account.namespace), json!(account.name)));
    format!(
        "{{\"Kind\":{},\"User\":{},\"Group\":{},\"ServiceAccount\":{}}}",
        json!(subject.kind),
        json!(subject.user.as_ref().map(|user| json!({"Name": user.name}))),
        json!(subject.group.as_ref().map(|group| json!({"Name": group.name}))),
        account.unwrap_or_else(|| "null".to_owned())
    )
}

fn check_conditions(errors: &mut FieldErrors, object: &Object) {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    check_condition_types(errors, conditions.iter().map(|condition| condition.type_.as_deref().unwrap_or_default()));
}

/// Conditions have types, each another one.
pub(super) fn check_condition_types<'a>(errors: &mut FieldErrors, types: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for (i, ty) in types.enumerate() {
        let path = FieldPath::root("status").child("conditions").index(i).child("type");
        if !seen.insert(ty) {
            errors.push(FieldError::duplicate(&path, ty));
        }
        if ty.is_empty() {
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, spec: Value) -> String {
        let value = json!({"metadata": {"name": name}, "spec": spec});
        let mut object: Object = serde_json::from_value(value).expect("a schema");
        FlowSchema::set_defaults(&mut object);
        FlowSchema::validate(&object).to_string()
    }

    fn rule(rule: Value) -> Value {
        json!({"priorityLevelConfiguration": {"name": "exempt"}, "rules": [rule]})
    }

    #[test]
    fn what_is_refused() {
        let level = json!({"name": "exempt"});
        let all = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        let table = [
            (json!({"priorityLevelConfiguration": level, "matchingPrecedence": 0}), "[]"),
            (
                json!({"priorityLevelConfiguration": level, "matchingPrecedence": -1}),
                "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
            ),
            (
                json!({"priorityLevelConfiguration": level, "matchingPrecedence": 1}),
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            (
                json!({"priorityLevelConfiguration": level, "distinguisherMethod": {"type": "ByMoon"}}),
                "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"ByMoon\"}: supported values: \"ByNamespace\", \"ByUser\"",
            ),
            (
                rule(json!({})),
                "[spec.rules[0].subjects: Required value: subjects must contain at least one value, spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty]",
            ),
            (
                rule(json!({"subjects": [{"kind": "User", "group": {"name": "g"}}], "nonResourceRules": all})),
                "[spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User', spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group']",
            ),
            (
                rule(json!({"subjects": [{"kind": "Group", "group": {"name": "g"}, "user": {"name": "u"},
                    "serviceAccount": {"name": "s", "namespace": "n"}}], "nonResourceRules": all})),
                "[spec.rules[0].subjects[0].serviceAccount: Forbidden: serviceAccount is forbidden when subject kind is not 'ServiceAccount', spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User']",
            ),
            (
                rule(
                    json!({"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}, {"kind": "Dog"}], "nonResourceRules": all}),
                ),
                "[spec.rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account, spec.rules[0].subjects[1].kind: Unsupported value: \"Dog\": supported values: \"Group\", \"ServiceAccount\", \"User\"]",
            ),
            (
                rule(json!({"subjects": [{"kind": "Group", "group": {"name": "g"}}],
                    "resourceRules": [{"verbs": ["bark"], "apiGroups": ["*", "a"], "resources": [], "namespaces": ["-x"]}]})),
                "[spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"bark\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\", spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups, spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource, spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"-x\": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')]",
            ),
        ];
        for (spec, message) in table {
            assert_eq!(found("a", spec.clone()), message, "{spec}");
        }
        let message = found("exempt", json!({"priorityLevelConfiguration": level, "matchingPrecedence": 1}));
        assert_eq!(
            message,
            "spec: Invalid value: {\"PriorityLevelConfiguration\":{\"Name\":\"exempt\"},\"MatchingPrecedence\":1,\"DistinguisherMethod\":null,\"Rules\":null}: spec of 'exempt' must equal the fixed value"
        );
    }

    #[test]
    fn paths_outside_of_resources() {
        let table = [
            ("", Some("must not be empty")),
            ("/", None),
            ("x", Some("must start with slash")),
            ("/a b", Some("must not contain white-space")),
            ("/a//b", Some("must not contain double slash")),
            ("/a*", Some("wildcard can only do suffix matching")),
            ("/a/*", None),
        ];
        for (url, problem) in table {
            assert_eq!(url_problem(url), problem, "{url:?}");
        }
    }

    #[test]
    fn the_servers_own_schemas_are_valid_and_refer_to_its_levels() {
        let levels: Vec<_> = objects::levels().into_iter().filter_map(|level| level.object.metadata.name).collect();
        for given in objects::schemas() {
            let mut object = given.object.clone();
            FlowSchema::set_defaults(&mut object);
            assert_eq!(object, given.object, "defaults add nothing");
            assert_eq!(FlowSchema::validate(&object).to_string(), "[]");
            assert!(levels.contains(&object.spec.unwrap_or_default().priority_level_configuration.name));
        }
    }
}
