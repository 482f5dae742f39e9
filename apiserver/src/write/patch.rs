//! Patches: what a client wants changed, applied to whatever the object is at that moment. Entry point: [`Patch::apply`].

pub mod json;
mod shown;
pub mod sparse;
mod strategic;

use api::{ApiError, FieldError, FieldErrors, FieldPath, GroupKind};
use bytes::Bytes;
use serde_json::Value;

use crate::http::body;
use crate::http::options::FieldValidation;
use crate::resources::{ResourceInfo, Strategy, schema, wire};

/// The most operations that a JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// The kinds of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
}

/// A patch as it came.
#[derive(Clone, Debug)]
pub struct Patch {
    /// How to read it.
    pub patch_type: PatchType,
    /// Its text.
    pub text: Bytes,
    /// What to do about unknown fields.
    pub validation: FieldValidation,
}

/// The patched object and what was odd about it.
#[derive(Debug)]
pub struct Patched {
    /// In the served form.
    pub value: Value,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

impl Patch {
    /// Applies the patch to an object in its served form; unknown fields are looked for by `strategy`'s kind.
    pub fn apply(&self, strategy: &dyn Strategy, current: Value) -> Result<Patched, ApiError> {
        let info = strategy.info();
        let value = self.merged(current, schema::of(&info.api_version(), &info.kind))?;
        let mut warnings = Vec::new();
        if self.validation != FieldValidation::Ignore {
            warnings = self.findings(|| body::findings_of(strategy, &value));
        }
        if self.validation == FieldValidation::Strict && !warnings.is_empty() {
            let why = format!("strict decoding error: {}", warnings.join(", "));
            return Err(self.invalid(info, &value, &why));
        }
        Ok(Patched { value, warnings })
    }

    /// The error for a patched object that does not decode.
    pub fn undecodable(&self, strategy: &dyn Strategy, value: &Value, error: ApiError) -> ApiError {
        let info = strategy.info();
        let decoding = error.message.split_once(": ").map_or(error.message.as_str(), |(_, why)| why);
        let restoring = match self.patch_type {
            PatchType::Strategic => wire::restore_error(&info.api_version(), &info.kind, value),
            PatchType::Json | PatchType::Merge => None,
        };
        self.invalid(info, value, restoring.as_deref().unwrap_or(decoding))
    }

    /// Applies the patch to a small object that is no kind of its own (a Scale), but has a type.
    pub fn apply_as(&self, api_version: &str, kind: &str, current: Value) -> Result<Patched, ApiError> {
        let ty = schema::of(api_version, kind);
        let value = self.merged(current, ty)?;
        let warnings = match self.validation {
            FieldValidation::Ignore => Vec::new(),
            FieldValidation::Warn | FieldValidation::Strict => self.findings(|| body::unknown_of(ty, &value)),
        };
        if self.validation == FieldValidation::Strict && !warnings.is_empty() {
            return Err(self.invalid_as(ty, &value, &format!("strict decoding error: {}", warnings.join(", "))));
        }
        let mut accepted = value.clone();
        let decoded = wire::accept(api_version, kind, &mut accepted);
        decoded.map_err(|why| self.invalid_as(ty, &value, &why.to_string()))?;
        Ok(Patched { value: accepted, warnings })
    }

    /// What is odd about the patch, then about what it has made.
    fn findings(&self, unknown: impl FnOnce() -> Vec<String>) -> Vec<String> {
        let mut found = match self.patch_type {
            PatchType::Json => body::findings_of_operations(&self.text),
            PatchType::Merge | PatchType::Strategic => body::duplicates_of(&self.text),
        };
        found.extend(unknown());
        found
    }

    fn merged(&self, mut current: Value, ty: Option<&'static schema::Type>) -> Result<Value, ApiError> {
        let bad = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
        match self.patch_type {
            PatchType::Json => {
                let mut patch = body::json::parse(&self.text).map_err(bad)?.value;
                if patch.is_null() {
                    patch = Value::Array(Vec::new());
                }
                let strictly = self.validation != FieldValidation::Ignore;
                let Value::Array(operations) = patch else {
                    return Err(if strictly {
                        bad(json::cannot_unmarshal(&patch, "value of type []handlers.jsonPatchOp"))
                    } else {
                        ApiError::bad_request(json::cannot_unmarshal(&patch, "value of type jsonpatch.Patch"))
                    });
                };
                if let (Some(why), true) = (json::ill_typed(&operations), strictly) {
                    return Err(bad(why));
                }
                if operations.len() > MAX_OPERATIONS {
                    let count = operations.len();
                    return Err(ApiError::request_entity_too_large(format_args!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                    )));
                }
                json::apply(&mut current, &operations).map_err(|_| unprocessable())?;
                Ok(current)
            }
            PatchType::Merge => {
                let patch = body::json::parse(&self.text).map_err(bad)?.value;
                if patch.is_null() {
                    return Err(ApiError::bad_request("Invalid JSON Patch"));
                }
                if !patch.is_object() {
                    return Err(bad(json::cannot_unmarshal(&patch, "value of type map[string]interface {}")));
                }
                json::merge(&mut current, &patch);
                Ok(current)
            }
            PatchType::Strategic => {
                let mut patch = body::json::parse(&self.text).map_err(ApiError::bad_request)?.value;
                if patch.is_null() {
                    patch = Value::Object(serde_json::Map::new());
                }
                let Value::Object(patch) = patch else {
                    let why = json::cannot_unmarshal(&patch, "value of type map[string]interface {}");
                    return Err(ApiError::bad_request(why));
                };
                if let Value::Object(fields) = &mut current {
                    strategic::merge(ty, fields, patch)?;
                }
                Ok(current)
            }
        }
    }

    /// The error that shows a strategic patch, or the object that another patch has made.
    fn invalid(&self, info: &ResourceInfo, value: &Value, why: &str) -> ApiError {
        self.invalid_as(schema::of(&info.api_version(), &info.kind), value, why)
    }

    fn invalid_as(&self, ty: Option<&'static schema::Type>, value: &Value, why: &str) -> ApiError {
        let patch = body::json::parse(&self.text).map(|document| document.value).unwrap_or_default();
        let shown = match self.patch_type {
            PatchType::Json => {
                shown::after_operations(ty, value, patch.as_array().map(Vec::as_slice).unwrap_or_default())
            }
            PatchType::Merge => shown::after_merge(ty, value, &patch),
            PatchType::Strategic => strategic::show(&patch),
        };
        let error = FieldError::invalid(&FieldPath::root("patch"), shown, why);
        ApiError::invalid(&GroupKind::default(), "", FieldErrors::from(error))
    }
}

/// What upstream says about patches that can't be carried out.
pub(super) fn unprocessable() -> ApiError {
    ApiError {
        code: 422,
        reason: "Invalid".to_owned(),
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(Box::default()),
    }
}
