//! Job: pods that run to their end. Its selector is made from its uid, unless the client takes that over.

pub mod check;
mod status;

use std::collections::BTreeMap;

use api::field::{FieldError, FieldErrors, FieldPath, go_quote};
use api::names;
use api::selector::LabelSelector;
use k8s_openapi::api::batch::v1::{Job as Object, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Affinity, Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, internal, name_or_prefix, pod_spec, workload};

/// See the module.
pub struct Job;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

impl Kind for Job {
    type Object = Object;
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] =
        &[("status.successful", &["/status/succeeded", "0"])];
    const GENERATION: bool = true;
    const ORPHANS_BY_DEFAULT: bool = true;
    const DELETE_WARNING: Option<&'static str> = Some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    );

    fn unknown_field(field: &str) -> String {
        format!("field label {} not supported for batchv1.Job", go_quote(field))
    }

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        Some(&mut object.spec.as_mut()?.template)
    }

    fn set_defaults(object: &mut Object) {
        let spec = object.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let backoff = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(backoff);
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| replacement.to_owned());
        let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
        for condition in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
            condition.status.get_or_insert_with(|| "True".to_owned());
        }
        pod_spec::set_template_defaults(&mut spec.template);
        label_as_template(object);
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(JobStatus::default());
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        // Labels taken from the template are the same map upstream, and get what the template gets. Here labels
        // that are equal pass for those.
        let shared = object.metadata.labels.is_some() && object.metadata.labels.as_ref() == template_labels(object);
        let spec = object.spec.get_or_insert_default();
        if spec.manual_selector != Some(true) {
            // What the client set stays, and is refused where it does not fit.
            let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
            for (key, value) in [(UID_LABEL, &uid), (OLD_UID_LABEL, &uid), (NAME_LABEL, &name), (OLD_NAME_LABEL, &name)]
            {
                labels.entry(key.to_owned()).or_insert_with(|| value.clone());
            }
            let selector = spec.selector.get_or_insert_default().match_labels.get_or_insert_default();
            selector.entry(UID_LABEL.to_owned()).or_insert(uid);
        }
        if shared {
            object.metadata.labels = template_labels(object).cloned();
        }
    }

    fn read_back(object: &mut Object) {
        label_as_template(object);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        validate_whole(object, true)
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let path = FieldPath::root("spec");
        let (new_spec, old_spec) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let labels = old_spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        let mut errors = validate_whole(new, labels.contains_key(NAME_LABEL) && labels.contains_key(UID_LABEL));
        // Upstream looks at the spec twice, and tells everything twice.
        validate_spec(&mut errors, &path, &new_spec);
        completions_change(&mut errors, &path, &new_spec, &old_spec);
        let selector = path.child("selector");
        checks::immutable_as(&mut errors, &selector, "meta/v1.LabelSelector", &new_spec.selector, &old_spec.selector);
        if comparable(&new_spec, &old_spec, is_at_rest(old)) != old_spec.template {
            let (path, shown) = (path.child("template"), "v1.PodTemplateSpec");
            errors.push(internal::invalid(&path, shown, &new_spec.template, checks::IMMUTABLE));
        }
        checks::immutable(
            &mut errors,
            &path.child("completionMode"),
            &new_spec.completion_mode,
            &old_spec.completion_mode,
        );
        checks::immutable_as(
            &mut errors,
            &path.child("podFailurePolicy"),
            "batch/v1.PodFailurePolicy",
            &new_spec.pod_failure_policy,
            &old_spec.pod_failure_policy,
        );
        let (new_limit, old_limit) = (new_spec.backoff_limit_per_index, old_spec.backoff_limit_per_index);
        checks::immutable(&mut errors, &path.child("backoffLimitPerIndex"), &new_limit, &old_limit);
        checks::immutable(&mut errors, &path.child("managedBy"), &new_spec.managed_by, &old_spec.managed_by);
        checks::immutable_as(
            &mut errors,
            &path.child("successPolicy"),
            "batch/v1.SuccessPolicy",
            &new_spec.success_policy,
            &old_spec.success_policy,
        );
        errors
    }

    fn validate_status_update(new: &Object, old: &Object) -> FieldErrors {
        status::validate_update(new, old)
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let mut warnings: Vec<String> =
            workload::name_warning(&new.metadata, old.map(|old| &old.metadata)).into_iter().collect();
        if workload::desires_more(&new.metadata, old.map(|old| &old.metadata)) {
            warnings.extend(spec_warnings(&FieldPath::root("spec"), &new.spec.clone().unwrap_or_default()));
        }
        warnings
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::is_dns1123_subdomain, name, prefix)
    }

    fn columns() -> Columns<Object> {
        let [containers, images] = workload::container_columns();
        let columns = vec![
            NAME,
            printing::text("Status", "Status of the job."),
            printing::text(
                "Completions",
                "Completions specifies the desired number of successfully finished pods the job should be run with. Setting to null means that the success of any pod signals the success of all pods, and allows parallelism to have any positive value. Setting to 1 means that parallelism is limited to 1 and the success of that pod signals the success of the job. More info: https://kubernetes.io/docs/concepts/workloads/controllers/jobs-run-to-completion/",
            ),
            printing::text("Duration", "Time required to complete the job."),
            AGE,
            containers,
            images,
            printing::wide(
                "Selector",
                "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let spec = object.spec.clone().unwrap_or_default();
                let [containers, images] = workload::container_cells(Some(&spec.template));
                vec![
                    printing::name(&object.metadata),
                    Value::from(status_word(object)),
                    Value::from(completions(object)),
                    Value::from(duration(object, now)),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                    Value::from(printing::selector(spec.selector.as_ref())),
                ]
            },
        }
    }
}

