//! What clients send: JSON, YAML or protobuf, checked against the kind of the request. Entry point: [`decode_object`].
//!
//! Invariant: an object that leaves here has the request's kind, and everything in the body that was not understood has been
//! refused, warned about or ignored as `fieldValidation` says.

pub mod bounds;
pub mod json;
pub mod protobuf;
mod strict;
pub mod yaml;

use api::ApiError;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::Value;

use super::media::OBJECT_TYPES;
use super::options::FieldValidation;
use crate::object::Object;
use crate::resources::{ResourceInfo, Resources, Strategy, schema, wire};
use crate::write::Warnings;
use json::Ordered;

/// How many bytes of a body that can't be read are shown.
const SHOWN_BYTES: usize = 30;

/// A body as a JSON value, and what was odd about it.
#[derive(Debug)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Fields in the order of the text, for findings.
    ordered: Option<Ordered>,
    /// There is nothing to find.
    clean: bool,
    /// Repeated keys of YAML.
    yaml_duplicates: Vec<String>,
}

/// The formats of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

fn format_of(headers: &HeaderMap) -> Result<BodyFormat, ApiError> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
    // As Go reads media types: in any case, and not at all with a parameter that has no value.
    let readable = parameters.split(';').all(|one| one.trim().is_empty() || one.contains('='));
    match media_type.trim().to_ascii_lowercase().as_str() {
        "" | "application/json" if readable => Ok(BodyFormat::Json),
        "application/yaml" if readable => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" if readable => Ok(BodyFormat::Protobuf),
        _ => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            OBJECT_TYPES.join(", ")
        ))),
    }
}

impl Document {
    /// Reads a body by its content type; the error is the decoder's text alone. `api_version` and `kind` are what a protobuf body is
    /// if it does not say.
    fn read(format: BodyFormat, bytes: &[u8], api_version: &str, kind: &str) -> Result<Self, String> {
        match format {
            BodyFormat::Protobuf => {
                let value = protobuf::parse(bytes, api_version, kind)?;
                Ok(Self { value, ordered: None, clean: false, yaml_duplicates: Vec::new() })
            }
            BodyFormat::Json => {
                let parsed =
                    json::parse(bytes).map_err(|why| format!("couldn't get version/kind; json parse error: {why}"))?;
                let clean = !parsed.duplicates
                    && schema::of(api_version, kind).is_some_and(|ty| strict::is_known(ty, &parsed.value));
                let ordered = if clean { None } else { Ordered::parse(bytes) };
                Ok(Self { value: parsed.value, ordered, clean, yaml_duplicates: Vec::new() })
            }
            BodyFormat::Yaml => {
                let parsed = yaml::parse(bytes)?;
                Ok(Self { value: parsed.value, ordered: None, clean: false, yaml_duplicates: parsed.duplicates })
            }
        }
    }

    /// Unknown and repeated fields, as warnings say them.
    fn findings(&self, strategy: &dyn Strategy) -> Vec<String> {
        if self.clean {
            return Vec::new();
        }
        let info = strategy.info();
        if let Some(unknown) = strategy.unknown_fields(&self.value) {
            let mut found = self.yaml_duplicates.clone();
            found.extend(self.ordered.as_ref().map(|ordered| strict::findings(None, ordered)).unwrap_or_default());
            found.extend(unknown.into_iter().map(unknown_field));
            return found;
        }
        self.findings_as(schema::of(&info.api_version(), &info.kind))
    }

    /// The same, by the fields of a type.
    fn findings_as(&self, ty: Option<&'static schema::Type>) -> Vec<String> {
        let mut found = self.yaml_duplicates.clone();
        match &self.ordered {
            Some(ordered) => found.extend(strict::findings(ty, ordered)),
            None => found.extend(strict::findings(ty, &Ordered::from(&self.value))),
        }
        found
    }
}

fn unknown_field(path: String) -> String {
    format!("unknown field \"{path}\"")
}

