//! A patch carried out on the text of the stored object. Entry point: [`apply`].
//!
//! Most patches change a label or a status and nothing else: only the members that a patch names are read, merged and written
//! anew; the others are copied as they stand, and the whole is decoded once. Invariant: the outcome is that of
//! [`super::Patch::apply`] on the whole object; where a patch asks for a closer look there is none.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Patch, PatchType, json, strategic};
use crate::draft;
use crate::http::body;
use crate::http::options::FieldValidation;
use crate::object::Object;
use crate::resources::{Strategy, schema, wire};
use crate::write::Stored;
use crate::write::members::{self, Members, is_object};

/// Directives about a list that stand next to it.
const BESIDE_LISTS: [&str; 2] = ["$setElementOrder/", "$deleteFromPrimitiveList/"];
/// What can't be told from a part: the kind of the object, owners, selectors (an empty one is told from a missing one).
const WHOLE: [&str; 4] = ["kind", "apiVersion", "managedFields", "selector"];

/// The patched object with its defaults.
pub fn apply(patch: &Patch, strategy: &dyn Strategy, stored: &Stored) -> Option<Box<dyn Object>> {
    let info = strategy.info();
    if info.custom || strategy.served_as().is_some() || patch.patch_type == PatchType::Json {
        return None;
    }
    let ty = schema::of(&info.api_version(), &info.kind)?;
    let changes = body::json::parse(&patch.text).ok().filter(|parsed| !parsed.duplicates)?.value;
    if changes.get("metadata").is_some_and(|meta| !meta.is_object()) {
        return None;
    }
    let current = members::of(&stored.bytes)?;
    let mut merged = Value::Object(named(&current, changes.as_object()?)?);
    match (patch.patch_type, &mut merged) {
        (PatchType::Strategic, Value::Object(fields)) => {
            strategic::merge(Some(ty), fields, changes.as_object()?.clone()).ok()?;
        }
        _ => json::merge(&mut merged, &changes),
    }
    if body::bounds::is_too_deep(&merged, body::bounds::MAX_DEPTH)
        || (patch.validation != FieldValidation::Ignore && !body::is_known(ty, &merged))
    {
        return None;
    }
    wire::accept(&info.api_version(), &info.kind, &mut merged).ok()?;
    wire::leave_out_empty(&info.api_version(), &info.kind, &mut merged, true);
    let (changes, merged) = (changes.as_object()?, merged.as_object()?);
    let mut object = match (merged.get("metadata").and_then(Value::as_object), changes.len()) {
        (Some(merged), 1) => with_metadata(stored, current.get("metadata")?, changes.get("metadata")?, merged)?,
        _ => draft::with(|text| {
            splice(text, &current, changes, merged)?;
            strategy.decode_stored(text).ok()
        })?,
    };
    strategy.set_defaults(object.as_mut());
    if changes.get("metadata").is_none_or(|meta| meta.get("resourceVersion").is_none()) {
        object.metadata_mut().resource_version = Some(stored.revision.to_string());
    }
    Some(object)
}

/// A copy of the stored object with other metadata: cheaper than to read it once more.
fn with_metadata(
    stored: &Stored,
    current: &RawValue,
    changes: &Value,
    merged: &Map<String, Value>,
) -> Option<Box<dyn Object>> {
    let mut members = members::below(current)?;
    members.remove("managedFields");
    let meta: ObjectMeta = draft::with(|text| {
        splice(text, &members, changes.as_object()?, merged)?;
        serde_json::from_slice(text).ok()
    })?;
    let mut object = stored.object.clone_object();
    let managed_fields = object.metadata_mut().managed_fields.take();
    *object.metadata_mut() = ObjectMeta { managed_fields, ..meta };
    Some(object)
}

/// Of an object what a patch needs to know: the members that it names, and of objects among them only those that it names there.
fn named(current: &Members<'_>, changes: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut needed = Map::new();
    for (name, change) in changes {
        let name = BESIDE_LISTS.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        if name.starts_with('$') || WHOLE.contains(&name) {
            return None;
        }
        let Some(raw) = current.get(name) else { continue };
        let value = match change {
            Value::Object(changes) if is_object(raw) => Value::Object(named(&members::below(raw)?, changes)?),
            _ => serde_json::from_str(raw.get()).ok()?,
        };
        needed.insert(name.to_owned(), value);
    }
    Some(needed)
}