/// Upstream's warnings of a job's spec.
pub fn spec_warnings(path: &FieldPath, spec: &JobSpec) -> Vec<String> {
    const MANY_COMPLETIONS: i32 = 100_000;
    const MANY_AT_ONCE: i32 = 10_000;
    let mut warnings = Vec::new();
    let many = spec.completions > Some(MANY_COMPLETIONS) && spec.parallelism > Some(MANY_AT_ONCE);
    if spec.completion_mode.as_deref() == Some("Indexed") && many {
        warnings.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
    }
    warnings.extend(pod_spec::template_warnings(&path.child("template"), Some(&spec.template)));
    warnings
}

/// A job without labels is labelled as its pods.
fn label_as_template(object: &mut Object) {
    if object.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
        object.metadata.labels = template_labels(object).filter(|labels| !labels.is_empty()).cloned();
    }
}

fn template_labels(object: &Object) -> Option<&BTreeMap<String, String>> {
    object.spec.as_ref()?.template.metadata.as_ref()?.labels.as_ref()
}

/// The template that an update would leave, with what a suspended job may still change set back.
fn comparable(new: &JobSpec, old: &JobSpec, mutable: bool) -> k8s_openapi::api::core::v1::PodTemplateSpec {
    let mut template = new.template.clone();
    if !mutable {
        return template;
    }
    if let (Some(meta), Some(old)) = (&mut template.metadata, &old.template.metadata) {
        meta.labels.clone_from(&old.labels);
        meta.annotations.clone_from(&old.annotations);
    }
    if let (Some(spec), Some(old)) = (&mut template.spec, &old.template.spec) {
        match (&mut spec.affinity, &old.affinity) {
            (Some(new), Some(old)) => new.node_affinity.clone_from(&old.node_affinity),
            (Some(new), None) => new.node_affinity = None,
            (None, Some(old)) => {
                spec.affinity = Some(Affinity { node_affinity: old.node_affinity.clone(), ..Affinity::default() })
            }
            (None, None) => {}
        }
        // One that says nothing but where pods may run can be taken away, and given.
        if spec.affinity == Some(Affinity::default()) && old.affinity.is_none() {
            spec.affinity = None;
        }
        resources_back(&mut spec.containers, &old.containers);
        if let (Some(new), Some(old)) = (&mut spec.init_containers, &old.init_containers) {
            resources_back(new, old);
        }
        spec.node_selector.clone_from(&old.node_selector);
        spec.tolerations.clone_from(&old.tolerations);
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
    }
    template
}