/// Reads the body of a create or update: an object with its defaults.
pub fn decode_object(
    strategy: &dyn Strategy,
    resources: &Resources,
    headers: &HeaderMap,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Box<dyn Object>, ApiError> {
    let info = strategy.info();
    let document = Document::read(format_of(headers)?, bytes, &info.api_version(), &info.kind).and_then(|document| {
        match type_problem(&document.value) {
            None => Ok(document),
            Some(problem) => Err(problem),
        }
    });
    let document = document.map_err(|why| {
        let message =
            format!("the object provided is unrecognized (must be of type {}): {why} ({})", info.kind, summary(bytes));
        ApiError::bad_request(message)
    })?;
    if info.custom {
        check_has_kind(&document.value, info, bytes)?;
    } else {
        check_kind(&document.value, info, resources)?;
    }
    let found = if validation == FieldValidation::Ignore { Vec::new() } else { document.findings(strategy) };
    if info.custom {
        if validation == FieldValidation::Strict && !found.is_empty() {
            return Err(strict_error(&info.kind, &info.version, &document.yaml_duplicates, found));
        }
        warnings.extend(found);
        check_version(&document.value, info)?;
        return decode_value(strategy, document.value);
    }
    let object = decode_value(strategy, document.value).map_err(|error| in_order_of(bytes, strategy, error))?;
    if validation == FieldValidation::Strict && !found.is_empty() {
        return Err(strict_error(&info.kind, &info.version, &document.yaml_duplicates, found));
    }
    warnings.extend(found);
    Ok(object)
}

/// Of several values of wrong types the first of the text is told.
fn in_order_of(bytes: &[u8], strategy: &dyn Strategy, mut error: ApiError) -> ApiError {
    let info = strategy.info();
    let prefix = format!("{kind} in version \"{}\" cannot be handled as a {kind}: ", info.version, kind = info.kind);
    let text = json::parse(bytes).ok().zip(Ordered::parse(bytes)).filter(|_| strategy.served_as().is_none());
    let first =
        text.and_then(|(parsed, order)| wire::first_error(&info.api_version(), &info.kind, &parsed.value, &order));
    if let (Some(first), true) = (first, error.message.starts_with(&prefix)) {
        error.message = format!("{prefix}{first}");
    }
    error
}

/// Objects of kinds that were defined at run time say what they are.
fn check_has_kind(value: &Value, info: &ResourceInfo, bytes: &[u8]) -> Result<(), ApiError> {
    if value.get("kind").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty()) {
        return Ok(());
    }
    let ResourceInfo { kind, version, .. } = info;
    let body = String::from_utf8_lossy(bytes);
    Err(ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: Object 'Kind' is missing in '{body}'"
    )))
}

fn check_version(value: &Value, info: &ResourceInfo) -> Result<(), ApiError> {
    let (given, own) = (value.get("apiVersion").and_then(Value::as_str).unwrap_or_default(), info.api_version());
    if given == own {
        return Ok(());
    }
    Err(ApiError::bad_request(other_version(given, &own)))
}

fn other_version(given: &str, own: &str) -> String {
    format!("the API version in the data ({given}) does not match the expected API version ({own})")
}

/// A JSON value of the served kind as an object with defaults.
pub fn decode_value(strategy: &dyn Strategy, mut value: Value) -> Result<Box<dyn Object>, ApiError> {
    let info = strategy.info();
    if bounds::is_too_deep(&value, bounds::MAX_DEPTH) {
        return Err(ApiError::bad_request(bounds::TOO_DEEP));
    }
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    if let (Value::Object(fields), false) = (&mut value, info.custom) {
        fields.insert("apiVersion".to_owned(), Value::from(info.api_version()));
        fields.insert("kind".to_owned(), Value::from(info.kind.as_str()));
    }
    if let Some(served) = strategy.served_as() {
        value = (served.to_stored)(value);
    }
    let mut object = strategy.decode(value)?;
    strategy.set_defaults(object.as_mut());
    Ok(object)
}

