//! Event: one stored object with two faces, core/v1 ([`CoreEvent`], the stored form) and events.k8s.io/v1 ([`Event`]). The new
//! face asks for more and fixes what was said. Events expire one hour after their last write.

use std::time::Duration;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::Event as Object;
use serde_json::{Map, Value};

use super::printing::{self, NAME};
use super::{Column, Columns, Kind, MetadataCheck, ServedAs, checks};

/// The kind of core/v1.
pub struct CoreEvent;

/// The kind of events.k8s.io/v1.
pub struct Event;

const TTL: Duration = Duration::from_secs(60 * 60);

type Fields = &'static [(&'static str, &'static [&'static str])];

impl Kind for CoreEvent {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const FIELDS: Fields = &[
        ("involvedObject.kind", &["/involvedObject/kind"]),
        ("involvedObject.namespace", &["/involvedObject/namespace"]),
        ("involvedObject.name", &["/involvedObject/name"]),
        ("involvedObject.uid", &["/involvedObject/uid"]),
        ("involvedObject.apiVersion", &["/involvedObject/apiVersion"]),
        ("involvedObject.resourceVersion", &["/involvedObject/resourceVersion"]),
        ("involvedObject.fieldPath", &["/involvedObject/fieldPath"]),
        ("reason", &["/reason"]),
        ("reportingComponent", &["/reportingComponent"]),
        ("source", &["/source/component", "/reportingComponent"]),
        ("type", &["/type"]),
    ];
    const TTL: Option<Duration> = Some(TTL);
    const CREATE_ON_UPDATE: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[];

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        common(&mut errors, object, "reportingComponent");
        errors
    }

    /// Whatever can stand in a path.
    fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn columns() -> Columns<Object> {
        columns()
    }
}

impl Kind for Event {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const FIELDS: Fields = &[
        ("regarding.kind", &["/involvedObject/kind"]),
        ("regarding.namespace", &["/involvedObject/namespace"]),
        ("regarding.name", &["/involvedObject/name"]),
        ("regarding.uid", &["/involvedObject/uid"]),
        ("regarding.apiVersion", &["/involvedObject/apiVersion"]),
        ("regarding.resourceVersion", &["/involvedObject/resourceVersion"]),
        ("regarding.fieldPath", &["/involvedObject/fieldPath"]),
        ("reason", &["/reason"]),
        ("reportingController", &["/reportingComponent"]),
        ("type", &["/type"]),
    ];
    const TTL: Option<Duration> = Some(TTL);
    const CREATE_ON_UPDATE: bool = true;
    const SERVED_AS: Option<&'static ServedAs> = Some(&ServedAs {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        from_stored: |stored| translate(stored, "events.k8s.io/v1", |(old, new)| (old, new)),
        to_stored: |served| translate(served, "v1", |(old, new)| (new, old)),
    });

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        common(&mut errors, object, "reportingController");
        series(&mut errors, object);
        if object.event_time.is_none() {
            errors.push(FieldError::required(&FieldPath::root("eventTime"), ""));
        }
        let kind = object.type_.as_deref().unwrap_or_default();
        if !["Normal", "Warning"].contains(&kind) {
            errors.push(FieldError::invalid(&FieldPath::root("type"), "", format!("has invalid value: {kind}")));
        }
        let source = object.source.clone().unwrap_or_default();
        let unwanted = [
            ("firstTimestamp", object.first_timestamp.is_some()),
            ("lastTimestamp", object.last_timestamp.is_some()),
            ("count", object.count.unwrap_or_default() != 0),
            ("source", !source.component.unwrap_or_default().is_empty() || !source.host.unwrap_or_default().is_empty()),
        ];
        for (field, _) in unwanted.iter().filter(|(_, set)| *set) {
            errors.push(FieldError::invalid(&FieldPath::root(field), "", "needs to be unset"));
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        common(&mut errors, new, "reportingController");
        if new.series != old.series {
            series(&mut errors, new);
        }
        fixed(&mut errors, new, old);
        errors
    }

    fn columns() -> Columns<Object> {
        columns()
    }
}