/// Writes the object as the patch has made it.
fn splice(
    out: &mut Vec<u8>,
    current: &Members<'_>,
    changes: &Map<String, Value>,
    merged: &Map<String, Value>,
) -> Option<()> {
    out.push(b'{');
    for (name, raw) in current {
        match (changes.get(*name), merged.get(*name)) {
            (Some(Value::Object(changes)), Some(Value::Object(merged))) if is_object(raw) => {
                begin(out, name)?;
                splice(out, &members::below(raw)?, changes, merged)?;
            }
            (Some(_), None) => {}
            (_, Some(value)) => {
                begin(out, name)?;
                serde_json::to_writer(&mut *out, value).ok()?;
            }
            (None, None) => {
                begin(out, name)?;
                out.extend_from_slice(raw.get().as_bytes());
            }
        }
    }
    for (name, value) in merged.iter().filter(|(name, _)| !current.contains_key(name.as_str())) {
        begin(out, name)?;
        serde_json::to_writer(&mut *out, value).ok()?;
    }
    out.push(b'}');
    Some(())
}

fn begin(out: &mut Vec<u8>, name: &str) -> Option<()> {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name).ok()?;
    out.push(b':');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::table;
    use api::names::Revision;
    use serde_json::json;

    /// The text of a pod and a service as they are stored.
    fn objects() -> Vec<(&'static str, Value)> {
        let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "\"}{"}]);
        let container = json!({"name": "c", "image": "i", "env": env, "resources": {"requests": {"cpu": "1"}}});
        let owner = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}});
        let meta = json!({"name": "x", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": "2"}, "finalizers": ["a.org/f"],
            "managedFields": [owner]});
        vec![
            (
                "Pod",
                json!({"metadata": meta, "spec": {"containers": [container], "nodeName": "n"}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]}}),
            ),
            (
                "Service",
                json!({"metadata": meta, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http"}]}}),
            ),
            ("ConfigMap", json!({"metadata": meta, "data": {"a": "b"}})),
        ]
    }

    fn patches() -> Vec<Value> {
        vec![
            json!({}),
            json!({"metadata": {"labels": {"a": "2", "c": "3"}}}),
            json!({"metadata": {"labels": {"a": null, "b": null}}}),
            json!({"metadata": {"labels": null, "annotations": {"new": "1", "gone": null}}}),
            json!({"metadata": {"finalizers": null, "resourceVersion": "7"}}),
            json!({"metadata": {"finalizers": ["a.org/g"], "resourceVersion": null}}),
            json!({"metadata": {"labels": {}, "name": "other"}}),
            json!({"spec": {"nodeName": null, "tolerations": [{"key": "k", "operator": "Exists", "value": null}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "j", "resources": {"limits": {"cpu": 0.5}}}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [{"name": "c", "image": "j"}]}}),
            json!({"spec": {"containers": [{"name": "c", "env": [{"name": "A", "$patch": "delete"}]}]}}),
            json!({"status": {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}, {"type": "New", "status": "True"}]}}),
            json!({"status": {"conditions": []}}),
            json!({"data": {"b": "c"}, "binaryData": {"x": "eA=="}}),
            json!({"data": null}),
            json!({"data": []}),
            json!({"spec": {"ports": [{"port": 80, "name": "p"}], "clusterIP": "None"}}),
            json!({"spec": {"unknown": 1}}),
            json!({"spec": {"unknown": null}}),
            json!({"spec": {"nodeName": 1}}),
            json!({"spec": {"nodeName": "", "hostNetwork": false, "tolerations": [], "nodeSelector": {}}}),
            json!({"spec": {"$patch": "replace", "containers": []}}),
            json!({"spec": {"selector": {"a": null}}}),
            json!({"kind": "Other"}),
            json!({"metadata": {"managedFields": []}}),
            json!({"status": 1}),
        ]
    }

    #[test]
    fn a_part_is_patched_as_the_whole_is() {
        let rows = table();
        let mut carried_out = 0;
        for (kind, object) in objects() {
            let row = rows.iter().find(|row| row.info().kind == kind).expect("it is a kind");
            let strategy = row.as_ref();
            let bytes = bytes::Bytes::from(strategy.decode(object).expect("decoded").to_bytes());
            let mut object = strategy.decode_stored(&bytes).expect("decoded");
            object.metadata_mut().resource_version = Some("5".to_owned());
            let stored = Stored { object: object.into(), bytes, revision: Revision(5) };
            for (change, patch_type) in
                patches().iter().flat_map(|patch| [(patch, PatchType::Merge), (patch, PatchType::Strategic)])
            {
                let text = bytes::Bytes::from(change.to_string());
                let patch = Patch { patch_type, text, validation: FieldValidation::Strict };
                let whole = patch.apply(strategy, stored.object.to_value());
                let whole = whole.and_then(|whole| body::decode_value(strategy, whole.value));
                let Some(part) = apply(&patch, strategy, &stored) else { continue };
                let whole = whole.unwrap_or_else(|error| panic!("{kind} {change}: {}", error.message));
                assert_eq!(part.to_value(), whole.to_value(), "{kind} {change}");
                assert_eq!(part.metadata().resource_version, whole.metadata().resource_version, "{kind} {change}");
                carried_out += 1;
            }
        }
        assert!(carried_out > 60, "only {carried_out} were carried out on the text");
    }
}