/// Unknown and repeated fields of a patch or of a patched object.
pub fn findings_of(strategy: &dyn Strategy, value: &Value) -> Vec<String> {
    if let Some(unknown) = strategy.unknown_fields(value) {
        return unknown.into_iter().map(unknown_field).collect();
    }
    let info = strategy.info();
    unknown_of(schema::of(&info.api_version(), &info.kind), value)
}

/// Fields that a type does not have.
pub fn unknown_of(ty: Option<&'static schema::Type>, value: &Value) -> Vec<String> {
    if ty.is_some_and(|ty| strict::is_known(ty, value)) {
        return Vec::new();
    }
    strict::findings(ty, &Ordered::from(value))
}

/// Whether a type has all fields of a value.
pub fn is_known(ty: &'static schema::Type, value: &Value) -> bool {
    strict::is_known(ty, value)
}

/// Repeated fields of a patch's text.
pub fn duplicates_of(bytes: &[u8]) -> Vec<String> {
    Ordered::parse(bytes).map(|ordered| strict::findings(None, &ordered)).unwrap_or_default()
}

/// Repeated and unknown fields of the operations of a JSON patch.
pub fn findings_of_operations(bytes: &[u8]) -> Vec<String> {
    let found = Ordered::parse(bytes).map(|ordered| strict::findings_of_operations(&ordered)).unwrap_or_default();
    found.into_iter().map(|finding| format!("json patch {finding}")).collect()
}

/// Reads `DeleteOptions` or another small body that is no object of a kind; none if the body is empty.
pub fn decode_options(headers: &HeaderMap, bytes: &[u8], kind: &str) -> Result<Option<Value>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = Document::read(format_of(headers)?, bytes, "v1", kind).and_then(|document| {
        match type_problem(&document.value) {
            None => Ok(document.value),
            Some(problem) => Err(problem),
        }
    });
    let mut value = read.map_err(ApiError::bad_request)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    if !matches!(text("kind"), "") && text("kind") != kind {
        return Err(ApiError::bad_request(format!(
            "no kind \"{}\" is registered for version \"{}\" in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\"",
            text("kind"),
            text("apiVersion")
        )));
    }
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    wire::accept("meta/v1", kind, &mut value).map_err(|why| ApiError::bad_request(why.to_string()))?;
    Ok(Some(value))
}

/// Reads a small object of another kind than the resource's (Scale, Binding, TokenRequest).
pub fn decode_other(
    headers: &HeaderMap,
    bytes: &[u8],
    api_version: &str,
    kind: &str,
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Value, ApiError> {
    let unrecognized = |why: String| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(bytes)
        ))
    };
    let document = Document::read(format_of(headers)?, bytes, api_version, kind).map_err(unrecognized)?;
    if let Some(problem) = type_problem(&document.value) {
        return Err(unrecognized(problem));
    }
    let found = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn | FieldValidation::Strict if document.clean => Vec::new(),
        FieldValidation::Warn | FieldValidation::Strict => document.findings_as(schema::of(api_version, kind)),
    };
    let mut value = check_other(document.value, api_version, kind)?;
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let mut sent = value.clone();
    wire::accept(api_version, kind, &mut sent).map_err(|error| {
        let first = Ordered::parse(bytes).and_then(|text| wire::first_error(api_version, kind, &value, &text));
        let why = first.unwrap_or(error);
        ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    })?;
    value = sent;
    if validation == FieldValidation::Strict && !found.is_empty() {
        return Err(strict_error(kind, version, &document.yaml_duplicates, found));
    }
    warnings.extend(found);
    Ok(value)
}

/// Kinds that are read in another version than theirs, too.
const ACCEPTED: [(&str, &str); 1] = [("policy/v1beta1", "Eviction")];

/// Versions that upstream does not serve any more but still knows a Scale of.
const SCALES_OF_OLD: [&str; 3] = ["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"];

