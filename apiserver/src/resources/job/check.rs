//! What a job's spec may say, template included.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use api::names;
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use crate::resources::{checks, internal, pod_spec};

const MAX_INDEXED: i32 = 100_000;
/// Above so many completions there are lower limits.
const MANY: i32 = 100_000;
const MAX_WITH_MANY: i32 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_TEXT: usize = 64 * 1024;
const MAX_MANAGER: usize = 63;
const INDEXED: &str = "Indexed";
const NEEDS_INDEXED: &str = "requires indexed completion mode";

/// All errors of the part of a job's spec that a CronJob's template has too.
pub fn template_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &JobSpec) {
    let numbers = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (name, number) in numbers {
        checks::non_negative_option(errors, &path.child(name), number);
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = &spec.managed_by {
        checks::domain_prefixed_path(errors, &path.child("managedBy"), manager);
        if manager.len() > MAX_MANAGER {
            errors.push(FieldError::too_long(&path.child("managedBy"), MAX_MANAGER));
        }
    }
    completion_mode(errors, path, spec);
    not_indexed(errors, path, spec);
    if let Some(policy) = &spec.pod_failure_policy {
        let path = path.child("podFailurePolicy").child("rules");
        if policy.rules.len() > MAX_RULES {
            errors.push(FieldError::too_many(&path, policy.rules.len(), MAX_RULES));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            failure_rule(errors, &path.index(i), rule, spec);
        }
    }
    success_policy(errors, &path.child("successPolicy"), spec);
    if let Some(policy) = &spec.pod_replacement_policy {
        let supported: &[&str] =
            if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        checks::one_of(errors, &path.child("podReplacementPolicy"), policy, supported);
    }
    let path = path.child("template");
    pod_spec::validate_template(errors, &path, &spec.template);
    let restart = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    let path = path.child("spec").child("restartPolicy");
    match restart {
        "" | "Always" => errors.push(FieldError::required(&path, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&path, restart, detail));
        }
        _ => checks::one_of(errors, &path, restart, &["OnFailure", "Never"]),
    }
}

fn completion_mode(errors: &mut FieldErrors, path: &FieldPath, spec: &JobSpec) {
    let (failed_path, parallelism_path) = (path.child("maxFailedIndexes"), path.child("parallelism"));
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    checks::one_of(errors, &path.child("completionMode"), mode, &["NonIndexed", INDEXED]);
    if mode != INDEXED {
        return;
    }
    let at_most = |errors: &mut FieldErrors, path: &FieldPath, value: Option<i32>, max: i32, more: &str| {
        if let Some(value) = value.filter(|value| *value > max) {
            errors.push(FieldError::invalid(path, value, format!("must be less than or equal to {max}{more}")));
        }
    };
    let Some(completions) = spec.completions else {
        errors.push(FieldError::required(&path.child("completions"), "when completion mode is Indexed"));
        at_most(errors, &parallelism_path, spec.parallelism, MAX_INDEXED, " when completion mode is Indexed");
        at_most(errors, &failed_path, spec.max_failed_indexes, MAX_INDEXED, "");
        return;
    };
    at_most(errors, &parallelism_path, spec.parallelism, MAX_INDEXED, " when completion mode is Indexed");
    if let Some(failed) = spec.max_failed_indexes.filter(|failed| *failed > completions) {
        errors.push(FieldError::invalid(&failed_path, failed, "must be less than or equal to completions"));
    }
    at_most(errors, &failed_path, spec.max_failed_indexes, MAX_INDEXED, "");
    if completions > MANY && spec.backoff_limit_per_index.is_some() {
        if spec.max_failed_indexes.is_none() {
            let detail = format!("must be specified when completions is above {MANY}");
            errors.push(FieldError::required(&failed_path, detail));
        }
        let more = format!(" when completions are above {MANY} and used with backoff limit per index");
        at_most(errors, &parallelism_path, spec.parallelism, MAX_WITH_MANY, &more);
        at_most(errors, &failed_path, spec.max_failed_indexes, MAX_WITH_MANY, &more);
    }
}

