//! `/scale`: how many replicas an object wants and has, as an autoscaling/v1 Scale. Entry points: [`get`], [`update`].

use api::{ApiError, FieldError, FieldPath, GroupKind, GroupResource, LabelSelector};
use async_trait::async_trait;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as MetaSelector, ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::patch::Patch;
use super::{Change, Decision, Place, Stored, Wanted, commit, metadata, tracking};
use crate::admission::{Operation, Other};
use crate::http::body::decode_value;
use crate::object::Object;
use crate::resources::Strategy;
use crate::resources::custom::scale::{number_at, set_number, text_at};

/// What the Scale becomes.
pub enum NewScale {
    /// This.
    Object(Value),
    /// The current one with these changes.
    Patch(Patch),
    /// The current one with these fields of a manager.
    Apply(Wanted),
}

/// The Scale of an object.
pub fn get(strategy: &dyn Strategy, object: &dyn Object) -> Scale {
    let value = object.to_value();
    let meta = object.metadata();
    let (wanted, current, selector) = match strategy.scale_paths() {
        Some(paths) => {
            let number = |steps| number_at(&value, steps).ok().flatten().and_then(|number| i32::try_from(number).ok());
            let selector = paths.selector.as_ref().and_then(|steps| text_at(&value, steps).ok().flatten());
            (number(&paths.spec).or(Some(0)), number(&paths.status), selector)
        }
        None => (integer(&value, "/spec/replicas"), integer(&value, "/status/replicas"), selector(&value)),
    };
    Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec { replicas: wanted }),
        status: Some(ScaleStatus { replicas: current.unwrap_or(0), selector }),
    }
}

/// As [`get`], for a client: a kind that was defined at run time may have no number of replicas yet.
pub fn read(strategy: &dyn Strategy, object: &dyn Object) -> Result<Scale, ApiError> {
    if let Some(paths) = strategy.scale_paths()
        && number_at(&object.to_value(), &paths.spec).map_err(ApiError::internal)?.is_none()
    {
        let path = api::field::go_quote(&format!(".{}", paths.spec.join(".")));
        return Err(ApiError::internal(format!("the spec replicas field {path} does not exist")));
    }
    Ok(get(strategy, object))
}

fn integer(value: &Value, pointer: &str) -> Option<i32> {
    value.pointer(pointer).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
}

/// The selector as the query that finds the pods.
fn selector(value: &Value) -> Option<String> {
    let selector = value.pointer("/spec/selector")?;
    let structured =
        selector.get("matchLabels").is_some_and(Value::is_object) || selector.get("matchExpressions").is_some();
    let selector = if structured {
        LabelSelector::from_meta(&serde_json::from_value::<MetaSelector>(selector.clone()).ok()?).ok()?
    } else {
        LabelSelector::from_map(&serde_json::from_value(selector.clone()).ok()?)
    };
    Some(selector.to_string())
}

/// The JSON of a Scale as Go writes it.
pub fn to_value(scale: &Scale) -> Value {
    let mut value = serde_json::to_value(scale).unwrap_or_default();
    crate::resources::wire::canonical("autoscaling/v1", "Scale", &mut value);
    value
}

/// Writes the number of replicas; answers the new Scale.
pub async fn update(at: &Place<'_>, new: NewScale) -> Result<Scale, ApiError> {
    if let NewScale::Object(value) = &new {
        head(at, &decode(value.clone())?)?;
    }
    let committed = commit(at, &at.key(at.name), &mut ScaleTo { at: *at, new }).await?;
    Ok(get(at.strategy, committed.object.as_ref()))
}

struct ScaleTo<'a> {
    at: Place<'a>,
    new: NewScale,
}

#[async_trait]
impl Change for ScaleTo<'_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        let at = self.at;
        let stored = current.ok_or_else(|| at.not_found())?;
        let (mut scale, owners) = self.wanted(stored)?;
        let old = stored.object.as_ref();
        let mut other = Other { old: Some(to_value(&get(at.strategy, old))), ..Other::of(&scale) };
        at.mutate_other(Operation::Update, &mut scale, &mut other).await?;
        let replicas = check(&at, &scale, stored)?;
        let mut value = old.to_value();
        match at.strategy.scale_paths() {
            Some(paths) => set_number(&mut value, &paths.spec, replicas),
            None => {
                if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.insert("replicas".to_owned(), Value::from(replicas));
                }
            }
        }
        let mut object = decode_value_stored(&at, value)?;
        object.metadata_mut().managed_fields = owners;
        at.strategy.prepare_for_update(object.as_mut(), old);
        if at.strategy.generation() && !at.strategy.same_desired(object.as_ref(), old) {
            object.metadata_mut().generation = Some(old.metadata().generation.unwrap_or(0) + 1);
        }
        let errors = at.strategy.validate_update(object.as_ref(), old);
        if !errors.is_empty() {
            return Err(ApiError::invalid(&at.info().group_kind(), at.name, errors));
        }
        at.check_admission_of(Operation::Update, Some(object.as_ref()), Some(old), Some(&other)).await?;
        Ok(Decision::Write(object))
    }
}

