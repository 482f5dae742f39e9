//! What a write to a job's status may say: a job ends once, and what is told of its end fits together. Entry point:
//! [`validate_update`].
//!
//! Whoever manages a job (`spec.managedBy`) writes its status, so that the API server holds what clients rely on. Invariant: a rule
//! is looked at only where a write changes what it speaks of, so that an old fault does not stop unrelated writes.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::batch::v1::{Job, JobStatus};

use super::check::{indexes, interval, without_value};
use crate::resources::{checks, internal};

/// Whether the job has this condition.
pub fn is_true(job: &Job, condition: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|found| found.type_ == condition && found.status == "True")
}

/// What a write says, and what it changes.
struct Write<'a> {
    new: &'a Job,
    old: &'a Job,
    now: JobStatus,
    before: JobStatus,
    complete_changed: bool,
    failed_changed: bool,
    finished: bool,
    finished_changed: bool,
    indexed: bool,
}

/// All errors of a write to the status.
pub fn validate_update(new: &Job, old: &Job) -> FieldErrors {
    let changed = |condition: &str| is_true(new, condition) != is_true(old, condition);
    let finished = |job: &Job| is_true(job, "Complete") || is_true(job, "Failed");
    let write = Write {
        new,
        old,
        now: new.status.clone().unwrap_or_default(),
        before: old.status.clone().unwrap_or_default(),
        complete_changed: changed("Complete"),
        failed_changed: changed("Failed"),
        finished: finished(new),
        finished_changed: finished(new) != finished(old),
        indexed: new.spec.as_ref().is_some_and(|spec| spec.completion_mode.as_deref() == Some("Indexed")),
    };
    let mut errors = FieldErrors::new();
    counts(&mut errors, &write.now);
    ends(&mut errors, &write);
    finished_job(&mut errors, &write);
    index_lists(&mut errors, &write);
    rest(&mut errors, &write);
    transitions(&mut errors, &write);
    errors
}

fn at(field: &str) -> FieldPath {
    FieldPath::root("status").child(field)
}

fn conditions(errors: &mut FieldErrors, wrong: bool, detail: &str) {
    if wrong {
        errors.push(without_value(&at("conditions"), detail));
    }
}

fn counts(errors: &mut FieldErrors, status: &JobStatus) {
    let counts = [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (name, count) in counts {
        checks::non_negative_option(errors, &at(name), count);
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else { return };
    let mut seen = BTreeSet::new();
    for (name, pods) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        for (i, pod) in pods.iter().flatten().enumerate() {
            let path = at("uncountedTerminatedPods").child(name).index(i);
            if pod.is_empty() {
                errors.push(FieldError::invalid(&path, pod, "must not be empty"));
            } else if !seen.insert(pod) {
                errors.push(FieldError::duplicate(&path, pod));
            }
        }
    }
}

/// What belongs to the two ways in which a job ends.
fn ends(errors: &mut FieldErrors, write: &Write<'_>) {
    let Write { new, old, now, before, complete_changed, failed_changed, .. } = write;
    let (complete, failed, target) = (is_true(new, "Complete"), is_true(new, "Failed"), is_true(new, "FailureTarget"));
    let target_changed = target != is_true(old, "FailureTarget");
    let met_changed = is_true(new, "SuccessCriteriaMet") != is_true(old, "SuccessCriteriaMet");
    let (start_changed, end_changed) =
        (now.start_time != before.start_time, now.completion_time != before.completion_time);
    let both = (*complete_changed || *failed_changed) && complete && failed;
    conditions(errors, both, "cannot set Complete=True and Failed=true conditions");
    let both = (*complete_changed || target_changed) && complete && target;
    conditions(errors, both, "cannot set Complete=True and FailureTarget=true conditions");
    let path = at("completionTime");
    if *complete_changed || end_changed {
        match &now.completion_time {
            Some(time) if !complete => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(&path, time, detail));
            }
            None if complete => {
                errors.push(FieldError::required(&path, "completionTime is required for Complete jobs"));
            }
            Some(_) | None => {}
        }
    }
    if let (Some(start), Some(end)) = (&now.start_time, &now.completion_time)
        && (start_changed || end_changed)
        && end < start
    {
        errors.push(FieldError::invalid(&path, end, "completionTime cannot be set before startTime"));
    }
    let untold = (*failed_changed || now.failed_indexes != before.failed_indexes) && failed && !target;
    conditions(errors, untold, "cannot set Failed=True condition without the FailureTarget=true condition");
    let untold = (*complete_changed || met_changed) && complete && !is_true(new, "SuccessCriteriaMet");
    conditions(errors, untold, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
}