fn resources_back(new: &mut [Container], old: &[Container]) {
    if new.len() == old.len() {
        new.iter_mut().zip(old).for_each(|(new, old)| new.resources.clone_from(&old.resources));
    }
}

/// Whether none of the job's pods run, nor will without another write.
fn is_at_rest(job: &Object) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    suspended && (status.start_time.is_none() || status::is_true(job, "Suspended"))
}

/// All errors of the object. Jobs of old may lack the labels that have a prefix.
fn validate_whole(object: &Object, prefixed: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let spec = object.spec.clone().unwrap_or_default();
    if let (Some(selector), false) = (&spec.selector, spec.manual_selector == Some(true)) {
        generated_selector(&mut errors, object, selector, prefixed);
    }
    validate_spec(&mut errors, &path, &spec);
    indexed_host_names(&mut errors, object, &spec);
    errors
}

fn generated_selector(errors: &mut FieldErrors, object: &Object, selector: &MetaSelector, prefixed: bool) {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    if uid.is_empty() {
        errors.push(FieldError::required(&FieldPath::root("metadata").child("uid"), ""));
    }
    let mut expected = vec![(OLD_UID_LABEL, &uid), (OLD_NAME_LABEL, &name)];
    if prefixed {
        expected.extend([(UID_LABEL, &uid), (NAME_LABEL, &name)]);
    }
    let path = FieldPath::root("spec").child("template").child("metadata").child("labels");
    let labels = template_labels(object).cloned().unwrap_or_default();
    for (key, value) in &expected {
        let detail = format!("must be '{value}'");
        match labels.get(*key) {
            None => errors.push(FieldError::required(&path.key(key), detail)),
            Some(given) if given != *value => errors.push(FieldError::invalid(&path.key(key), &labels, detail)),
            Some(_) => {}
        }
    }
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if LabelSelector::from_meta(selector).is_ok_and(|selector| !selector.matches(&expected)) {
        let path = FieldPath::root("spec").child("selector");
        errors.push(FieldError::invalid(&path, selector, "`selector` not auto-generated"));
    }
}

/// Only an indexed job may change how often it completes, together with how much runs at once.
fn completions_change(errors: &mut FieldErrors, path: &FieldPath, new: &JobSpec, old: &JobSpec) {
    let path = path.child("completions");
    if new.completion_mode.as_deref() != Some("Indexed") {
        checks::immutable(errors, &path, &new.completions, &old.completions);
    } else if let Some(completions) = new.completions
        && new.completions != old.completions
        && new.completions != new.parallelism
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&path, completions, detail));
    }
}

/// Pods with an index have it in their host name.
fn indexed_host_names(errors: &mut FieldErrors, object: &Object, spec: &JobSpec) {
    let (mode, completions) = (spec.completion_mode.as_deref(), spec.completions.unwrap_or_default());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let last = format!("{name}-{}", completions - 1);
    if mode == Some("Indexed") && completions > 0 && !names::is_dns1123_label(&last).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {last}");
        errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, detail));
    }
}

/// All errors of a job's spec, selector included.
fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &JobSpec) {
    check::template_spec(errors, path, spec);
    match &spec.selector {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(selector) => {
            checks::label_selector(errors, &path.child("selector"), Some(selector));
            let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
            let given = labels.clone().unwrap_or_default();
            if LabelSelector::from_meta(selector).is_ok_and(|selector| !selector.matches(&given)) {
                let detail = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid(
                    &path.child("template").child("metadata").child("labels"),
                    labels,
                    detail,
                ));
            }
        }
    }
}

fn status_word(object: &Object) -> &'static str {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True");
    let words = [("Complete", "Complete"), ("Failed", "Failed")];
    if let Some((_, word)) = words.iter().find(|(kind, _)| holds(kind)) {
        return word;
    }
    if object.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    let words =
        [("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet")];
    words.iter().find(|(kind, _)| holds(kind)).map_or("Running", |(_, word)| word)
}

