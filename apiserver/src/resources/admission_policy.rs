//! What validating and mutating admission policies and their bindings have in common: defaults, checks and cells.
//!
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, RuleWithOperations, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::printing::{self, AGE, NAME};
use super::{Column, checks, match_conditions, webhook_configuration};
use crate::admission::expressions::{self, Composition, Scope};

/// Fills in what upstream fills in of a failure policy.
pub fn default_failure_policy(policy: &mut Option<String>) {
    policy.get_or_insert_with(|| "Fail".to_owned());
}

/// Fills in what upstream fills in of match constraints.
pub fn default_match_resources(resources: &mut Option<MatchResources>) {
    let Some(resources) = resources else { return };
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let excluded = resources.exclude_resource_rules.iter_mut().flatten();
    for rule in resources.resource_rules.iter_mut().flatten().chain(excluded) {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
}

/// A rule without the names of objects.
pub fn plain(rule: &NamedRuleWithOperations) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    }
}

pub(super) fn failure_policy(errors: &mut FieldErrors, path: &FieldPath, policy: Option<&str>) {
    given_one_of(errors, path, policy, &["Fail", "Ignore"]);
}

/// An empty text is given, but not supported.
fn given_one_of(errors: &mut FieldErrors, path: &FieldPath, value: Option<&str>, supported: &[&str]) {
    match value {
        None => errors.push(FieldError::required(path, "")),
        Some(value) => checks::one_of(errors, path, value, supported),
    }
}

pub(super) fn param_kind(errors: &mut FieldErrors, path: &FieldPath, of: Option<&ParamKind>) {
    let Some(of) = of else { return };
    let at = path.child("apiVersion");
    let version = of.api_version.as_deref().unwrap_or_default();
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(FieldError::required(&at, "")),
        ["", ""] | [_, ""] => errors.push(FieldError::invalid(&at, version, "version must be specified")),
        [version] => joined(errors, &at, version, &names::is_dns1035_label(version), ""),
        [group, version] => {
            if !group.is_empty() {
                joined(errors, &at, group, &names::is_dns1123_subdomain(group), "");
            }
            joined(errors, &at, version, &names::is_dns1035_label(version), "");
        }
        _ => errors.push(FieldError::invalid(&at, version, format!("unexpected GroupVersion string: {version}"))),
    }
    let (at, kind) = (path.child("kind"), of.kind.as_deref().unwrap_or_default());
    if kind.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        let wrong = names::is_dns1035_label(&kind.to_lowercase());
        joined(errors, &at, kind, &wrong, "may have mixed case, but should otherwise match: ");
    }
}

fn joined(errors: &mut FieldErrors, path: &FieldPath, value: &str, wrong: &[String], lead: &str) {
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, value, format!("{lead}{}", wrong.join(","))));
    }
}

/// Match constraints of a policy, which has to have some.
pub(super) fn match_constraints(errors: &mut FieldErrors, path: &FieldPath, resources: Option<&MatchResources>) {
    if resources.is_none() {
        errors.push(FieldError::required(path, ""));
    }
    match_resources(errors, path, resources);
    if resources.is_some_and(|resources| resources.resource_rules.iter().flatten().next().is_none()) {
        errors.push(FieldError::required(&path.child("resourceRules"), ""));
    }
}

pub(super) fn match_resources(errors: &mut FieldErrors, path: &FieldPath, resources: Option<&MatchResources>) {
    let Some(resources) = resources else { return };
    given_one_of(errors, &path.child("matchPolicy"), resources.match_policy.as_deref(), &["Equivalent", "Exact"]);
    for (name, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        if selector.is_none() {
            errors.push(FieldError::required(&path.child(name), ""));
        }
        checks::label_selector(errors, &path.child(name), selector.as_ref());
    }
    let lists =
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)];
    for (name, rules) in lists {
        for (i, rule) in rules.iter().flatten().enumerate() {
            named_rule(errors, &path.child(name).index(i), rule);
        }
    }
}