/// Nothing goes on after the end.
fn finished_job(errors: &mut FieldErrors, write: &Write<'_>) {
    let Write { new, now, before, finished_changed, .. } = write;
    if !write.finished {
        return;
    }
    if (*finished_changed || now.active != before.active) && now.active > Some(0) {
        errors.push(FieldError::invalid(&at("active"), now.active, "active>0 is invalid for finished job"));
    }
    let spec = new.spec.clone().unwrap_or_default();
    let nothing_to_do = spec.suspend == Some(true) && spec.completions == Some(0);
    let looked_at = (*finished_changed || now.start_time != before.start_time) && !nothing_to_do;
    if looked_at && now.start_time.is_none() {
        errors.push(FieldError::required(&at("startTime"), "startTime is required for finished job"));
    }
    let looked_at = *finished_changed || now.uncounted_terminated_pods != before.uncounted_terminated_pods;
    if let (Some(pods), true) = (&now.uncounted_terminated_pods, looked_at)
        && pods.succeeded.iter().chain(&pods.failed).any(|pods| !pods.is_empty())
    {
        let (shown, detail) =
            ("batch/v1.UncountedTerminatedPods", "uncountedTerminatedPods needs to be empty for finished job");
        errors.push(internal::invalid(&at("uncountedTerminatedPods"), shown, pods, detail));
    }
}

/// The indexes that are done and that failed.
fn index_lists(errors: &mut FieldErrors, write: &Write<'_>) {
    let Write { new, now, before, .. } = write;
    let spec = new.spec.clone().unwrap_or_default();
    let completed = now.completed_indexes.clone().unwrap_or_default();
    let completed_changed = completed != before.completed_indexes.clone().unwrap_or_default();
    let failed_changed = now.failed_indexes != before.failed_indexes;
    let (completed_path, failed_path) = (at("completedIndexes"), at("failedIndexes"));
    let mut check = |path: &FieldPath, field: &str, text: &str| {
        if let Some(Err(why)) = spec.completions.map(|completions| indexes(text, completions)) {
            errors.push(FieldError::invalid(path, text, format!("error parsing {field}: {why}")));
        }
    };
    if completed_changed {
        check(&completed_path, "completedIndexes", &completed);
    }
    if let (Some(failed), Some(_), true) = (&now.failed_indexes, spec.backoff_limit_per_index, failed_changed) {
        check(&failed_path, "failedIndexes", failed);
    }
    if completed_changed && !completed.is_empty() && !write.indexed {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid(&completed_path, &completed, detail));
    }
    let Some(failed) = &now.failed_indexes else { return };
    if failed_changed && spec.backoff_limit_per_index.is_none() {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid(&failed_path, failed, detail));
    }
    let both = if failed_changed || completed_changed { spec.completions } else { None };
    if let Some(index) = both.and_then(|completions| overlap(&completed, failed, completions)) {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(FieldError::invalid(&failed_path, failed, detail));
    }
}

/// The first index that two lists share; parts that can't be read are passed over.
fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let intervals =
        |text: &str| text.split(',').filter_map(|part| interval(part, completions).ok()).collect::<Vec<_>>();
    let failed = intervals(failed);
    let shared = |done: (i32, i32)| {
        let common = failed.iter().find(|lost| done.0 <= lost.1 && lost.0 <= done.1);
        common.map(|lost| done.0.max(lost.0))
    };
    intervals(completed).into_iter().find_map(shared)
}