impl ScaleTo<'_> {
    /// The wanted Scale, and who owns the fields of its object then.
    fn wanted(&self, stored: &Stored) -> Result<(Scale, Option<Vec<ManagedFieldsEntry>>), ApiError> {
        let old = to_value(&get(self.at.strategy, stored.object.as_ref()));
        let new = match &self.new {
            NewScale::Apply(wanted) => {
                let (new, owners) = tracking::applied_scale(&self.at, stored, old, wanted)?;
                return Ok((decode(new)?, owners));
            }
            NewScale::Object(value) => {
                let scale = decode(value.clone())?;
                if let Some(why) = other_uid(&scale, stored) {
                    return Err(self.at.not_met(&why));
                }
                scale
            }
            NewScale::Patch(patch) => {
                let patched = patch.apply_as("autoscaling/v1", "Scale", old.clone())?;
                self.at.warnings.extend(patched.warnings);
                decode(patched.value)?
            }
        };
        let owners = tracking::track_scale(&self.at, stored, &old, &to_value(&new));
        Ok((new, owners))
    }
}

fn decode(mut value: Value) -> Result<Scale, ApiError> {
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), Value::from("autoscaling/v1"));
        fields.insert("kind".to_owned(), Value::from("Scale"));
    }
    serde_json::from_value(value).map_err(|error| {
        ApiError::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: json: {error}"))
    })
}

/// The metadata of a Scale, if it is of the object that the URL names.
fn head(at: &Place<'_>, scale: &Scale) -> Result<ObjectMeta, ApiError> {
    let mut head = scale.metadata.clone();
    metadata::match_namespace(&mut head, at.info(), at.namespace)?;
    metadata::match_name(&head, at.name)?;
    Ok(head)
}

/// Why the Scale is of another object than the one that is stored, if it says so.
fn other_uid(scale: &Scale, stored: &Stored) -> Option<String> {
    let uid = scale.metadata.uid.as_deref().filter(|uid| !uid.is_empty())?;
    let found = stored.metadata().uid.as_deref().unwrap_or_default();
    (uid != found).then(|| format!("UID in precondition: {uid}, UID in object meta: {found}"))
}

/// The wanted number, if the Scale is valid and of this object and version. That of a kind that was defined at run
/// time is checked as a part of the object.
fn check(at: &Place<'_>, scale: &Scale, stored: &Stored) -> Result<i32, ApiError> {
    let head = head(at, scale)?;
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let resource = at.info().group_resource();
    if !at.info().custom {
        let mut errors = metadata::validate(&head, at.info(), &|name, _| api::names::is_dns1123_subdomain(name));
        if replicas < 0 {
            let path = FieldPath::root("spec").child("replicas");
            errors.push(FieldError::invalid(&path, replicas, "must be greater than or equal to 0"));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(&GroupKind::new("autoscaling", "Scale"), at.name, errors));
        }
        if let Some(why) = other_uid(scale, stored) {
            let scale = GroupResource::new(&resource.group, &format!("{}/scale", resource.resource));
            return Err(ApiError::conflict(&scale, at.name, &format!("Precondition failed: {why}")));
        }
    }
    let given = scale.metadata.resource_version.as_deref().unwrap_or_default();
    if !matches!(given, "" | "0") && given != stored.revision.to_string() {
        return Err(ApiError::conflict(&resource, at.name, api::error::MODIFIED));
    }
    Ok(replicas)
}

/// A value in the stored form as an object.
fn decode_value_stored(at: &Place<'_>, value: Value) -> Result<Box<dyn Object>, ApiError> {
    match at.strategy.served_as() {
        Some(served) => decode_value(at.strategy, (served.from_stored)(value)),
        None => decode_value(at.strategy, value),
    }
}