fn not_indexed(errors: &mut FieldErrors, path: &FieldPath, spec: &JobSpec) {
    let limits =
        [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
    for (name, value) in limits {
        if let (Some(value), "NonIndexed") = (value, spec.completion_mode.as_deref().unwrap_or("NonIndexed")) {
            errors.push(FieldError::invalid(&path.child(name), value, NEEDS_INDEXED));
        }
    }
}

/// An error without the value that caused it.
pub fn without_value(path: &FieldPath, detail: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, path: path.clone(), value: None, detail: detail.to_owned() }
}

/// The value is given, and one of an enumeration; its values are told as Go prints a list of texts.
fn known(errors: &mut FieldErrors, path: &FieldPath, value: &str, supported: &[&str]) {
    if value.is_empty() {
        let shown: Vec<String> = supported.iter().map(|value| go_quote(value)).collect();
        errors.push(FieldError::required(path, format!("valid values: [{}]", shown.join(" "))));
    } else {
        checks::one_of(errors, path, value, supported);
    }
}

fn failure_rule(errors: &mut FieldErrors, path: &FieldPath, rule: &PodFailurePolicyRule, spec: &JobSpec) {
    let action_path = path.child("action");
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&action_path, &rule.action, detail));
    } else {
        known(errors, &action_path, &rule.action, &["Count", "FailIndex", "FailJob", "Ignore"]);
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(errors, &path.child("onExitCodes"), codes, spec);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let conditions_path = path.child("onPodConditions");
    if conditions.len() > MAX_RULES {
        errors.push(FieldError::too_many(&conditions_path, conditions.len(), MAX_RULES));
    }
    for (i, condition) in conditions.iter().enumerate() {
        let path = conditions_path.index(i);
        errors.push_invalid(&path.child("type"), &condition.type_, names::qualified_name(&condition.type_));
        let status = condition.status.as_deref().unwrap_or_default();
        known(errors, &path.child("status"), status, &["False", "True", "Unknown"]);
    }
    match (&rule.on_exit_codes, conditions) {
        (Some(_), [_, ..]) => {
            errors.push(without_value(path, "specifying both OnExitCodes and OnPodConditions is not supported"));
        }
        (None, []) => {
            errors.push(without_value(path, "specifying one of OnExitCodes and OnPodConditions is required"));
        }
        _ => {}
    }
}

fn exit_codes(
    errors: &mut FieldErrors,
    path: &FieldPath,
    codes: &PodFailurePolicyOnExitCodesRequirement,
    spec: &JobSpec,
) {
    known(errors, &path.child("operator"), &codes.operator, &["In", "NotIn"]);
    let pod = spec.template.spec.clone().unwrap_or_default();
    let mut containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    if let Some(name) = &codes.container_name
        && !containers.any(|container| container.name == *name)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
    }
    let path = path.child("values");
    if codes.values.is_empty() {
        errors.push(FieldError::invalid(&path, &codes.values, "at least one value is required"));
    } else if codes.values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&path, codes.values.len(), MAX_EXIT_CODES));
    }
    let mut taken = BTreeSet::new();
    for (i, code) in codes.values.iter().enumerate() {
        if codes.operator == "In" && *code == 0 {
            errors.push(FieldError::invalid(&path.index(i), code, "must not be 0 for the In operator"));
        }
        if !taken.insert(code) {
            errors.push(FieldError::duplicate(&path.index(i), code));
        }
    }
    if !codes.values.is_sorted() {
        errors.push(FieldError::invalid(&path, &codes.values, "must be ordered"));
    }
}

fn success_policy(errors: &mut FieldErrors, path: &FieldPath, spec: &JobSpec) {
    let Some(policy) = &spec.success_policy else { return };
    if spec.completion_mode.as_deref() != Some(INDEXED) {
        errors.push(internal::invalid(path, "batch/v1.SuccessPolicy", policy, NEEDS_INDEXED));
        return;
    }
    let path = path.child("rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    }
    if policy.rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&path, policy.rules.len(), MAX_RULES));
    }
    for (i, rule) in policy.rules.iter().enumerate() {
        success_rule(errors, &path.index(i), rule, spec.completions.unwrap_or_default());
    }
}

