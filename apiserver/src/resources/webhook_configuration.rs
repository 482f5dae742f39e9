//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration: who is asked before a write is accepted.
//!
//! A validating webhook is a mutating one without a reinvocation policy; both are checked in that form ([`Hook`]).
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook as Hook, MutatingWebhookConfiguration as Mutating, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration as Validating,
};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks, match_conditions, webhook_address};
use crate::admission::expressions;

/// AdmissionReview versions of which a webhook must understand one.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// See the module.
pub struct MutatingWebhookConfiguration;
/// See the module.
pub struct ValidatingWebhookConfiguration;

/// What is not asked of an update, because the stored object does not keep to it either.
struct Strictness {
    side_effects: bool,
    versions: bool,
    unique_names: bool,
}

const STRICT: Strictness = Strictness { side_effects: true, versions: true, unique_names: true };

impl Kind for MutatingWebhookConfiguration {
    type Object = Mutating;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Mutating) {
        for hook in object.webhooks.iter_mut().flatten() {
            set_defaults(hook);
            hook.reinvocation_policy.get_or_insert_with(|| "Never".to_owned());
        }
    }

    fn validate(object: &Mutating) -> FieldErrors {
        validate(object.webhooks.as_deref().unwrap_or_default(), None)
    }

    fn validate_update(new: &Mutating, old: &Mutating) -> FieldErrors {
        validate(new.webhooks.as_deref().unwrap_or_default(), Some(old.webhooks.as_deref().unwrap_or_default()))
    }

    fn columns() -> Columns<Mutating> {
        Columns {
            columns: columns(),
            cells: |object, now| {
                let count = object.webhooks.as_ref().map_or(0, Vec::len);
                vec![printing::name(&object.metadata), Value::from(count), printing::age(&object.metadata, now)]
            },
        }
    }
}

impl Kind for ValidatingWebhookConfiguration {
    type Object = Validating;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Validating) {
        for hook in object.webhooks.iter_mut().flatten() {
            let mut filled = common(hook);
            set_defaults(&mut filled);
            *hook = validating(filled);
        }
    }

    fn validate(object: &Validating) -> FieldErrors {
        validate(&hooks(object), None)
    }

    fn validate_update(new: &Validating, old: &Validating) -> FieldErrors {
        validate(&hooks(new), Some(&hooks(old)))
    }

    fn columns() -> Columns<Validating> {
        Columns {
            columns: columns(),
            cells: |object, now| {
                let count = object.webhooks.as_ref().map_or(0, Vec::len);
                vec![printing::name(&object.metadata), Value::from(count), printing::age(&object.metadata, now)]
            },
        }
    }
}

fn columns() -> Vec<super::Column> {
    let count = "Webhooks indicates the number of webhooks registered in this configuration";
    vec![NAME, printing::integer("Webhooks", count), AGE]
}

fn hooks(object: &Validating) -> Vec<Hook> {
    object.webhooks.iter().flatten().map(common).collect()
}

/// A validating webhook in the form that both are handled in.
pub fn common(hook: &ValidatingWebhook) -> Hook {
    let hook = hook.clone();
    Hook {
        admission_review_versions: hook.admission_review_versions,
        client_config: hook.client_config,
        failure_policy: hook.failure_policy,
        match_conditions: hook.match_conditions,
        match_policy: hook.match_policy,
        name: hook.name,
        namespace_selector: hook.namespace_selector,
        object_selector: hook.object_selector,
        reinvocation_policy: None,
        rules: hook.rules,
        side_effects: hook.side_effects,
        timeout_seconds: hook.timeout_seconds,
    }
}

fn validating(hook: Hook) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: hook.admission_review_versions,
        client_config: hook.client_config,
        failure_policy: hook.failure_policy,
        match_conditions: hook.match_conditions,
        match_policy: hook.match_policy,
        name: hook.name,
        namespace_selector: hook.namespace_selector,
        object_selector: hook.object_selector,
        rules: hook.rules,
        side_effects: hook.side_effects,
        timeout_seconds: hook.timeout_seconds,
    }
}

fn set_defaults(hook: &mut Hook) {
    hook.failure_policy.get_or_insert_with(|| "Fail".to_owned());
    hook.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    hook.namespace_selector.get_or_insert_default();
    hook.object_selector.get_or_insert_default();
    hook.timeout_seconds.get_or_insert(10);
    for rule in hook.rules.iter_mut().flatten() {
        rule.scope.get_or_insert_with(|| "*".to_owned());
    }
    if let Some(service) = &mut hook.client_config.service {
        service.port.get_or_insert(443);
    }
}

fn has_no_side_effects(hook: &Hook) -> bool {
    NO_SIDE_EFFECTS.contains(&hook.side_effects.as_str())
}

fn has_known_version(hook: &Hook) -> bool {
    let versions = &hook.admission_review_versions;
    versions.is_empty() || versions.iter().any(|version| VERSIONS.contains(&version.as_str()))
}

