//! CronJob: jobs at times.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::batch::v1::{CronJob as Object, CronJobSpec, CronJobStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, job, name_or_prefix, pod_spec, workload};

mod schedule;

/// See the module.
pub struct CronJob;

/// Jobs get a suffix of up to 11 characters, and their names are labels.
const MAX_NAME: usize = 52;
const MAX_ZONE_PART: usize = 14;

impl Kind for CronJob {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        Some(&mut object.spec.job_template.spec.as_mut()?.template)
    }

    fn set_defaults(object: &mut Object) {
        let spec = &mut object.spec;
        if spec.concurrency_policy.as_deref().unwrap_or_default().is_empty() {
            spec.concurrency_policy = Some("Allow".to_owned());
        }
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        pod_spec::set_template_defaults(&mut spec.job_template.spec.get_or_insert_default().template);
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(CronJobStatus::default());
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = validate_spec(&object.spec, None);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME {
            let detail = format!("must be no more than {MAX_NAME} characters");
            errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, detail));
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        validate_spec(&new.spec, Some(&old.spec))
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let mut warnings: Vec<String> =
            workload::name_warning(&new.metadata, old.map(|old| &old.metadata)).into_iter().collect();
        if workload::desires_more(&new.metadata, old.map(|old| &old.metadata)) {
            let path = FieldPath::root("spec").child("jobTemplate").child("spec");
            warnings.extend(job::spec_warnings(&path, &new.spec.job_template.spec.clone().unwrap_or_default()));
        }
        if new.spec.schedule.contains("TZ") {
            // Upstream's path is not that of the field.
            warnings.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead".to_owned());
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
            printing::text("Schedule", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
            printing::text(
                "Timezone",
                "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If not specified, this will default to the time zone of the kube-controller-manager process. The set of valid time zone names and the time zone offset is loaded from the system-wide time zone database by the API server during CronJob validation and the controller manager during execution. If no system-wide time zone database can be found a bundled version of the database is used instead. If the time zone name becomes invalid during the lifetime of a CronJob or due to a change in host configuration, the controller will stop creating new new Jobs and will create a system event with the reason UnknownTimeZone. More information can be found in https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones",
            ),
            printing::boolean(
                "Suspend",
                "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions. Defaults to false.",
            ),
            printing::integer("Active", "A list of pointers to currently running jobs."),
            printing::text("Last Schedule", "Information when was the last time the job was successfully scheduled."),
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
                let (spec, status) = (object.spec.clone(), object.status.clone().unwrap_or_default());
                let job = spec.job_template.spec.unwrap_or_default();
                let [containers, images] = workload::container_cells(Some(&job.template));
                let suspended = match spec.suspend {
                    Some(true) => "True",
                    Some(false) => "False",
                    None => "<unset>",
                };
                let last =
                    status.last_schedule_time.map_or("<none>".to_owned(), |time| printing::since(Some(time.0), now));
                vec![
                    printing::name(&object.metadata),
                    Value::from(spec.schedule),
                    Value::from(spec.time_zone.unwrap_or_else(|| "<none>".to_owned())),
                    Value::from(suspended),
                    Value::from(status.active.map_or(0, |active| active.len())),
                    Value::from(last),
                    printing::age(&object.metadata, now),
                    containers,
                    images,
                    Value::from(printing::selector(job.selector.as_ref())),
                ]
            },
        }
    }
}