fn completions(object: &Object) -> String {
    let spec = object.spec.clone().unwrap_or_default();
    let succeeded = object.status.as_ref().and_then(|status| status.succeeded).unwrap_or_default();
    match (spec.completions, spec.parallelism.unwrap_or_default()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(object: &Object, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    match (status.start_time, status.completion_time) {
        (None, _) => String::new(),
        (Some(start), None) => printing::since(Some(start.0), now),
        (Some(start), Some(end)) => printing::since(Some(start.0), end.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(fields: Value) -> Object {
        let mut spec =
            json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        let mut object =
            serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec})).expect("a job");
        Job::set_defaults(&mut object);
        Job::prepare_for_create(&mut object);
        object
    }

    #[test]
    fn the_selector_is_generated() {
        let mut object = job(json!({}));
        assert_eq!(Job::validate(&object).to_string(), "[]");
        let spec = serde_json::to_value(&object.spec).expect("json");
        assert_eq!(spec["selector"], json!({"matchLabels": {UID_LABEL: "u"}}));
        assert_eq!(spec["template"]["metadata"]["labels"][NAME_LABEL], "j");
        assert_eq!(object.metadata.labels, None, "what is checked");
        Job::read_back(&mut object);
        assert_eq!(object.metadata.labels.map(|labels| labels.len()), Some(4));
        let pod = json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"});
        let labelled = job(json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}));
        assert_eq!(labelled.metadata.labels.map(|labels| labels.len()), Some(5));
        let manual = job(json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}}));
        let none = "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`";
        assert_eq!(Job::validate(&manual).to_string(), none);
        let own = job(json!({"selector": {"matchLabels": {"a": "b"}}}));
        assert!(Job::validate(&own).to_string().starts_with("[spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\"u\"}}: `selector` not auto-generated, spec.template.metadata.labels: Invalid value:"));
    }

    #[test]
    fn what_is_refused() {
        let always = json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
        assert_eq!(
            Job::validate(&job(always)).to_string(),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        );
        assert_eq!(
            Job::validate(&job(json!({"backoffLimit": -1}))).to_string(),
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"
        );
        let old = job(json!({}));
        let mut new = old.clone();
        new.spec.as_mut().expect("a spec").parallelism = Some(3);
        assert_eq!(Job::validate_update(&new, &old).to_string(), "[]");
        new.spec.as_mut().expect("a spec").completions = Some(3);
        assert_eq!(
            Job::validate_update(&new, &old).to_string(),
            "spec.completions: Invalid value: 3: field is immutable"
        );
        new.spec.as_mut().expect("a spec").completion_mode = Some("Indexed".to_owned());
        new.spec.as_mut().expect("a spec").completions = Some(2);
        let errors = Job::validate_update(&new, &old).to_string();
        assert!(
            errors.contains("spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism")
        );
    }

    #[test]
    fn labels_of_the_client_must_fit() {
        let spec = json!({"template": {"metadata": {"labels": {NAME_LABEL: "mine"}}, "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}});
        let errors = Job::validate(&job(spec));
        assert!(
            errors
                .to_string()
                .starts_with("spec.template.metadata.labels[batch.kubernetes.io/job-name]: Invalid value: {")
        );
        assert!(errors.to_string().ends_with(": must be 'j'"));
    }

    #[test]
    fn a_job_at_rest_may_be_scheduled_anew() {
        let mut old = job(json!({"suspend": true}));
        let mut new = old.clone();
        let pod = |object: &mut Object| object.spec.as_mut().and_then(|spec| spec.template.spec.take()).expect("a pod");
        let mut moved = pod(&mut new);
        moved.node_selector = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        moved.affinity =
            serde_json::from_value(json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]}}))
            .ok();
        new.spec.as_mut().expect("a spec").template.spec = Some(moved);
        assert_eq!(Job::validate_update(&new, &old).to_string(), "[]");
        old.spec.as_mut().expect("a spec").suspend = Some(false);
        assert!(Job::validate_update(&new, &old).to_string().ends_with(": field is immutable"));
    }

    #[test]
    fn cells() {
        let row = (Job::columns().cells)(&job(json!({})), Timestamp::UNIX_EPOCH);
        assert_eq!(row, ["j", "Running", "0/1", "", "<unknown>", "c", "i", "batch.kubernetes.io/controller-uid=u"]);
    }
}