/// A body that names a kind must name the right one, and in its version.
fn check_other(value: Value, api_version: &str, kind: &str) -> Result<Value, ApiError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let given = if text("kind").is_empty() { kind } else { text("kind") };
    let version = if text("apiVersion").is_empty() { api_version } else { text("apiVersion") };
    if given == kind && (version == api_version || ACCEPTED.contains(&(version, given))) {
        return Ok(value);
    }
    if kind == "Scale" && given == kind && SCALES_OF_OLD.contains(&version) {
        return Err(ApiError::bad_request(other_version(version, api_version)));
    }
    let short = version.rsplit('/').next().unwrap_or_default();
    let why = conversion_problem(version, given, api_version, kind);
    Err(ApiError::bad_request(format!("{given} in version \"{short}\" cannot be handled as a {kind}: {why}")))
}

/// Why an object of one kind is none of another.
pub fn conversion_problem(given_version: &str, given: &str, wanted_version: &str, wanted: &str) -> String {
    if schema::of(given_version, given).is_none() {
        return format!(
            "no kind \"{given}\" is registered for version \"{given_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
    }
    let short = given_version.rsplit('/').next().unwrap_or_default();
    let package = match wanted_version.split_once('/') {
        Some((group, _)) => group.split('.').next().unwrap_or_default(),
        None => "core",
    };
    format!("converting ({short}.{given}) to ({package}.{wanted}): unknown conversion")
}

/// Why it can't be told of which kind a body is.
fn type_problem(value: &Value) -> Option<String> {
    const BOTH: &str = "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    let problem = |value: &Value, into: &str| {
        let found = match value {
            Value::Null => return None,
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
        };
        Some(format!("couldn't get version/kind; json parse error: json: cannot unmarshal {found} into {into}"))
    };
    let Value::Object(fields) = value else { return problem(value, BOTH) };
    for name in ["apiVersion", "kind"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_string()) {
            let why = problem(value, &format!("Go struct field .{name} of type string"));
            if why.is_some() {
                return why;
            }
        }
    }
    let version = fields.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

fn summary(bytes: &[u8]) -> String {
    let (head, more) = match bytes.get(..SHOWN_BYTES) {
        Some(head) if bytes.len() > SHOWN_BYTES => (head, " ..."),
        _ => (bytes, ""),
    };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{more}", head.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

fn strict_error(kind: &str, version: &str, yaml_duplicates: &[String], findings: Vec<String>) -> ApiError {
    let mut parts: Vec<String> = Vec::new();
    if !yaml_duplicates.is_empty() {
        parts.push(format!("yaml: unmarshal errors:\n  {}", yaml_duplicates.join("\n  ")));
    }
    parts.extend(findings.into_iter().skip(yaml_duplicates.len()));
    ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
        parts.join(", ")
    ))
}

/// Refuses a body that names another kind than the request's; one that names none is fine.
fn check_kind(value: &Value, info: &ResourceInfo, resources: &Resources) -> Result<(), ApiError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let own = info.api_version();
    let kind = if text("kind").is_empty() { info.kind.as_str() } else { text("kind") };
    let given = text("apiVersion").strip_prefix('/').unwrap_or(text("apiVersion"));
    let api_version = if given.is_empty() { own.as_str() } else { given };
    if kind == info.kind && api_version == own {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let refuse = |why: String| {
        Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {why}",
            info.kind
        )))
    };
    if !is_registered(resources, api_version, kind) {
        let scheme = "pkg/api/legacyscheme/scheme.go:30";
        return refuse(format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"{scheme}\""
        ));
    }
    if kind == info.kind && group == info.group {
        return Err(ApiError::bad_request(other_version(api_version, &own)));
    }
    let package = if info.group.is_empty() { "core" } else { info.group.split('.').next().unwrap_or_default() };
    refuse(format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", info.kind))
}

fn is_registered(resources: &Resources, api_version: &str, kind: &str) -> bool {
    if matches!(
        kind,
        "List" | "Status" | "DeleteOptions" | "ListOptions" | "CreateOptions" | "PatchOptions" | "UpdateOptions"
    ) {
        return true;
    }
    let served = resources.served();
    let item = kind.strip_suffix("List").unwrap_or(kind);
    let row = served.rows().iter().any(|row| {
        let info = row.info();
        info.api_version() == api_version && (info.kind == kind || info.kind == item)
    });
    row || schema::of(api_version, kind).is_some()
}