fn validate(hooks: &[Hook], old: Option<&[Hook]>) -> FieldErrors {
    let strictness = match old {
        None => STRICT,
        Some(old) => Strictness {
            side_effects: old.iter().all(has_no_side_effects),
            versions: old.iter().all(has_known_version),
            unique_names: old.iter().map(|hook| &hook.name).collect::<BTreeSet<_>>().len() == old.len(),
        },
    };
    let conditions = |hooks: &[Hook]| hooks.iter().map(|hook| hook.match_conditions.clone()).collect::<Vec<_>>();
    let check_conditions = old.is_none_or(|old| conditions(hooks) != conditions(old));
    let mut errors = FieldErrors::new();
    let mut seen = BTreeSet::new();
    for (i, hook) in hooks.iter().enumerate() {
        let path = FieldPath::root("webhooks").index(i);
        validate_hook(&mut errors, &path, hook, &strictness);
        if check_conditions {
            let conditions = hook.match_conditions.as_deref().unwrap_or_default();
            let compile = |expression: &str| expressions::wrong_condition(expression, false);
            match_conditions::validate(&mut errors, &path.child("matchConditions"), conditions, compile);
        }
        versions(&mut errors, &path.child("admissionReviewVersions"), hook, &strictness);
        if strictness.unique_names && !hook.name.is_empty() && !seen.insert(&hook.name) {
            errors.push(FieldError::duplicate(&path.child("name"), &hook.name));
        }
    }
    errors
}

fn validate_hook(errors: &mut FieldErrors, path: &FieldPath, hook: &Hook, strictness: &Strictness) {
    fully_qualified_name(errors, &path.child("name"), &hook.name);
    for (i, wanted) in hook.rules.iter().flatten().enumerate() {
        rule(errors, &path.child("rules").index(i), wanted);
    }
    let one_of = |errors: &mut FieldErrors, field: &str, value: &Option<String>, supported: &[&str]| {
        if let Some(value) = value {
            checks::one_of(errors, &path.child(field), value, supported);
        }
    };
    one_of(errors, "failurePolicy", &hook.failure_policy, &["Fail", "Ignore"]);
    one_of(errors, "matchPolicy", &hook.match_policy, &["Equivalent", "Exact"]);
    let allowed: &[&str] = if strictness.side_effects { &NO_SIDE_EFFECTS } else { &SIDE_EFFECTS };
    if hook.side_effects.is_empty() {
        let detail = format!("must specify one of {}", allowed.join(", "));
        errors.push(FieldError::required(&path.child("sideEffects"), detail));
    } else {
        checks::one_of(errors, &path.child("sideEffects"), &hook.side_effects, allowed);
    }
    if let Some(seconds) = hook.timeout_seconds.filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    checks::label_selector(errors, &path.child("namespaceSelector"), hook.namespace_selector.as_ref());
    checks::label_selector(errors, &path.child("objectSelector"), hook.object_selector.as_ref());
    one_of(errors, "reinvocationPolicy", &hook.reinvocation_policy, &["IfNeeded", "Never"]);
    let (config, path) = (&hook.client_config, path.child("clientConfig"));
    match (&config.url, &config.service) {
        (Some(_), Some(_)) | (None, None) => {
            errors.push(FieldError::required(&path, "exactly one of url or service is required"));
        }
        (Some(url), None) => webhook_address::url(errors, &path.child("url"), url),
        (None, Some(service)) => {
            let port = service.port.unwrap_or(0);
            let path = path.child("service");
            webhook_address::service(errors, &path, &service.name, &service.namespace, service.path.as_deref(), port);
        }
    }
}

/// A name with a domain: at least three segments.
fn fully_qualified_name(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let wrong = names::is_dns1123_subdomain(name);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn versions(errors: &mut FieldErrors, path: &FieldPath, hook: &Hook, strictness: &Strictness) {
    let versions = &hook.admission_review_versions;
    if versions.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {}", VERSIONS.join(", "))));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&path.index(i), version, "duplicate version"));
            continue;
        }
        errors.push_invalid(&path.index(i), version, names::is_dns1035_label(version));
    }
    if strictness.versions && !has_known_version(hook) {
        let detail = format!("must include at least one of {}", VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, versions, detail));
    }
}

