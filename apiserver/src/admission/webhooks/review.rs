//! What a webhook is asked and what it answers: `admission.k8s.io` AdmissionReview. Data in, data out.
//!
//! Entry points: [`Review::to_value`], [`read`], [`denial`].
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>.

use std::collections::BTreeMap;

use api::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::matching::{self, Row};
use super::super::{Attributes, Context, Operation};

const GROUP: &str = "admission.k8s.io";

/// A version of AdmissionReview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    pub(super) fn parse(version: &str) -> Option<Self> {
        match version {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// A question.
pub(super) struct Review<'a> {
    pub(super) uid: String,
    pub(super) version: ReviewVersion,
    pub(super) attributes: &'a Attributes<'a>,
    pub(super) context: &'a Context<'a>,
    pub(super) row: &'a Row,
    pub(super) object: Value,
    pub(super) old: Value,
}

impl Review<'_> {
    /// As it is sent.
    pub(super) fn to_value(&self) -> Value {
        let Self { attributes, context, .. } = self;
        let asked = self.row.strategy(context).info();
        let own = attributes.resource;
        let kind = |info: &crate::resources::ResourceInfo| match context.other {
            Some(other) => json!({"group": other.group, "version": other.version, "kind": other.kind}),
            None => json!({"group": info.group, "version": info.version, "kind": info.kind}),
        };
        let resource = |info: &crate::resources::ResourceInfo| json!({"group": info.group, "version": info.version, "resource": info.plural});
        let mut request = json!({
            "uid": self.uid,
            "kind": kind(asked),
            "resource": resource(asked),
            "requestKind": kind(own),
            "requestResource": resource(own),
            "operation": attributes.operation.as_str(),
            "userInfo": user(attributes),
            "object": self.object,
            "oldObject": self.old,
            "dryRun": attributes.dry_run,
            "options": context.place.options.to_value(attributes.operation == Operation::Create),
        });
        let subresource = attributes.subresource.map_or("", |subresource| subresource.as_str());
        let texts = [
            ("subResource", subresource),
            ("requestSubResource", subresource),
            ("name", attributes.name),
            ("namespace", matching::namespace(attributes)),
        ];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            request[name] = text.into();
        }
        let api_version = format!("{GROUP}/{}", self.version.as_str());
        json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request})
    }
}

fn user(attributes: &Attributes<'_>) -> Value {
    let user = attributes.user;
    let mut info = Map::new();
    if !user.name.is_empty() {
        info.insert("username".to_owned(), user.name.as_str().into());
    }
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}

/// An answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reviewed {
    pub(super) allowed: bool,
    /// The operations of a JSON patch; empty for none.
    pub(super) patch: Vec<Value>,
    pub(super) status: Option<Status>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    allowed: Option<bool>,
    status: Option<Status>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Reads an answer; the error is what upstream says after `failed calling webhook "…": `.
pub(super) fn read(answer: Value, uid: &str, version: ReviewVersion, mutating: bool) -> Result<Reviewed, String> {
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let response = match answer.get("response") {
        None | Some(Value::Null) => return Err(invalid("webhook response was absent".to_owned())),
        Some(response) => {
            Response::deserialize(response).map_err(|error| format!("failed to call webhook: json: {error}"))?
        }
    };
    if version == ReviewVersion::V1 {
        let found = response.uid.as_deref().unwrap_or_default();
        if found != uid {
            let (wanted, found) = (api::field::go_quote(uid), api::field::go_quote(found));
            return Err(invalid(format!("expected response.uid={wanted}, got {found}")));
        }
        if (api_version.as_str(), kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
            let wanted = "admission.k8s.io/v1, Kind=AdmissionReview";
            let found = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
            return Err(invalid(format!("expected webhook response of {wanted}, got {found}, Kind={kind}")));
        }
    }
    let has_patch = response.patch.as_deref().is_some_and(|patch| !patch.is_empty());
    if version == ReviewVersion::V1 {
        check_patch(has_patch, response.patch_type.as_deref(), mutating).map_err(invalid)?;
    }
    let allowed = response.allowed.unwrap_or_default();
    let patch = match &response.patch {
        Some(patch) if has_patch && mutating && allowed => {
            let patch_type = if version == ReviewVersion::V1 { response.patch_type.as_deref() } else { None };
            operations(patch, patch_type.unwrap_or("JSONPatch"))?
        }
        Some(_) | None => Vec::new(),
    };
    Ok(Reviewed {
        allowed,
        patch,
        status: response.status,
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

fn check_patch(has_patch: bool, patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let wrong = match (mutating, has_patch, patch_type) {
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, true, _) => "validating webhook may not return response.patch",
        (false, false, Some(_)) => "validating webhook may not return response.patchType",
        (true, true, Some(_)) | (_, false, None) => return Ok(()),
    };
    Err(wrong.to_owned())
}

/// The operations of a patch as it is sent: JSON in base64.
fn operations(patch: &str, patch_type: &str) -> Result<Vec<Value>, String> {
    let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
    let bytes = STANDARD.decode(patch).map_err(|error| format!("failed to call webhook: {error}"))?;
    let operations = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Array(operations)) => operations,
        Ok(Value::Null) => Vec::new(),
        Ok(other) => {
            let found = match other {
                Value::Object(_) => "object",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Number(_) | Value::Null | Value::Array(_) => "number",
            };
            let why = format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Patch");
            return Err(undecodable(why));
        }
        Err(error) => return Err(undecodable(error.to_string())),
    };
    if !operations.is_empty() && patch_type != "JSONPatch" {
        return Err(format!("unsupported patch type {}", api::field::go_quote(patch_type)));
    }
    Ok(operations)
}

