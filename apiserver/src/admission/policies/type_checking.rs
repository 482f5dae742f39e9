//! Whether the expressions of a validating policy fit the types of the objects that it is about. Entry point: [`warnings`].
//!
//! Pure. A policy that does not fit works all the same: what is found is only told. Reference:
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ParamKind, ValidatingAdmissionPolicySpec as Spec,
};

use crate::admission::expressions::{self, Composition, Scope};
use crate::cel::{self, Environment, Shape, Type};
use crate::http::openapi;
use crate::resources::{Served, Strategy};

/// How many kinds one rule is checked against.
const MOST_KINDS: usize = 10;

/// What does not fit: the field of the policy, and what is wrong with it for which kind.
pub fn warnings(spec: &Spec, served: &Served) -> Vec<(String, String)> {
    let kinds = kinds(spec, served);
    let params = spec.param_kind.as_ref().and_then(|kind| param_type(kind, served));
    let environments: Vec<(String, Environment)> = kinds
        .into_iter()
        .map(|((group, version, kind), row)| {
            (format!("{group}/{version}, Kind={kind}"), environment(spec, &type_of(row.as_ref()), params.as_ref()))
        })
        .collect();
    let mut found = Vec::new();
    for (i, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().unwrap_or_default();
        for (name, expression) in [("expression", validation.expression.as_str()), ("messageExpression", message)] {
            let problems = environments.iter().filter(|_| !expression.is_empty()).filter_map(|(kind, environment)| {
                cel::compile(expression, environment).err().map(|why| format!("{kind}: {why}\n"))
            });
            let problems: Vec<String> = problems.collect();
            if !problems.is_empty() {
                found.push((format!("spec.validations[{i}].{name}"), problems.join("\n")));
            }
        }
    }
    found
}

/// The rows that the rules name, by group, version and kind; rules with wildcards name none.
fn kinds<'a>(spec: &Spec, served: &'a Served) -> BTreeMap<(&'a str, &'a str, &'a str), &'a Arc<dyn Strategy>> {
    let mut kinds = BTreeMap::new();
    let rules = spec.match_constraints.as_ref().and_then(|constraints| constraints.resource_rules.as_deref());
    for rule in rules.unwrap_or_default() {
        let mut count = 0;
        for (group, version, plural) in named(rule) {
            let row = served.rows().iter().find(|row| {
                let info = row.info();
                (info.group.as_str(), info.version.as_str(), info.plural.as_str()) == (group, version, plural)
            });
            let Some(row) = row else { continue };
            let info = row.info();
            kinds.insert((info.group.as_str(), info.version.as_str(), info.kind.as_str()), row);
            count += 1;
            if count == MOST_KINDS {
                return kinds;
            }
        }
    }
    kinds
}

/// Groups, versions and resources of a rule.
fn named(rule: &NamedRuleWithOperations) -> BTreeSet<(&str, &str, &str)> {
    if [&rule.api_groups, &rule.api_versions].into_iter().flatten().flatten().any(|text| text.contains('*')) {
        return BTreeSet::new();
    }
    let mut named = BTreeSet::new();
    for group in rule.api_groups.iter().flatten() {
        for version in rule.api_versions.iter().flatten() {
            for resource in rule.resources.iter().flatten().filter(|resource| !resource.contains(['*', '/'])) {
                named.insert((group.as_str(), version.as_str(), resource.as_str()));
            }
        }
    }
    named
}

fn type_of(row: &dyn Strategy) -> Type {
    Shape::of_schema(&openapi::schema_of(row), true).cel_type()
}

fn param_type(kind: &ParamKind, served: &Served) -> Option<Type> {
    let row = served.rows().iter().find(|row| {
        let info = row.info();
        Some(info.api_version()) == kind.api_version && Some(&info.kind) == kind.kind.as_ref()
    });
    row.map(|row| type_of(row.as_ref()))
}

/// The variables of a policy's expressions, with these types.
fn environment(spec: &Spec, object: &Type, params: Option<&Type>) -> Environment {
    let scope = Scope { params: false, authorizer: true, patches: false };
    let mut typed = expressions::environment(scope).with("object", object.clone()).with("oldObject", object.clone());
    if let Some(params) = params {
        typed = typed.with("params", params.clone());
    }
    let mut composition = Composition::default();
    for variable in spec.variables.iter().flatten() {
        // What does not compile is of any type.
        let _ = composition.add_within(&variable.name, &variable.expression, typed.clone());
    }
    composition.within(typed)
}
