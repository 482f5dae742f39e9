//! ValidatingAdmissionPolicy and its binding: rules in CEL that a write has to keep.
//!
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, ValidatingAdmissionPolicy as Policy, ValidatingAdmissionPolicyBinding as Binding,
    ValidatingAdmissionPolicySpec as Spec, Validation,
};
use serde_json::Value;

use super::{Columns, Kind, Subresource, admission_policy as policy, checks, printing};
use crate::admission::expressions::{self, Composition, Scope};
use crate::cel::Type;

/// How many audit annotations a policy may have.
const MAX_ANNOTATIONS: usize = 20;
/// How long the expression of one may be.
const MAX_ANNOTATION: usize = 5 * 1024;

/// See the module.
pub struct ValidatingAdmissionPolicy;
/// See the module.
pub struct ValidatingAdmissionPolicyBinding;

impl Kind for ValidatingAdmissionPolicy {
    type Object = Policy;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Policy) {
        let spec = object.spec.get_or_insert_default();
        policy::default_failure_policy(&mut spec.failure_policy);
        policy::default_match_resources(&mut spec.match_constraints);
    }

    fn prepare_for_create(object: &mut Policy) {
        object.status = None;
    }

    fn prepare_for_update(new: &mut Policy, old: &Policy) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Policy, old: &Policy) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Policy) -> FieldErrors {
        validate(object, None)
    }

    fn validate_update(new: &Policy, old: &Policy) -> FieldErrors {
        validate(new, old.spec.as_ref())
    }

    fn validate_status_update(new: &Policy, _: &Policy) -> FieldErrors {
        let (mut errors, path) = (FieldErrors::new(), FieldPath::root("status"));
        let Some(status) = &new.status else { return errors };
        let at = path.child("typeChecking").child("expressionWarnings");
        let checked = status.type_checking.as_ref().and_then(|checked| checked.expression_warnings.as_deref());
        for (i, warning) in checked.unwrap_or_default().iter().enumerate() {
            checks::required(&mut errors, &at.index(i).child("warning"), &warning.warning);
            checks::required(&mut errors, &at.index(i).child("fieldRef"), warning.field_ref.trim());
        }
        checks::conditions(&mut errors, &path.child("conditions"), status.conditions.as_deref().unwrap_or_default());
        errors
    }

    fn columns() -> Columns<Policy> {
        let count = "Validations indicates the number of validation rules defined in this configuration";
        Columns {
            columns: policy::policy_columns(printing::integer("Validations", count)),
            cells: |object, now| {
                let spec = object.spec.as_ref();
                let count = spec.and_then(|spec| spec.validations.as_ref()).map_or(0, Vec::len);
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

impl Kind for ValidatingAdmissionPolicyBinding {
    type Object = Binding;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Binding) {
        policy::default_match_resources(&mut object.spec.match_resources);
    }

    fn validate(object: &Binding) -> FieldErrors {
        let (mut errors, path, spec) = (FieldErrors::new(), FieldPath::root("spec"), &object.spec);
        policy::policy_name(&mut errors, &path.child("policyName"), &spec.policy_name);
        policy::param_ref(&mut errors, &path.child("paramRef"), spec.param_ref.as_ref());
        policy::match_resources(&mut errors, &path.child("matchResources"), spec.match_resources.as_ref());
        actions(&mut errors, &path.child("validationActions"), &spec.validation_actions);
        errors
    }

    fn columns() -> Columns<Binding> {
        Columns {
            columns: policy::binding_columns(),
            cells: |object, now| {
                vec![
                    printing::name(&object.metadata),
                    object.spec.policy_name.as_str().into(),
                    policy::shown_ref(object.spec.param_ref.as_ref()).into(),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

fn actions(errors: &mut FieldErrors, path: &FieldPath, actions: &[String]) {
    for (i, action) in actions.iter().enumerate() {
        checks::one_of(errors, &path.index(i), action, &["Audit", "Deny", "Warn"]);
        if actions[..i].contains(action) {
            errors.push(FieldError::duplicate(&path.index(i), action));
        }
    }
    let has = |action: &str| actions.iter().any(|known| known == action);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, actions, detail));
    }
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}

fn validate(object: &Policy, old: Option<&Spec>) -> FieldErrors {
    let (mut errors, path) = (FieldErrors::new(), FieldPath::root("spec"));
    let spec = &object.spec.clone().unwrap_or_default();
    policy::failure_policy(&mut errors, &path.child("failurePolicy"), spec.failure_policy.as_deref());
    policy::param_kind(&mut errors, &path.child("paramKind"), spec.param_kind.as_ref());
    policy::match_constraints(&mut errors, &path.child("matchConstraints"), spec.match_constraints.as_ref());
    let params = spec.param_kind.is_some();
    let same = |old: &Spec| old.param_kind == spec.param_kind && old.match_conditions == spec.match_conditions;
    if !old.is_some_and(same) {
        let conditions = spec.match_conditions.as_deref();
        policy::conditions(&mut errors, &path.child("matchConditions"), conditions, params);
    }
    let scope = Scope { params, authorizer: true, patches: false };
    let variables = policy::variables(&mut errors, &path.child("variables"), spec.variables.as_deref(), scope);
    let validations = spec.validations.as_deref().unwrap_or_default();
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required(&path.child("validations"), detail));
        errors.push(FieldError::required(&path.child("auditAnnotations"), detail));
        return errors;
    }
    for (i, one) in validations.iter().enumerate() {
        validation(&mut errors, &path.child("validations").index(i), one, &variables, scope);
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    audit_annotations(&mut errors, &path.child("auditAnnotations"), annotations, name, &variables, scope);
    errors
}

fn validation(errors: &mut FieldErrors, path: &FieldPath, of: &Validation, variables: &Composition, scope: Scope) {
    let at = path.child("expression");
    if of.expression.trim().is_empty() {
        errors.push(FieldError::required(&at, "expression is not specified"));
    } else if let Err(why) = expressions::compile(&of.expression, &variables.environment(scope), &[Type::Bool]) {
        errors.push(FieldError::invalid(&at, &of.expression, why));
    }
    let (at, expression) = (path.child("messageExpression"), of.message_expression.as_deref().unwrap_or_default());
    if !expression.is_empty() && expression.trim().is_empty() {
        errors.push(FieldError::invalid(&at, expression, "must be non-empty if specified"));
    } else if !expression.is_empty() {
        let environment = variables.environment(Scope { authorizer: false, ..scope });
        if let Err(why) = expressions::compile(expression, &environment, &[Type::String]) {
            errors.push(FieldError::invalid(&at, expression, why));
        }
    }
    let (at, message) = (path.child("message"), of.message.as_deref().unwrap_or_default());
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(&at, message, "message must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
    }
    if let Some(reason) = &of.reason {
        checks::one_of(errors, &path.child("reason"), reason, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

fn audit_annotations(
    errors: &mut FieldErrors,
    path: &FieldPath,
    annotations: &[AuditAnnotation],
    policy: &str,
    variables: &Composition,
    scope: Scope,
) {
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, annotations, detail));
    }
    let mut seen = BTreeSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(i), annotation.key.as_str());
        if policy.is_empty() {
            errors.push(FieldError::invalid(&path.child("key"), key, "requires metadata.name be non-empty"));
        } else {
            let qualified = format!("{policy}/{key}");
            errors.push_invalid(&path.child("key"), &qualified, names::qualified_name(&qualified));
        }
        let (at, expression) = (path.child("valueExpression"), annotation.value_expression.trim());
        if expression.is_empty() {
            errors.push(FieldError::required(&at, "valueExpression is not specified"));
        } else if expression.len() > MAX_ANNOTATION {
            errors.push(FieldError::required(&at, format!("must not exceed {MAX_ANNOTATION} bytes in length")));
        } else if let Err(why) =
            expressions::compile(expression, &variables.environment(scope), &[Type::String, Type::Null])
        {
            errors.push(FieldError::invalid(&at, &annotation.value_expression, why));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(changes: Value) -> String {
        let mut spec = json!({
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "validations": [{"expression": "true"}],
        });
        spec.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        let mut object: Policy =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy");
        ValidatingAdmissionPolicy::set_defaults(&mut object);
        ValidatingAdmissionPolicy::validate(&object).to_string()
    }

    #[test]
    fn what_is_refused_of_a_policy() {
        let table = [
            (json!({}), "[]"),
            (json!({"matchConstraints": null}), "spec.matchConstraints: Required value"),
            (json!({"matchConstraints": {}}), "spec.matchConstraints.resourceRules: Required value"),
            (
                json!({"validations": []}),
                "[spec.validations: Required value: validations or auditAnnotations must contain at least one item, \
                 spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item]",
            ),
            (
                json!({"validations": [{"expression": "object.spec"}]}),
                "spec.validations[0].expression: Invalid value: \"object.spec\": must evaluate to bool but got dyn",
            ),
            (
                json!({"failurePolicy": ""}),
                "spec.failurePolicy: Unsupported value: \"\": supported values: \"Fail\", \"Ignore\"",
            ),
            (
                json!({"validations": [{"expression": "true", "messageExpression": "1"}]}),
                "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
            ),
            (
                json!({"validations": [{"expression": "true", "message": "a\nb", "reason": "NotFound"}]}),
                "[spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks, \
                 spec.validations[0].reason: Unsupported value: \"NotFound\": supported values: \"Forbidden\", \"Invalid\", \
                 \"RequestEntityTooLarge\"]",
            ),
            (
                json!({"variables": [{"name": "x-y", "expression": "1"}]}),
                "spec.variables[0].name: Invalid value: \"x-y\": name is not a valid CEL identifier",
            ),
            (
                json!({"variables": [{"name": "x", "expression": "1"}], "validations": [{"expression": "variables.x > 0"}]}),
                "[]",
            ),
            (
                json!({"validations": [{"expression": "params.x == 1"}]}),
                "spec.validations[0].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared \
                 reference to 'params' (in container '')\n | params.x == 1\n | ^",
            ),
            (
                json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "params.x == 1"}]}),
                "[]",
            ),
            (
                json!({"paramKind": {"apiVersion": "a/b/c", "kind": "x y"}}),
                "[spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c, spec.paramKind.kind: \
                 Invalid value: \"x y\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case \
                 alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
                 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]",
            ),
            (
                json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}, {"key": "k", "valueExpression": "'a'"}]}),
                "[spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got \
                 int, spec.auditAnnotations[1].key: Duplicate value: \"k\"]",
            ),
            (
                json!({"matchConditions": [{"name": "n", "expression": "1"}]}),
                "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(wrong(changes.clone()), expected, "{changes}");
        }
    }

    #[test]
    fn what_is_refused_of_a_status() {
        let status = json!({"typeChecking": {"expressionWarnings": [{"fieldRef": " ", "warning": ""}]}, "conditions": [
            {"type": "a", "status": "Maybe", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let object: Policy = serde_json::from_value(json!({"status": status})).expect("a policy");
        let wrong = ValidatingAdmissionPolicy::validate_status_update(&object, &object);
        let paths: Vec<&str> = wrong.iter().map(|error| error.path.as_str()).collect();
        let warning = "status.typeChecking.expressionWarnings[0]";
        let expected =
            [format!("{warning}.warning"), format!("{warning}.fieldRef"), "status.conditions[0].status".to_owned()];
        assert_eq!(paths, expected);
    }

    #[test]
    fn what_is_refused_of_a_binding() {
        let table = [
            (json!({"policyName": "p", "validationActions": ["Deny"]}), "[]"),
            (
                json!({"policyName": "", "validationActions": []}),
                "[spec.policyName: Required value, spec.validationActions: Required value: at least one validation action is required]",
            ),
            (
                json!({"policyName": "p", "validationActions": ["Deny", "Deny"]}),
                "spec.validationActions[1]: Duplicate value: \"Deny\"",
            ),
            (
                json!({"policyName": "p", "validationActions": ["Audit"], "paramRef": {"name": "x", "selector": {}}}),
                "[spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: Forbidden: name and \
                 selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Required value]",
            ),
        ];
        for (spec, expected) in table {
            let object: Binding = serde_json::from_value(json!({"spec": spec})).expect("a binding");
            assert_eq!(ValidatingAdmissionPolicyBinding::validate(&object).to_string(), expected, "{spec}");
        }
    }
}