/// Operations and resources of a rule.
pub fn rule(errors: &mut FieldErrors, path: &FieldPath, rule: &RuleWithOperations) {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let wildcard = |list: &[String]| list.len() > 1 && list.iter().any(|item| item == "*");
    let (operations, at) = (list(&rule.operations), path.child("operations"));
    if operations.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    if wildcard(&operations) {
        let detail = "if '*' is present, must not specify other operations";
        errors.push(FieldError::invalid(&at, &operations, detail));
    }
    for (i, operation) in operations.iter().enumerate() {
        checks::one_of(errors, &at.index(i), operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
    let (groups, at) = (list(&rule.api_groups), path.child("apiGroups"));
    if groups.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    if wildcard(&groups) {
        errors.push(FieldError::invalid(&at, &groups, "if '*' is present, must not specify other API groups"));
    }
    let (versions, at) = (list(&rule.api_versions), path.child("apiVersions"));
    if versions.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    if wildcard(&versions) {
        errors.push(FieldError::invalid(&at, &versions, "if '*' is present, must not specify other API versions"));
    }
    for (i, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(FieldError::required(&at.index(i), ""));
    }
    resources(errors, &path.child("resources"), &list(&rule.resources));
    if let Some(scope) = &rule.scope {
        checks::one_of(errors, &path.child("scope"), scope, &["*", "Cluster", "Namespaced"]);
    }
}

/// Resources with their subresources: nothing may be said twice.
fn resources(errors: &mut FieldErrors, path: &FieldPath, resources: &[String]) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_below, mut below_all) = (BTreeSet::new(), BTreeSet::new());
    // As upstream: the last resource without a subresource decides.
    let mut whole = false;
    for (i, text) in resources.iter().enumerate() {
        if text.is_empty() {
            errors.push(FieldError::required(&path.index(i), ""));
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            whole = text != "*";
            continue;
        };
        if all_below.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path.index(i), text, detail));
        }
        if below_all.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path.index(i), text, detail));
        }
        if sub == "*" {
            all_below.insert(resource);
        }
        if resource == "*" {
            below_all.insert(sub);
        }
    }
    if resources.len() > 1 && resources.iter().any(|text| text == "*/*") {
        errors.push(FieldError::invalid(path, resources, "if '*/*' is present, must not specify other resources"));
    }
    if whole && resources.iter().any(|text| text == "*") {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, resources, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hook(changes: Value) -> Value {
        let mut hook = json!({"name": "a.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://192.0.2.1/x"}});
        let fields = hook.as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        hook
    }

    fn object(hooks: Vec<Value>) -> Mutating {
        let mut object: Mutating = serde_json::from_value(json!({"webhooks": hooks})).expect("a configuration");
        MutatingWebhookConfiguration::set_defaults(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        let rule = |changes: Value| {
            let mut rule =
                json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            rule.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            hook(json!({"rules": [rule]}))
        };
        let table = [
            (hook(json!({})), "[]"),
            (hook(json!({"name": ""})), "name: Required value"),
            (
                hook(json!({"name": "a.b"})),
                "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                hook(json!({"sideEffects": "Some"})),
                "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                hook(json!({"timeoutSeconds": 31})),
                "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                hook(json!({"admissionReviewVersions": ["v2", "v2"]})),
                "[webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version, \
                 webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1]",
            ),
            (
                hook(json!({"admissionReviewVersions": []})),
                "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (
                hook(json!({"clientConfig": {}})),
                "clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                hook(json!({"failurePolicy": "Maybe"})),
                "failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
            ),
            (
                rule(json!({"operations": ["*", "GET"]})),
                "[webhooks[0].rules[0].operations: Invalid value: [\"*\",\"GET\"]: if '*' is present, must not specify other operations, \
                 webhooks[0].rules[0].operations[1]: Unsupported value: \"GET\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"]",
            ),
            (
                rule(json!({"resources": ["pods/*", "pods/status"]})),
                "rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
            ),
            (
                rule(json!({"resources": ["*", "pods"]})),
                "rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
            ),
            (rule(json!({"apiGroups": []})), "rules[0].apiGroups: Required value"),
            (
                rule(json!({"scope": "World"})),
                "rules[0].scope: Unsupported value: \"World\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
        ];
        for (hook, expected) in table {
            let found = MutatingWebhookConfiguration::validate(&object(vec![hook])).to_string();
            let expected =
                if expected.starts_with('[') { expected.to_owned() } else { format!("webhooks[0].{expected}") };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn updates_may_keep_what_was_accepted_once() {
        let some = || hook(json!({"sideEffects": "Some"}));
        let (old, new) = (object(vec![some(), some()]), object(vec![some(), some()]));
        assert_eq!(MutatingWebhookConfiguration::validate_update(&new, &old).to_string(), "[]");
        let strict = object(vec![hook(json!({}))]);
        let found = MutatingWebhookConfiguration::validate_update(&new, &strict);
        assert_eq!(found.len(), 3, "{found}");
    }

    #[test]
    fn defaults() {
        let value = json!({"webhooks": [hook(json!({"rules": [{}], "clientConfig": {"service": {"name": "s", "namespace": "n"}}}))]});
        let mut object: Validating = serde_json::from_value(value).expect("a configuration");
        ValidatingWebhookConfiguration::set_defaults(&mut object);
        let hook = &object.webhooks.expect("it has one")[0];
        assert_eq!(
            (hook.failure_policy.as_deref(), hook.match_policy.as_deref(), hook.timeout_seconds),
            (Some("Fail"), Some("Equivalent"), Some(10))
        );
        assert_eq!(hook.rules.as_ref().and_then(|rules| rules[0].scope.as_deref()), Some("*"));
        assert_eq!(hook.client_config.service.as_ref().and_then(|service| service.port), Some(443));
    }
}