/// What was said stays said; upstream looks at the reason twice.
fn fixed(errors: &mut FieldErrors, new: &Object, old: &Object) {
    let text = |errors: &mut FieldErrors, field: &str, new: &Option<String>, old: &Option<String>| {
        let (new, old) = (new.as_deref().unwrap_or_default(), old.as_deref().unwrap_or_default());
        checks::immutable(errors, &FieldPath::root(field), &new, &old);
    };
    let root = FieldPath::root;
    let reference = "v1.ObjectReference";
    checks::immutable_as(errors, &root("involvedObject"), reference, &new.involved_object, &old.involved_object);
    text(errors, "reason", &new.reason, &old.reason);
    text(errors, "message", &new.message, &old.message);
    let (now, before) = (new.source.clone().unwrap_or_default(), old.source.clone().unwrap_or_default());
    checks::immutable_as(errors, &root("source"), "v1.EventSource", &now, &before);
    checks::immutable(errors, &root("firstTimestamp"), &new.first_timestamp, &old.first_timestamp);
    checks::immutable(errors, &root("lastTimestamp"), &new.last_timestamp, &old.last_timestamp);
    checks::immutable(errors, &root("count"), &new.count.unwrap_or_default(), &old.count.unwrap_or_default());
    text(errors, "reason", &new.reason, &old.reason);
    text(errors, "type", &new.type_, &old.type_);
    checks::immutable(errors, &root("eventTime"), &new.event_time, &old.event_time);
    text(errors, "action", &new.action, &old.action);
    checks::immutable_as(errors, &root("related"), reference, &new.related, &old.related);
    text(errors, "reportingController", &new.reporting_component, &old.reporting_component);
    text(errors, "reportingInstance", &new.reporting_instance, &old.reporting_instance);
}

/// A series has more than one event, and a last one.
fn series(errors: &mut FieldErrors, event: &Object) {
    let Some(series) = &event.series else { return };
    if series.count.unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&FieldPath::root("series.count"), "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(FieldError::required(&FieldPath::root("series.lastObservedTime"), ""));
    }
}

/// Names of the fields that differ: in core/v1, in events.k8s.io/v1.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

type Pair = (&'static str, &'static str);

/// Renames the fields of a whole event; `direction` makes (from, to) of a pair of names.
fn translate(event: Value, api_version: &str, direction: fn(Pair) -> Pair) -> Value {
    let Value::Object(fields) = event else { return event };
    let mut renamed = Map::new();
    for (name, value) in fields {
        let to = RENAMED.iter().map(|pair| direction(*pair)).find(|(from, _)| *from == name);
        renamed.insert(to.map_or(name, |(_, to)| to.to_owned()), value);
    }
    if renamed.contains_key("apiVersion") {
        renamed.insert("apiVersion".to_owned(), Value::from(api_version));
    }
    // Fields that this version always writes.
    if api_version == "v1" {
        for field in ["reportingComponent", "reportingInstance"] {
            renamed.entry(field).or_insert_with(|| Value::from(""));
        }
    } else {
        for field in ["reportingController", "reportingInstance"] {
            if renamed.get(field).and_then(Value::as_str) == Some("") {
                renamed.remove(field);
            }
        }
    }
    Value::Object(renamed)
}

/// What both versions ask for; `controller` is how this version names the reporting component.
fn common(errors: &mut FieldErrors, object: &Object, controller: &str) {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let involved = object.involved_object.namespace.as_deref().unwrap_or_default();
    // Objects without a namespace are reported in the default namespace (and, by the new API, in kube-system).
    let home = ["", "default"].contains(&namespace) || (object.event_time.is_some() && namespace == "kube-system");
    let fits = if involved.is_empty() { home } else { involved == namespace };
    if !fits {
        let path = FieldPath::root("involvedObject").child("namespace");
        errors.push(FieldError::invalid(&path, involved, "does not match event.namespace"));
    }
    if object.event_time.is_some() {
        of_the_new_kind(errors, object, controller);
    }
    errors.push_invalid(&FieldPath::root("namespace"), namespace, names::is_dns1123_subdomain(namespace));
}

/// Events with a time of their own say who reports what.
fn of_the_new_kind(errors: &mut FieldErrors, object: &Object, controller: &str) {
    const LONG: usize = 128;
    const MESSAGE: usize = 1024;
    let reporter = object.reporting_component.as_deref().unwrap_or_default();
    checks::required(errors, &FieldPath::root(controller), reporter);
    errors.push_invalid(&FieldPath::root(controller), reporter, names::qualified_name(reporter));
    let texts = [
        ("reportingInstance", object.reporting_instance.as_deref()),
        ("action", object.action.as_deref()),
        ("reason", object.reason.as_deref()),
    ];
    for (field, text) in texts {
        let (path, text) = (FieldPath::root(field), text.unwrap_or_default());
        checks::required(errors, &path, text);
        if text.len() > LONG {
            errors.push(FieldError::invalid(&path, "", format!("can have at most {LONG} characters")));
        }
    }
    if object.message.as_ref().is_some_and(|message| message.len() > MESSAGE) {
        errors.push(FieldError::invalid(
            &FieldPath::root("message"),
            "",
            format!("can have at most {MESSAGE} characters"),
        ));
    }
}