/// All errors of a spec. A time zone that was there before may stay.
fn validate_spec(spec: &CronJobSpec, old: Option<&CronJobSpec>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    schedule_errors(&mut errors, &path.child("schedule"), spec, old);
    checks::non_negative_option(&mut errors, &path.child("startingDeadlineSeconds"), spec.starting_deadline_seconds);
    if let Some(zone) = &spec.time_zone
        && old.is_none_or(|old| old.time_zone != spec.time_zone)
    {
        time_zone(&mut errors, &path.child("timeZone"), zone);
    }
    let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
    checks::required_one_of(&mut errors, &path.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
    let job_path = path.child("jobTemplate").child("spec");
    let job = spec.job_template.spec.clone().unwrap_or_default();
    job::check::template_spec(&mut errors, &job_path, &job);
    if let Some(selector) = &job.selector {
        errors.push(FieldError::invalid(&job_path.child("selector"), selector, "`selector` will be auto-generated"));
    }
    if job.manual_selector == Some(true) {
        errors.push(checks::unsupported(&job_path.child("manualSelector"), true, &["nil", "false"]));
    }
    let limits = [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ];
    for (name, limit) in limits {
        checks::non_negative_option(&mut errors, &path.child(name), limit);
    }
    errors
}

/// A schedule names no time zone, unless it did so before.
fn schedule_errors(errors: &mut FieldErrors, path: &FieldPath, spec: &CronJobSpec, old: Option<&CronJobSpec>) {
    if spec.schedule.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if let Err(why) = schedule::parse(&spec.schedule) {
        errors.push(FieldError::invalid(path, &spec.schedule, why.to_string()));
    }
    let known = old.is_some_and(|old| old.schedule.contains("TZ"));
    let detail = match (spec.schedule.contains("TZ"), known) {
        (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        (true, true) if spec.time_zone.is_some() => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        (_, _) => return,
    };
    errors.push(FieldError::invalid(path, &spec.schedule, detail));
}

fn time_zone(errors: &mut FieldErrors, path: &FieldPath, zone: &str) {
    if zone.is_empty() {
        errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let unknown = FieldError::invalid(path, zone, format!("unknown time zone {zone}"));
    let part_fits = |part: &str| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
        letters && (1..=MAX_ZONE_PART).contains(&part.len()) && !part.starts_with('-') && part != "." && part != ".."
    };
    if !zone.split('/').all(part_fits) {
        errors.push(unknown);
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, detail));
    }
    if zone != "Local" && !schedule::is_zone(zone) {
        errors.push(unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cron(fields: Value) -> Object {
        let mut spec = json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}}}}});
        for (name, value) in fields.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        let mut object = serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).expect("a cron job");
        CronJob::set_defaults(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (json!({}), "[]"),
            (
                json!({"schedule": "every day"}),
                "spec.schedule: Invalid value: \"every day\": expected exactly 5 fields, found 2: [every day]",
            ),
            (
                json!({"schedule": "TZ=UTC * * * * *"}),
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (json!({"schedule": ""}), "spec.schedule: Required value"),
            (
                json!({"schedule": "TZ=Mars never"}),
                "[spec.schedule: Invalid value: \"TZ=Mars never\": provided bad location Mars: unknown time zone Mars, spec.schedule: Invalid value: \"TZ=Mars never\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead]",
            ),
            (
                json!({"timeZone": "local"}),
                "[spec.timeZone: Invalid value: \"local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones, spec.timeZone: Invalid value: \"local\": unknown time zone local]",
            ),
            (json!({"timeZone": "-a/b"}), "spec.timeZone: Invalid value: \"-a/b\": unknown time zone -a/b"),
            (
                json!({"timeZone": "Mars/North"}),
                "spec.timeZone: Invalid value: \"Mars/North\": unknown time zone Mars/North",
            ),
            (
                json!({"concurrencyPolicy": "Twice"}),
                "spec.concurrencyPolicy: Unsupported value: \"Twice\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(CronJob::validate(&cron(fields)).to_string(), message);
        }
    }

    #[test]
    fn what_was_there_may_stay() {
        let (old, mut new) =
            (cron(json!({"schedule": "TZ=UTC * * * * *"})), cron(json!({"schedule": "TZ=UTC 1 * * * *"})));
        new.metadata.name = Some("n".repeat(60));
        assert_eq!(CronJob::validate_update(&new, &old).to_string(), "[]");
        new.spec.time_zone = Some("UTC".to_owned());
        new.spec.job_template.spec.as_mut().expect("a job").manual_selector = Some(true);
        assert_eq!(
            CronJob::validate_update(&new, &old).to_string(),
            "[spec.schedule: Invalid value: \"TZ=UTC 1 * * * *\": cannot use both timeZone field and TZ or CRON_TZ in schedule, spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"]"
        );
        assert_eq!(
            CronJob::warnings(&new, None),
            ["cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead"]
        );
    }

    #[test]
    fn cells() {
        let row = (CronJob::columns().cells)(&cron(json!({"suspend": true})), k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::from(row),
            json!(["c", "*/5 * * * *", "<none>", "True", 0, "<none>", "<unknown>", "c", "i", "<none>"])
        );
    }
}
