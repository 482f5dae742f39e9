//! MutatingAdmissionPolicy and its binding: changes in CEL that are made to what is written.
//!
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>.

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy as Policy, MutatingAdmissionPolicyBinding as Binding, MutatingAdmissionPolicySpec as Spec,
    Mutation,
};
use serde_json::Value;

use super::{Columns, Kind, admission_policy as policy, checks, printing};
use crate::admission::expressions::{self, Composition, Scope};
use crate::cel::{Declared, Type};

/// See the module.
pub struct MutatingAdmissionPolicy;
/// See the module.
pub struct MutatingAdmissionPolicyBinding;

impl Kind for MutatingAdmissionPolicy {
    type Object = Policy;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Policy) {
        let spec = object.spec.get_or_insert_default();
        policy::default_failure_policy(&mut spec.failure_policy);
        policy::default_match_resources(&mut spec.match_constraints);
    }

    fn validate(object: &Policy) -> FieldErrors {
        validate(object, None)
    }

    fn validate_update(new: &Policy, old: &Policy) -> FieldErrors {
        validate(new, old.spec.as_ref())
    }

    fn columns() -> Columns<Policy> {
        let count = "Mutation indicates the number of mutations rules defined in this configuration";
        Columns {
            columns: policy::policy_columns(printing::integer("Mutations", count)),
            cells: |object, now| {
                let spec = object.spec.as_ref();
                let count = spec.and_then(|spec| spec.mutations.as_ref()).map_or(0, Vec::len);
                vec![
                    printing::name(&object.metadata),
                    Value::from(count),
                    policy::shown_kind(spec.and_then(|spec| spec.param_kind.as_ref())).into(),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

impl Kind for MutatingAdmissionPolicyBinding {
    type Object = Binding;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Binding) {
        policy::default_match_resources(&mut object.spec.get_or_insert_default().match_resources);
    }

    fn validate(object: &Binding) -> FieldErrors {
        let (mut errors, path) = (FieldErrors::new(), FieldPath::root("spec"));
        let spec = &object.spec.clone().unwrap_or_default();
        let name = spec.policy_name.as_deref().unwrap_or_default();
        policy::policy_name(&mut errors, &path.child("policyName"), name);
        policy::param_ref(&mut errors, &path.child("paramRef"), spec.param_ref.as_ref());
        let at = path.child("matchResources");
        policy::match_resources(&mut errors, &at, spec.match_resources.as_ref());
        policy::mutable_operations(&mut errors, &at, spec.match_resources.as_ref());
        errors
    }

    fn columns() -> Columns<Binding> {
        Columns {
            columns: policy::binding_columns(),
            cells: |object, now| {
                let spec = object.spec.as_ref();
                vec![
                    printing::name(&object.metadata),
                    spec.and_then(|spec| spec.policy_name.as_deref()).unwrap_or_default().into(),
                    policy::shown_ref(spec.and_then(|spec| spec.param_ref.as_ref())).into(),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

fn validate(object: &Policy, old: Option<&Spec>) -> FieldErrors {
    let (mut errors, path) = (FieldErrors::new(), FieldPath::root("spec"));
    let spec = &object.spec.clone().unwrap_or_default();
    policy::failure_policy(&mut errors, &path.child("failurePolicy"), spec.failure_policy.as_deref());
    policy::param_kind(&mut errors, &path.child("paramKind"), spec.param_kind.as_ref());
    let at = path.child("matchConstraints");
    policy::match_constraints(&mut errors, &at, spec.match_constraints.as_ref());
    policy::mutable_operations(&mut errors, &at, spec.match_constraints.as_ref());
    let params = spec.param_kind.is_some();
    let same = |old: &Spec| old.param_kind == spec.param_kind && old.match_conditions == spec.match_conditions;
    if !old.is_some_and(same) {
        let conditions = spec.match_conditions.as_deref();
        policy::conditions(&mut errors, &path.child("matchConditions"), conditions, params);
    }
    let scope = Scope { params, authorizer: true, patches: true };
    let variables = policy::variables(&mut errors, &path.child("variables"), spec.variables.as_deref(), scope);
    let mutations = spec.mutations.as_deref().unwrap_or_default();
    if mutations.is_empty() {
        errors.push(FieldError::required(&path.child("mutations"), "mutations must contain at least one item"));
    }
    for (i, one) in mutations.iter().enumerate() {
        mutation(&mut errors, &path.child("mutations").index(i), one, &variables, scope);
    }
    let reinvocation = spec.reinvocation_policy.as_deref().unwrap_or_default();
    checks::required_one_of(&mut errors, &path.child("reinvocationPolicy"), reinvocation, &["IfNeeded", "Never"]);
    errors
}

/// The type that an `applyConfiguration` gives.
pub fn configuration_type() -> Type {
    Declared::known("Object", [])
}

/// The type that a `jsonPatch` gives.
pub fn patch_type() -> Type {
    Type::list(Declared::known("JSONPatch", []))
}

fn mutation(errors: &mut FieldErrors, path: &FieldPath, of: &Mutation, variables: &Composition, scope: Scope) {
    let kind = of.patch_type.as_str();
    checks::required_one_of(errors, &path.child("patchType"), kind, &["ApplyConfiguration", "JSONPatch"]);
    let configuration = of.apply_configuration.as_ref().map(|of| of.expression.as_deref().unwrap_or_default());
    let patch = of.json_patch.as_ref().map(|of| of.expression.as_deref().unwrap_or_default());
    let (wanted, unwanted, result) = match kind {
        "ApplyConfiguration" => (("applyConfiguration", configuration), ("jsonPatch", patch), configuration_type()),
        "JSONPatch" => (("jsonPatch", patch), ("applyConfiguration", configuration), patch_type()),
        _ => return,
    };
    if unwanted.1.is_some() {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.push(FieldError::invalid(&path.child(unwanted.0), format!("{{{}}}", unwanted.0), detail));
    }
    let at = path.child(wanted.0);
    let Some(expression) = wanted.1 else {
        errors.push(FieldError::required(&at, format!("must be specified when patchType is {kind}")));
        return;
    };
    let at = at.child("expression");
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&at, "expression is not specified"));
    } else if let Err(why) = expressions::compile(expression, &variables.environment(scope), &[result]) {
        errors.push(FieldError::invalid(&at, expression, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(changes: Value) -> String {
        let mut spec = json!({
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        });
        spec.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        let mut object: Policy =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy");
        MutatingAdmissionPolicy::set_defaults(&mut object);
        MutatingAdmissionPolicy::validate(&object).to_string()
    }

    #[test]
    fn what_is_refused() {
        let rules = |operation: &str| {
            json!({"matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": ["pods"]}]}})
        };
        let mutation = |mutation: Value| json!({"mutations": [mutation]});
        let patch =
            |expression: &str| mutation(json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}));
        let table = [
            (json!({}), "[]"),
            (json!({"mutations": []}), "spec.mutations: Required value: mutations must contain at least one item"),
            (json!({"reinvocationPolicy": ""}), "spec.reinvocationPolicy: Required value"),
            (
                rules("DELETE"),
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \
                 \"CREATE\", \"UPDATE\"",
            ),
            (
                mutation(json!({"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}})),
                "[spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is \
                 JSONPatch, spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch]",
            ),
            (patch("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]"), "[]"),
            (
                patch(
                    "[JSONPatch{op: 'test', path: '/spec/replicas', value: 1}, JSONPatch{op: 'replace', path: '/spec/replicas', value: 3}]",
                ),
                "[]",
            ),
            (
                patch("'x'"),
                "spec.mutations[0].jsonPatch.expression: Invalid value: \"'x'\": must evaluate to list(JSONPatch) but got string",
            ),
            (
                mutation(json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "'x'"}})),
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"'x'\": must evaluate to Object but got string",
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(wrong(changes.clone()), expected, "{changes}");
        }
    }
}