fn success_rule(errors: &mut FieldErrors, path: &FieldPath, rule: &SuccessPolicyRule, completions: i32) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = None;
    if let Some(text) = &rule.succeeded_indexes {
        let path = path.child("succeededIndexes");
        if text.len() > MAX_INDEXES_TEXT {
            errors.push(FieldError::too_long(&path, MAX_INDEXES_TEXT));
        }
        let counted = indexes(text, completions);
        if let Err(why) = &counted {
            errors.push(FieldError::invalid(&path, text, format!("error parsing succeededIndexes: {why}")));
        }
        total = Some(counted.unwrap_or_default());
    }
    let Some(count) = rule.succeeded_count else { return };
    let path = path.child("succeededCount");
    checks::non_negative(errors, &path, count);
    let limits = [
        (Some(completions), "the number of specified completions"),
        (total, "the number of indexes in the specified succeededIndexes field"),
    ];
    for (limit, what) in limits {
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            errors.push(FieldError::invalid(&path, count, format!("must be less than or equal to {limit} ({what})")));
        }
    }
}

/// The first and the last index of a part of a text like `1,3-5`.
pub fn interval(text: &str, completions: i32) -> Result<(i32, i32), String> {
    let number = |text: &str| {
        let number: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {}", go_quote(text)))?;
        match i32::try_from(number) {
            Ok(number) if number < completions => Ok(number),
            _ => Err(format!("too large index: {}", go_quote(text))),
        }
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [one] => number(one).map(|one| (one, one)),
        [first, last] => match (number(first)?, number(last)?) {
            (first, last) if first >= last => Err(unordered(first, last)),
            interval => Ok(interval),
        },
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(text)
        )),
    }
}

fn unordered(before: i32, now: i32) -> String {
    format!("non-increasing order, previous: {before}, current: {now}")
}

/// How many indexes a text like `1,3-5` names.
pub fn indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut total, mut before) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = interval(part, completions)?;
        if let Some(before) = before.filter(|before| *before >= first) {
            return Err(unordered(before, first));
        }
        total += last - first + 1;
        before = Some(last);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(fields: Value) -> String {
        let mut spec =
            json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        let mut spec: JobSpec = serde_json::from_value(spec).expect("a spec");
        pod_spec::set_template_defaults(&mut spec.template);
        let mut errors = FieldErrors::new();
        template_spec(&mut errors, &FieldPath::root("spec"), &spec);
        errors.to_string()
    }

    #[test]
    fn modes() {
        let table = [
            (json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1}), "[]"),
            (json!({"completionMode": "Indexed"}), "spec.completions: Required value: when completion mode is Indexed"),
            (
                json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1, "maxFailedIndexes": 4}),
                "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
            ),
            (
                json!({"backoffLimitPerIndex": 1}),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ),
            (
                json!({"completionMode": "X"}),
                "spec.completionMode: Unsupported value: \"X\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (
                json!({"managedBy": "me"}),
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(found(fields), message);
        }
    }

    #[test]
    fn failures() {
        let policy = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}, "podReplacementPolicy": "Failed"});
        let codes = |operator: &str, values: Value| json!({"action": "FailJob", "onExitCodes": {"operator": operator, "values": values}});
        let table = [
            (policy(codes("In", json!([1, 2]))), "[]"),
            (
                policy(codes("In", json!([2, 0]))),
                "[spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator, spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0]: must be ordered]",
            ),
            (
                policy(json!({"action": "", "onPodConditions": [{"type": "A", "status": "X"}]})),
                "[spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"], spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: \"X\": supported values: \"False\", \"True\", \"Unknown\"]",
            ),
            (
                policy(json!({"action": "FailIndex"})),
                "[spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set, spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required]",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(found(fields), message);
        }
    }

    #[test]
    fn indexes_are_counted() {
        let table = [
            ("", Ok(0)),
            ("0,2-4", Ok(4)),
            ("4", Ok(1)),
            ("5", Err("too large index: \"5\"")),
            ("2,1", Err("non-increasing order, previous: 2, current: 1")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
        ];
        for (text, count) in table {
            assert_eq!(indexes(text, 5), count.map_err(str::to_owned), "{text}");
        }
        let policy = json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [{"succeededCount": 3, "succeededIndexes": "0-1"}]}});
        assert_eq!(
            found(policy),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
        );
    }
}
