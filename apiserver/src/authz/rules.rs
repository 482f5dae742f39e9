//! What a rule of a role allows ([`allows`]), and which rules other rules do not include ([`uncovered`]). Pure.

use std::collections::BTreeMap;

use api::field::go_quote;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Attributes, Target};

const ALL: &str = "*";

/// Whether the rule allows what is asked.
pub fn allows(rule: &PolicyRule, attributes: &Attributes) -> bool {
    if !has_or_all(&rule.verbs, &attributes.verb) {
        return false;
    }
    match &attributes.target {
        Target::Path(path) => list(&rule.non_resource_urls).iter().any(|pattern| path_matches(pattern, path)),
        Target::Resource { group, resource, subresource, name, .. } => {
            let names = list(&rule.resource_names);
            has_or_all(list(&rule.api_groups), group)
                && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, resource, subresource))
                && (names.is_empty() || names.contains(name))
        }
    }
}

/// The parts of `wanted` that no rule of `held` includes, one verb, group, resource and name in each, in order.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let parts = wanted.iter().flat_map(parts);
    parts.filter(|part| !held.iter().any(|rule| covers(rule, part))).collect()
}

/// Parts that differ in nothing but the verb as one rule each.
pub fn compact(parts: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut by_target: BTreeMap<_, PolicyRule> = BTreeMap::new();
    for part in parts {
        let target = (
            list(&part.api_groups).to_vec(),
            list(&part.resources).to_vec(),
            list(&part.resource_names).to_vec(),
            list(&part.non_resource_urls).to_vec(),
        );
        match by_target.get_mut(&target) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => {
                by_target.insert(target, part);
            }
        }
    }
    by_target.into_values().collect()
}

/// As upstream prints a rule: `{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}`.
pub fn describe(rule: &PolicyRule) -> String {
    let fields = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let fields = fields.into_iter().filter(|(_, values)| !values.is_empty());
    let fields: Vec<_> = fields.map(|(name, values)| format!("{name}:{}", quoted(values))).collect();
    format!("{{{}}}", fields.join(", "))
}

/// As Go prints a list of strings with `%q`.
pub fn quoted(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| go_quote(value)).collect();
    format!("[{}]", values.join(" "))
}

fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

fn has_or_all(values: &[String], value: &str) -> bool {
    values.iter().any(|candidate| candidate == ALL || candidate == value)
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == ALL {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    pattern.split_once('/').is_some_and(|(left, right)| right == subresource && (left == ALL || left == resource))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => pattern == path,
    }
}

fn parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut parts = Vec::new();
    let names: Vec<Option<Vec<String>>> = match list(&rule.resource_names) {
        [] => vec![None],
        names => names.iter().map(|name| Some(vec![name.clone()])).collect(),
    };
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                parts.extend(names.iter().map(|name| PolicyRule {
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: name.clone(),
                    verbs: vec![verb.clone()],
                    non_resource_urls: None,
                }));
            }
        }
    }
    for path in list(&rule.non_resource_urls) {
        for verb in &rule.verbs {
            let verbs = vec![verb.clone()];
            parts.push(PolicyRule { non_resource_urls: Some(vec![path.clone()]), verbs, ..PolicyRule::default() });
        }
    }
    parts
}

fn covers(held: &PolicyRule, part: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| wanted.iter().all(|value| has_or_all(held, value));
    let names = list(&held.resource_names);
    let resource = |wanted: &String| {
        let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
        list(&held.resources).iter().any(|pattern| resource_matches(pattern, resource, subresource))
    };
    let path = |wanted: &String| list(&held.non_resource_urls).iter().any(|pattern| path_matches(pattern, wanted));
    let name_covered =
        names.is_empty() || !list(&part.resource_names).is_empty() && all(names, list(&part.resource_names));
    all(&held.verbs, &part.verbs)
        && all(list(&held.api_groups), list(&part.api_groups))
        && list(&part.resources).iter().all(resource)
        && list(&part.non_resource_urls).iter().all(path)
        && name_covered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use serde_json::json;

    fn rule(value: serde_json::Value) -> PolicyRule {
        serde_json::from_value(value).expect("a rule")
    }

    #[test]
    fn what_a_rule_allows() {
        let pods = rule(json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}));
        let named =
            rule(json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}));
        let scale = rule(json!({"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["*"]}));
        let paths = rule(json!({"nonResourceURLs": ["/api/*", "/version"], "verbs": ["get"]}));
        let at = |resource: &str, subresource: &str, name: &str| Target::resource("", resource, subresource, "n", name);
        let path = |path: &str| Target::Path(path.to_owned());
        let table = [
            (&pods, "get", at("pods", "", "p"), true),
            (&pods, "get", at("pods", "log", "p"), true),
            (&pods, "get", at("pods", "exec", "p"), false),
            (&pods, "list", at("pods", "", ""), false),
            (&named, "get", at("configmaps", "", "a"), true),
            (&named, "get", at("configmaps", "", "b"), false),
            (&named, "get", at("configmaps", "", ""), false),
            (&scale, "update", at("deployments", "scale", "d"), true),
            (&scale, "update", at("deployments", "", "d"), false),
            (&paths, "get", path("/api/v1"), true),
            (&paths, "get", path("/api"), false),
            (&paths, "get", path("/version"), true),
            (&paths, "post", path("/version"), false),
        ];
        for (rule, verb, target, allowed) in table {
            let attributes = Attributes::new(&User::default(), verb, target);
            assert_eq!(allows(rule, &attributes), allowed, "{attributes:?} under {}", describe(rule));
        }
    }

    #[test]
    fn what_rules_do_not_cover() {
        let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]});
        let table = [
            (
                json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}),
                secrets.clone(),
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
            ),
            (
                json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]}),
                secrets.clone(),
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["list"]}"#,
            ),
            (json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}), secrets.clone(), ""),
            (
                json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"], "verbs": ["*"]}),
                secrets,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
            ),
            (
                json!({"nonResourceURLs": ["/a/*"], "verbs": ["get"]}),
                json!({"nonResourceURLs": ["/a/b", "/c"], "verbs": ["get"]}),
                r#"{NonResourceURLs:["/c"], Verbs:["get"]}"#,
            ),
        ];
        for (held, wanted, missing) in table {
            let missing_parts = compact(uncovered(&[rule(held)], &[rule(wanted)]));
            let described: Vec<_> = missing_parts.iter().map(describe).collect();
            assert_eq!(described.join("\n"), missing);
        }
    }
}
