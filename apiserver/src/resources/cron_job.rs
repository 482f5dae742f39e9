//! CronJob: jobs at times.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::batch::v1::{CronJob as Object, CronJobStatus};
use k8s_openapi::jiff::tz::TimeZone;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks, job, name_or_prefix, pod_spec};

mod schedule;

/// See the module.
pub struct CronJob;

/// Jobs get a suffix of up to 11 characters, and their names are labels.
const MAX_NAME: usize = 52;

impl Kind for CronJob {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const GENERATION: bool = true;

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
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("spec");
        let spec = object.spec.clone();
        let zone_inside = spec.schedule.contains("TZ");
        if spec.schedule.is_empty() {
            errors.push(FieldError::required(&path.child("schedule"), ""));
        } else if zone_inside {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(FieldError::invalid(&path.child("schedule"), &spec.schedule, detail));
        } else if let Err(why) = schedule::parse(&spec.schedule) {
            errors.push(FieldError::invalid(&path.child("schedule"), &spec.schedule, why.to_string()));
        }
        checks::non_negative_option(
            &mut errors,
            &path.child("startingDeadlineSeconds"),
            spec.starting_deadline_seconds,
        );
        if let Some(zone) = &spec.time_zone {
            time_zone(&mut errors, &path.child("timeZone"), zone);
        }
        let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
        checks::required_one_of(&mut errors, &path.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
        let template = spec.job_template.spec.unwrap_or_default();
        job::check::template_spec(&mut errors, &path.child("jobTemplate").child("spec"), &template);
        checks::non_negative_option(
            &mut errors,
            &path.child("successfulJobsHistoryLimit"),
            spec.successful_jobs_history_limit,
        );
        checks::non_negative_option(&mut errors, &path.child("failedJobsHistoryLimit"), spec.failed_jobs_history_limit);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME {
            let detail = format!("must be no more than {MAX_NAME} characters");
            errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, detail));
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::is_dns1123_subdomain, name, prefix)
    }

    fn columns() -> Columns<Object> {
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
            printing::wide("Containers", "Names of each container in the template."),
            printing::wide("Images", "Images referenced by each container in the template."),
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
                let (containers, images) = printing::containers(job.template.spec.as_ref());
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
                    Value::from(containers),
                    Value::from(images),
                    Value::from(printing::selector(job.selector.as_ref())),
                ]
            },
        }
    }
}

fn time_zone(errors: &mut FieldErrors, path: &FieldPath, zone: &str) {
    if zone.is_empty() {
        errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
    } else if zone.eq_ignore_ascii_case("local") {
        errors.push(FieldError::invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ));
    } else if TimeZone::get(zone).is_err() {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
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
    fn cells() {
        let row = (CronJob::columns().cells)(&cron(json!({"suspend": true})), k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::from(row),
            json!(["c", "*/5 * * * *", "<none>", "True", 0, "<none>", "<unknown>", "c", "i", "<none>"])
        );
    }
}