/// The error of a request that a webhook refuses.
pub(super) fn denial(webhook: &str, status: Option<Status>) -> ApiError {
    let mut status = status.unwrap_or_default();
    status.code = Some(status.code.unwrap_or(0).max(400));
    status.status = Some("Failure".to_owned());
    let denied = format!("admission webhook {} denied the request", api::field::go_quote(webhook));
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let why = given(&status.message).or_else(|| given(&status.reason));
    status.message = Some(match why {
        Some(why) => format!("{denied}: {why}"),
        None => format!("{denied} without explanation"),
    });
    ApiError::from_status(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Value {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
    }

    #[test]
    fn answers_that_are_none() {
        let patch = STANDARD.encode(r#"[{"op":"add","path":"/a","value":1}]"#);
        let table = [
            (
                true,
                json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}),
                "webhook response was absent",
            ),
            (true, answer(json!({"uid": "y"})), "expected response.uid=\"x\", got \"y\""),
            (
                true,
                json!({"kind": "Pod", "apiVersion": "v1", "response": {"uid": "x"}}),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Pod",
            ),
            (
                true,
                answer(json!({"uid": "x", "patch": patch})),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                true,
                answer(json!({"uid": "x", "patchType": "JSONPatch"})),
                "webhook returned response.patchType but not response.patch",
            ),
            (false, answer(json!({"uid": "x", "patch": patch})), "validating webhook may not return response.patch"),
        ];
        for (mutating, answer, expected) in table {
            let found = read(answer, "x", ReviewVersion::V1, mutating).expect_err("it is none");
            assert_eq!(found, format!("received invalid webhook response: {expected}"));
        }
        let merge = answer(json!({"uid": "x", "allowed": true, "patch": patch, "patchType": "Merge"}));
        assert_eq!(read(merge, "x", ReviewVersion::V1, true), Err("unsupported patch type \"Merge\"".to_owned()));
        let old = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1",
            "response": {"allowed": true, "patch": patch}});
        let read = read(old, "x", ReviewVersion::V1beta1, true).expect("the old version is not strict");
        assert_eq!(read.patch, [json!({"op": "add", "path": "/a", "value": 1})]);
    }

    #[test]
    fn refusals() {
        let status = |value: Value| Some(serde_json::from_value::<Status>(value).expect("a status"));
        let table = [
            (None, (400, "", "without explanation")),
            (status(json!({"message": "no", "code": 200})), (400, "", ": no")),
            (status(json!({"reason": "Forbidden", "code": 403})), (403, "Forbidden", ": Forbidden")),
            (
                status(json!({"message": "slow down", "reason": "TooManyRequests", "code": 429})),
                (429, "TooManyRequests", ": slow down"),
            ),
        ];
        for (status, (code, reason, rest)) in table {
            let error = denial("a.b.c", status);
            let space = if rest.starts_with(':') { "" } else { " " };
            let message = format!("admission webhook \"a.b.c\" denied the request{space}{rest}");
            assert_eq!((error.code, error.reason.as_str(), error.message), (code, reason, message));
        }
    }
}