fn named_rule(errors: &mut FieldErrors, path: &FieldPath, rule: &NamedRuleWithOperations) {
    let all = rule.resource_names.as_deref().unwrap_or_default();
    for (i, name) in all.iter().enumerate() {
        let at = path.child("resourceNames").index(i);
        errors.push_invalid(&at, name, names::path_segment(name));
        if all[..i].contains(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
    webhook_configuration::rule(errors, path, &plain(rule));
}

/// Only what can be mutated.
pub(super) fn mutable_operations(errors: &mut FieldErrors, path: &FieldPath, resources: Option<&MatchResources>) {
    let path = path.child("resourceRules").child("operations");
    let rules = resources.into_iter().flat_map(|resources| resources.resource_rules.iter().flatten());
    for operation in rules.flat_map(|rule| rule.operations.iter().flatten()) {
        checks::one_of(errors, &path, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
    }
}

pub(super) fn conditions(errors: &mut FieldErrors, path: &FieldPath, of: Option<&[MatchCondition]>, params: bool) {
    let compile = |expression: &str| expressions::wrong_condition(expression, params);
    match_conditions::validate(errors, path, of.unwrap_or_default(), compile);
}

/// The variables of a policy, checked; what follows may use them.
pub(super) fn variables(
    errors: &mut FieldErrors,
    path: &FieldPath,
    of: Option<&[Variable]>,
    scope: Scope,
) -> Composition {
    let mut composition = Composition::default();
    for (i, variable) in of.unwrap_or_default().iter().enumerate() {
        let (path, name) = (path.index(i), variable.name.as_str());
        if name.trim().is_empty() {
            errors.push(FieldError::required(&path.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, "name is not a valid CEL identifier"));
        }
        let (at, expression) = (path.child("expression"), &variable.expression);
        if expression.trim().is_empty() {
            errors.push(FieldError::required(&at, "expression is not specified"));
        } else if let Err(why) = composition.add(name, expression, scope) {
            errors.push(FieldError::invalid(&at, expression, why));
        }
    }
    composition
}

/// Whether expressions can write this as a name: a name that is escaped is none.
fn is_identifier(name: &str) -> bool {
    let plain = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    let reserved = crate::cel::escape(name).is_some_and(|escaped| escaped == format!("__{name}__"));
    plain && !name.starts_with(|first: char| first.is_ascii_digit()) && !reserved
}

pub(super) fn policy_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    checks::required(errors, path, name);
    if !name.is_empty() {
        errors.push_invalid(path, name, names::is_dns1123_subdomain(name));
    }
}

pub(super) fn param_ref(errors: &mut FieldErrors, path: &FieldPath, of: Option<&ParamRef>) {
    let Some(of) = of else { return };
    let name = of.name.as_deref().unwrap_or_default();
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        errors.push_invalid(&path.child("name"), name, names::path_segment(name));
        if of.selector.is_some() {
            errors.push(FieldError::forbidden(&path.child("name"), exclusive));
        }
    }
    checks::label_selector(errors, &path.child("selector"), of.selector.as_ref());
    match (name.is_empty(), &of.selector) {
        (false, Some(_)) => errors.push(FieldError::forbidden(&path.child("selector"), exclusive)),
        (true, None) => errors.push(FieldError::required(path, "one of name or selector must be specified")),
        _ => {}
    }
    let action = of.parameter_not_found_action.as_deref().unwrap_or_default();
    checks::required_one_of(errors, &path.child("parameterNotFoundAction"), action, &["Deny", "Allow"]);
}

/// The columns of a policy; `count` counts what it does.
pub(super) fn policy_columns(count: Column) -> Vec<Column> {
    let kind = "ParamKind specifies the kind of resources used to parameterize this policy";
    vec![NAME, count, printing::text("ParamKind", kind), AGE]
}

pub(super) fn binding_columns() -> Vec<Column> {
    let policy = "PolicyName indicates the policy definition which the policy binding binded to";
    let param = "ParamRef indicates the param resource which sets the configration param";
    vec![NAME, printing::text("PolicyName", policy), printing::text("ParamRef", param), AGE]
}

pub(super) fn shown_kind(kind: Option<&ParamKind>) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    kind.map_or_else(|| "<unset>".to_owned(), |kind| format!("{}/{}", text(&kind.api_version), text(&kind.kind)))
}

pub(super) fn shown_ref(of: Option<&ParamRef>) -> String {
    let Some(of) = of else { return "<unset>".to_owned() };
    let name = of.name.as_deref().unwrap_or_default();
    let namespace = of.namespace.as_deref().unwrap_or_default();
    match (name, namespace, &of.selector) {
        ("", _, Some(selector)) => shown_selector(selector),
        ("", _, None) => "<unset>".to_owned(),
        (name, "", _) => name.to_owned(),
        (name, namespace, _) => format!("{namespace}/{name}"),
    }
}

/// As Go prints the message type.
fn shown_selector(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default().join(" ");
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
            expression.key, expression.operator
        )
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}