fn columns() -> Columns<Object> {
    let columns = vec![
        printing::text("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
        printing::text("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
        printing::text(
            "Reason",
            "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
        ),
        printing::text("Object", "The object that this event is about."),
        printing::wide(
            "Subobject",
            "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2].",
        ),
        printing::wide(
            "Source",
            "The component reporting this event. Should be a short machine understandable string.",
        ),
        printing::text("Message", "A human-readable description of the status of this operation."),
        printing::wide(
            "First Seen",
            "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
        ),
        printing::wide("Count", "The number of times this event has occurred."),
        Column { priority: 1, ..NAME },
    ];
    Columns {
        columns,
        cells: |object, now| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let first_time =
                object.first_timestamp.as_ref().map(|time| time.0).or(object.event_time.as_ref().map(|time| time.0));
            let first = printing::since(first_time, now);
            let mut last =
                object.last_timestamp.as_ref().map_or_else(|| first.clone(), |time| printing::since(Some(time.0), now));
            let mut count = object.count.unwrap_or_default().max(1);
            if let Some(series) = &object.series {
                last = printing::since(series.last_observed_time.as_ref().map(|time| time.0), now);
                count = series.count.unwrap_or_default();
            }
            let involved = &object.involved_object;
            let kind = text(&involved.kind).to_lowercase();
            let about = match text(&involved.name) {
                name if name.is_empty() => kind,
                name => format!("{kind}/{name}"),
            };
            let source = object.source.clone().unwrap_or_default();
            let either = |a: Option<String>, b: &Option<String>| a.filter(|a| !a.is_empty()).unwrap_or_else(|| text(b));
            let component = either(source.component, &object.reporting_component);
            let source = match either(source.host, &object.reporting_instance) {
                host if host.is_empty() => component,
                host => format!("{component}, {host}"),
            };
            let fields = [last, text(&object.type_), text(&object.reason), about, text(&involved.field_path), source];
            let mut cells: Vec<Value> = fields.into_iter().map(Value::from).collect();
            cells.push(Value::from(text(&object.message).trim()));
            cells.push(Value::from(first));
            cells.push(Value::from(count));
            cells.push(printing::name(&object.metadata));
            cells
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(value: Value) -> Object {
        serde_json::from_value(value).expect("an event")
    }

    #[test]
    fn one_object_two_faces() {
        let served = Event::SERVED_AS.expect("the new face");
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "n"}, "regarding": {"kind": "Pod"}, "note": "m",
            "reportingController": "x.io/c", "reportingInstance": "i", "deprecatedSource": {}, "deprecatedCount": 2, "eventTime": null});
        let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "n"}, "involvedObject": {"kind": "Pod"}, "message": "m",
            "reportingComponent": "x.io/c", "reportingInstance": "i", "source": {}, "count": 2, "eventTime": null});
        assert_eq!((served.to_stored)(new.clone()), old);
        assert_eq!((served.from_stored)(old), new);
    }

    #[test]
    fn what_is_refused() {
        let about = json!({"kind": "Pod", "namespace": "ns", "name": "p"});
        let meta = json!({"name": "x", "namespace": "ns"});
        let old =
            event(json!({"metadata": meta, "involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "R"}));
        assert_eq!(
            CoreEvent::validate(&old).to_string(),
            "involvedObject.namespace: Invalid value: \"default\": does not match event.namespace"
        );
        let old = event(json!({"metadata": meta, "involvedObject": {}, "reason": "R"}));
        assert_eq!(
            CoreEvent::validate(&old).to_string(),
            "involvedObject.namespace: Invalid value: \"\": does not match event.namespace"
        );
        let new = event(json!({"metadata": meta, "involvedObject": about, "reason": "R", "type": "Normal"}));
        assert_eq!(Event::validate(&new).to_string(), "eventTime: Required value");
        let loud = event(
            json!({"metadata": meta, "involvedObject": about, "reason": "R", "type": "Loud", "eventTime": "2020-01-01T00:00:00.000001Z",
            "action": "Do", "reportingComponent": "x.io/c", "reportingInstance": "i"}),
        );
        assert_eq!(Event::validate(&loud).to_string(), "type: Invalid value: \"\": has invalid value: Loud");
        let mut other = loud.clone();
        other.message = Some("other".to_owned());
        assert_eq!(
            Event::validate_update(&other, &loud).to_string(),
            "message: Invalid value: \"other\": field is immutable"
        );
    }

    #[test]
    fn cells() {
        let object = event(
            json!({"metadata": {"name": "ev"}, "involvedObject": {"kind": "Pod", "name": "p1", "fieldPath": "spec.containers{c}"}, "reason": "Because",
            "message": "it happened ", "type": "Normal", "count": 3, "source": {"component": "me", "host": "h"},
            "firstTimestamp": "2020-01-01T00:00:00Z", "lastTimestamp": "2020-01-01T00:01:00Z"}),
        );
        let row = (columns().cells)(&object, "2020-01-01T00:03:00Z".parse().expect("a time"));
        let expected =
            json!(["2m", "Normal", "Because", "pod/p1", "spec.containers{c}", "me, h", "it happened", "3m", 3, "ev"]);
        assert_eq!(Value::from(row), expected);
    }
}