fn rest(errors: &mut FieldErrors, write: &Write<'_>) {
    let Write { new, now, before, .. } = write;
    let terminating_changed = write.finished_changed || now.terminating != before.terminating;
    if terminating_changed && now.terminating > Some(0) && write.finished {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(&at("terminating"), now.terminating, detail));
    }
    let ready_changed = now.ready != before.ready || now.active != before.active;
    if let Some(ready) = now.ready.filter(|ready| ready_changed && *ready > now.active.unwrap_or_default()) {
        errors.push(FieldError::invalid(&at("ready"), ready, "cannot set more ready pods than active"));
    }
    let met = is_true(new, "SuccessCriteriaMet");
    let failed = met && is_true(new, "Failed");
    conditions(errors, failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    let failing = met && is_true(new, "FailureTarget");
    conditions(errors, failing, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    let policy = new.spec.as_ref().is_some_and(|spec| spec.success_policy.is_some());
    let unmet = policy && !met && is_true(new, "Complete");
    let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
    conditions(errors, unmet, detail);
}

/// What was told can't be taken back.
fn transitions(errors: &mut FieldErrors, write: &Write<'_>) {
    let Write { new, old, now, before, .. } = write;
    for condition in ["Failed", "Complete", "FailureTarget"] {
        let taken_back = is_true(old, condition) && !is_true(new, condition);
        conditions(errors, taken_back, &format!("cannot disable the terminal {condition}=True condition"));
    }
    let fewer = |new: Option<i32>, old: Option<i32>| new.unwrap_or_default() < old.unwrap_or_default();
    if fewer(now.failed, before.failed) {
        let count = now.failed.unwrap_or_default();
        errors.push(FieldError::invalid(&at("failed"), count, "cannot decrease the failed counter"));
    }
    let spec = new.spec.clone().unwrap_or_default();
    let scales = write.indexed && spec.completions == spec.parallelism;
    if !scales && fewer(now.succeeded, before.succeeded) {
        let count = now.succeeded.unwrap_or_default();
        errors.push(FieldError::invalid(&at("succeeded"), count, "cannot decrease the succeeded counter"));
    }
    if let (Some(new), Some(old)) = (&now.completion_time, &before.completion_time)
        && new != old
    {
        errors.push(FieldError::invalid(&at("completionTime"), new, "completionTime cannot be mutated"));
    }
    let moved = before.start_time.is_some() && before.start_time != now.start_time;
    if moved && spec.suspend != Some(true) {
        errors.push(FieldError::required(&at("startTime"), "startTime cannot be removed for unsuspended job"));
    }
    let (met, was_met) = (is_true(new, "SuccessCriteriaMet"), is_true(old, "SuccessCriteriaMet"));
    conditions(errors, was_met && !met, "cannot disable the SuccessCriteriaMet=True condition");
    let late = is_true(old, "Complete") && !was_met && met;
    let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
    conditions(errors, late, detail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(spec: Value, status: Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": spec, "status": status})).expect("a job")
    }

    fn condition(kind: &str) -> Value {
        json!({"type": kind, "status": "True"})
    }

    #[test]
    fn a_job_ends_once_and_says_how() {
        let (start, end) = ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z");
        let complete = json!({"startTime": start, "completionTime": end, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
        let table = [
            (json!({}), json!({"startTime": start, "active": 1}), "[]"),
            (json!({"startTime": start}), complete.clone(), "[]"),
            (
                json!({"startTime": start}),
                json!({"startTime": start, "active": 1, "conditions": [condition("Complete")]}),
                "[status.completionTime: Required value: completionTime is required for Complete jobs, status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition, status.active: Invalid value: 1: active>0 is invalid for finished job]",
            ),
            (
                json!({}),
                json!({"conditions": [condition("Failed")]}),
                "[status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition, status.startTime: Required value: startTime is required for finished job]",
            ),
            (
                json!({}),
                json!({"completionTime": end, "ready": 2}),
                "[status.completionTime: Invalid value: \"2024-01-01T01:00:00Z\": cannot set completionTime when there is no Complete=True condition, status.ready: Invalid value: 2: cannot set more ready pods than active]",
            ),
            (
                complete,
                json!({"startTime": start, "succeeded": 0}),
                "[status.conditions: Invalid value: cannot disable the terminal Complete=True condition, status.succeeded: Invalid value: 0: cannot decrease the succeeded counter, status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition]",
            ),
            (
                json!({"startTime": start}),
                json!({"active": -1}),
                "[status.active: Invalid value: -1: must be greater than or equal to 0, status.startTime: Required value: startTime cannot be removed for unsuspended job]",
            ),
            (
                json!({}),
                json!({"completedIndexes": "1", "failedIndexes": "2"}),
                "[status.completedIndexes: Invalid value: \"1\": cannot set non-empty completedIndexes when non-indexed completion mode, status.failedIndexes: Invalid value: \"2\": cannot set non-null failedIndexes when backoffLimitPerIndex is null]",
            ),
        ];
        for (old, new, message) in table {
            let spec = json!({"template": {}, "completionMode": "NonIndexed", "completions": 3});
            assert_eq!(validate_update(&job(spec.clone(), new), &job(spec, old)).to_string(), message);
        }
    }

    #[test]
    fn lists_of_indexes() {
        let spec = json!({"template": {}, "completionMode": "Indexed", "completions": 9, "parallelism": 9, "backoffLimitPerIndex": 1});
        let table = [
            (json!({"completedIndexes": "0-2", "failedIndexes": "3,5"}), "[]"),
            (
                json!({"completedIndexes": "0-4,8", "failedIndexes": "3-5"}),
                "status.failedIndexes: Invalid value: \"3-5\": failedIndexes and completedIndexes overlap at index: 3",
            ),
            (
                json!({"completedIndexes": "4,2"}),
                "status.completedIndexes: Invalid value: \"4,2\": error parsing completedIndexes: non-increasing order, previous: 4, current: 2",
            ),
            (
                json!({"uncountedTerminatedPods": {"succeeded": ["a", "a"], "failed": [""]}}),
                "[status.uncountedTerminatedPods.succeeded[1]: Duplicate value: \"a\", status.uncountedTerminatedPods.failed[0]: Invalid value: \"\": must not be empty]",
            ),
        ];
        for (status, message) in table {
            let found = validate_update(&job(spec.clone(), status), &job(spec.clone(), json!({})));
            assert_eq!(found.to_string(), message);
        }
    }
}
