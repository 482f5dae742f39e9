//! What clients receive: objects, lists, tables and errors in the form that was negotiated. Entry points: [`error`], [`value`],
//! [`object`], [`committed`], [`list`].
//!
//! The common case, JSON of whole objects, copies the cache's bytes; every other form is made from decoded objects.

mod parts;
pub(crate) mod pretty;
pub(crate) mod protobuf;
mod status;
mod table;
mod yaml;

use std::convert::Infallible;
use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tower_http::compression::Predicate;

use super::media::{Accepted, Format, PROTOBUF, Shape};
use crate::cache::Entry;
use crate::resources::{ResourceInfo, Strategy, schema};
use parts::Parts;
pub use table::{Include, Tables};

/// A list is sent in pieces of about this size.
const CHUNK: usize = 128 * 1024;

/// How one answer is to be made.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    /// The kind of the objects.
    pub strategy: &'a dyn Strategy,
    /// What was negotiated.
    pub accepted: Accepted,
    /// What rows of tables carry.
    pub include: Include,
    /// For ages in tables.
    pub now: Timestamp,
}

/// The metadata of a list.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    /// The state that it shows; empty for objects that are made when they are read.
    pub resource_version: String,
    /// The token of the next page; empty after the last one.
    pub page: String,
    /// How many objects follow, where that is known.
    pub remaining: Option<u64>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        self.to_value_of(false)
    }

    /// Lists of kinds that were defined at run time always say how they go on.
    fn to_value_of(&self, custom: bool) -> Value {
        let mut meta = Map::new();
        if !self.resource_version.is_empty() {
            meta.insert("resourceVersion".to_owned(), Value::from(self.resource_version.as_str()));
        }
        if custom {
            meta.insert("continue".to_owned(), Value::from(""));
        }
        if !self.page.is_empty() {
            meta.insert("continue".to_owned(), Value::from(self.page.as_str()));
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".to_owned(), Value::from(remaining));
        }
        Value::Object(meta)
    }
}

/// An error as a Status; `page` is the token that goes on after an expired one.
pub fn error(error: &ApiError, accepted: Accepted, page: Option<String>) -> Response {
    let bytes = match accepted.format {
        Format::Json | Format::PrettyJson => {
            status::json(error, page.as_deref(), accepted.format == Format::PrettyJson)
        }
        Format::Yaml => yaml::write(&status::value(error, page.as_deref())),
        Format::Protobuf => protobuf::encode(&status::value(error, page.as_deref())).unwrap_or_default(),
    };
    let mut response = raw(error.code, accepted.format, bytes);
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An error as the value of a Status.
pub fn status_value(error: &ApiError) -> Value {
    status::value(error, None)
}

/// Any JSON value; one that has no form in protobuf is JSON.
pub fn value(code: u16, accepted: Accepted, value: &Value) -> Response {
    let (format, bytes) = match accepted.format {
        Format::Json => (Format::Json, value.to_string().into_bytes()),
        Format::PrettyJson => (Format::PrettyJson, pretty::write(None, value)),
        Format::Yaml => (Format::Yaml, yaml::write(value)),
        Format::Protobuf => match protobuf::encode(value) {
            Some(bytes) => (Format::Protobuf, bytes),
            None => (Format::Json, value.to_string().into_bytes()),
        },
    };
    raw(code, format, bytes)
}

/// An object or list of a kind.
fn of_kind(code: u16, form: Form<'_>, whole: &Value) -> Response {
    if form.accepted.format != Format::PrettyJson {
        return value(code, form.accepted, whole);
    }
    let info = form.strategy.info();
    let ty = schema::of(&info.api_version(), &info.kind);
    raw(code, Format::PrettyJson, pretty::write(ty, whole))
}

/// Plain text.
pub fn text(code: u16, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What the client has is still true.
pub fn not_modified() -> Response {
    let mut response = text(304, Bytes::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// What upstream's aggregator says of a server that it can't reach.
pub fn unavailable() -> Response {
    let mut response = text(503, "service unavailable\n");
    let options = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(axum::http::header::X_CONTENT_TYPE_OPTIONS, options);
    response
}

/// `404 page not found`, as Go's mux says it.
pub fn page_not_found() -> Response {
    let mut response = text(404, "404 page not found\n");
    let options = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(axum::http::header::X_CONTENT_TYPE_OPTIONS, options);
    response
}

/// A code without a word, as upstream's documents of OpenAPI refuse.
pub fn only_code(code: u16) -> Response {
    let mut response = text(code, Bytes::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// What Go's server says of a request that it can't read.
pub fn unreadable() -> Response {
    let mut response = text(400, "400 Bad Request");
    response.headers_mut().remove(CACHE_CONTROL);
    response
}

fn raw(code: u16, format: Format, body: impl Into<Body>) -> Response {
    let content_type = match format {
        Format::Json | Format::PrettyJson => "application/json",
        Format::Yaml => "application/yaml",
        Format::Protobuf => PROTOBUF,
    };
    let mut response = text(code, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Warnings with more characters than this together are shortened.
const MOST_WARNING_CHARS: usize = 4096;
/// To so many characters each.
const SHORT_WARNING_CHARS: usize = 256;

/// Adds `Warning: 299 - "text"` headers; a text that can't stand in a header is left out.
pub fn warn(response: &mut Response, warnings: &[String]) {
    let length: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let shown = if length > MOST_WARNING_CHARS { SHORT_WARNING_CHARS } else { MOST_WARNING_CHARS };
    let mut written = 0;
    for warning in warnings.iter().filter(|warning| !warning.is_empty() && !warning.contains(char::is_control)) {
        if written >= MOST_WARNING_CHARS && shown == SHORT_WARNING_CHARS {
            return;
        }
        let text: String = warning.chars().take(shown).collect();
        written += text.chars().count();
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// One object that was just written, given as its stored form with resourceVersion in parts.
pub fn committed(form: Form<'_>, code: u16, text: [Bytes; 3]) -> Result<Response, ApiError> {
    if form.is_stored() {
        return Ok(raw(code, Format::Json, Body::new(Parts::new(text))));
    }
    object(form, code, text.concat().into())
}

/// One object, given as its stored form with resourceVersion.
pub fn object(form: Form<'_>, code: u16, bytes: Bytes) -> Result<Response, ApiError> {
    let whole = match form.accepted.shape {
        Shape::Object if form.is_stored() => return Ok(raw(code, Format::Json, bytes)),
        Shape::Object => served_value(form.strategy, &bytes)?,
        Shape::Metadata(version) => metadata_only(&bytes, version),
        Shape::MetadataList(_) => {
            let name = go_type(form.strategy.info(), "");
            return Err(not_acceptable("PartialObjectMetadataList", "not a list", &name));
        }
        Shape::Table(version) => {
            let revision = resource_version(&bytes);
            form.tables(version).table(json!({"resourceVersion": revision}), &[&bytes], true)?
        }
    };
    Ok(of_kind(code, form, &whole))
}

impl<'a> Form<'a> {
    /// Whether objects are sent as they are stored.
    fn is_stored(&self) -> bool {
        self.accepted == Accepted::JSON && self.strategy.served_as().is_none()
    }

    /// Makes tables in this form.
    pub fn tables(&self, api_version: &'static str) -> Tables<'a> {
        Tables { strategy: self.strategy, api_version, include: self.include, now: self.now }
    }
}

/// A list of cached objects.
pub fn list(form: Form<'_>, meta: &ListMeta, entries: Vec<Arc<Entry>>) -> Result<Response, ApiError> {
    let info = form.strategy.info();
    if form.is_stored() {
        return Ok(stream_list(info, meta, entries));
    }
    let objects: Vec<Bytes> = entries.iter().map(|entry| entry.json()).collect();
    list_of(form, meta, &objects)
}

/// A list of objects in their stored form with resourceVersion.
pub fn list_of(form: Form<'_>, meta: &ListMeta, objects: &[Bytes]) -> Result<Response, ApiError> {
    let info = form.strategy.info();
    let (kind, api_version, items) = match form.accepted.shape {
        Shape::Table(version) => {
            let objects: Vec<&[u8]> = objects.iter().map(AsRef::as_ref).collect();
            return Ok(value(200, form.accepted, &form.tables(version).table(meta.to_value(), &objects, true)?));
        }
        Shape::Metadata(_) => return Err(not_acceptable("PartialObjectMetadata", "a list", &go_type(info, "List"))),
        Shape::MetadataList(version) if form.accepted.format == Format::Json => {
            return Ok(metadata_list(version, meta, objects));
        }
        Shape::MetadataList(version) => {
            let items = objects.iter().map(|bytes| metadata_only(bytes, version)).collect();
            ("PartialObjectMetadataList".to_owned(), version.to_owned(), items)
        }
        Shape::Object => {
            let items = objects.iter().map(|bytes| list_item(form.strategy, bytes)).collect::<Result<Vec<_>, _>>()?;
            (info.list_kind.clone(), info.api_version(), items)
        }
    };
    let meta = meta.to_value_of(info.custom && form.accepted.shape == Shape::Object);
    let list = json!({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": Value::Array(items)});
    Ok(of_kind(200, form, &list))
}

/// A `PartialObjectMetadataList` in JSON.
fn metadata_list(version: &str, meta: &ListMeta, objects: &[Bytes]) -> Response {
    let mut text = format!(
        r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{version}","metadata":{},"items":["#,
        meta.to_value()
    );
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&metadata_text(object, version));
    }
    text.push_str("]}");
    raw(200, Format::Json, text)
}

/// Items of a list do not repeat their kind, but those of kinds that were defined at run time do.
fn list_item(strategy: &dyn Strategy, bytes: &[u8]) -> Result<Value, ApiError> {
    let mut item = served_value(strategy, bytes)?;
    if let (Value::Object(fields), false) = (&mut item, strategy.info().custom) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    Ok(item)
}

/// The list as a stream of chunks copied from the cache's bytes.
fn stream_list(info: &ResourceInfo, meta: &ListMeta, entries: Vec<Arc<Entry>>) -> Response {
    let prefix = type_prefix(info);
    let mut head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        info.list_kind,
        info.api_version(),
        meta.to_value_of(info.custom)
    );
    let total: usize = entries.iter().map(|entry| entry.json_len()).sum();
    if total <= CHUNK {
        let mut body = Vec::with_capacity(head.len() + total + 2);
        body.append(&mut head.into_bytes());
        entries.iter().enumerate().for_each(|(i, entry)| append_item(&mut body, i == 0, entry, &prefix));
        body.extend_from_slice(b"]}");
        return raw(200, Format::Json, body);
    }
    head.shrink_to_fit();
    let state = Some((entries.into_iter().enumerate(), head.into_bytes()));
    let chunks = stream::unfold(state, move |state| {
        let next = state.map(|(mut entries, mut chunk)| {
            for (i, entry) in entries.by_ref() {
                append_item(&mut chunk, i == 0, &entry, &prefix);
                if chunk.len() >= CHUNK {
                    return (
                        Ok::<_, Infallible>(Bytes::from(chunk)),
                        Some((entries, Vec::with_capacity(CHUNK + CHUNK / 4))),
                    );
                }
            }
            chunk.extend_from_slice(b"]}");
            (Ok(Bytes::from(chunk)), None)
        });
        std::future::ready(next)
    });
    let mut response = raw(200, Format::Json, Bytes::new());
    // The compressor polls once more after the end.
    *response.body_mut() = Body::from_stream(chunks.fuse());
    response.extensions_mut().insert(LargeBody);
    response
}

/// Marks an answer whose body is large though its size is not known; watches do not carry it.
#[derive(Clone, Copy, Debug)]
struct LargeBody;

/// Which answers are compressed: those of 128 KiB or more, as upstream.
#[derive(Clone, Copy, Debug)]
pub struct WorthCompressing;

impl Predicate for WorthCompressing {
    fn should_compress<B: http_body::Body>(&self, response: &axum::http::Response<B>) -> bool {
        let size = response.body().size_hint().exact();
        response.extensions().get::<LargeBody>().is_some() || size.is_some_and(|size| size >= CHUNK as u64)
    }
}

fn append_item(out: &mut Vec<u8>, first: bool, entry: &Entry, prefix: &[u8]) {
    if !first {
        out.push(b',');
    }
    if !prefix.is_empty() && entry.stored().starts_with(prefix) {
        out.push(b'{');
        entry.append_from(prefix.len(), out);
    } else {
        entry.append_to(out);
    }
}

/// What every stored object of a kind begins with and the items of its lists leave out.
fn type_prefix(info: &ResourceInfo) -> Vec<u8> {
    if info.custom {
        return Vec::new();
    }
    format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", info.kind, info.api_version()).into_bytes()
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// `PartialObjectMetadata` of an object.
pub fn metadata_only(bytes: &[u8], api_version: &str) -> Value {
    let metadata: Value = serde_json::from_str(metadata_of(bytes)).unwrap_or_else(|_| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata})
}

/// The same as text, which is not taken apart for it.
pub fn metadata_text(bytes: &[u8], api_version: &str) -> String {
    let metadata = metadata_of(bytes);
    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"{api_version}","metadata":{metadata}}}"#)
}

fn metadata_of(bytes: &[u8]) -> &str {
    let only = serde_json::from_slice::<OnlyMetadata<'_>>(bytes).ok();
    only.and_then(|only| only.metadata).map_or("{}", RawValue::get)
}

fn resource_version(bytes: &[u8]) -> String {
    let only = metadata_only(bytes, "");
    only["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// A stored object as the value that is served.
pub fn served_value(strategy: &dyn Strategy, bytes: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
    Ok(match strategy.served_as() {
        Some(served) => (served.from_stored)(value),
        None => value,
    })
}

fn not_acceptable(asked: &str, is: &str, go_type: &str) -> ApiError {
    ApiError::not_acceptable(format!("you requested {asked}, but the requested object is {is} (*{go_type})"))
}

/// The internal Go type that upstream names in errors.
fn go_type(info: &ResourceInfo, suffix: &str) -> String {
    let package = if info.group.is_empty() { "core" } else { info.group.split('.').next().unwrap_or_default() };
    format!("{package}.{}{suffix}", info.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(warnings: &[String]) -> Vec<usize> {
        let mut response = text(200, "");
        warn(&mut response, warnings);
        response.headers().get_all(WARNING).iter().map(|value| value.len() - "299 - \"\"".len()).collect()
    }

    #[test]
    fn warnings_are_quoted_and_bounded() {
        let mut response = text(200, "");
        warn(&mut response, &["a \"b\" \\ ü".to_owned(), "line\nbreak".to_owned(), String::new()]);
        let values: Vec<_> =
            response.headers().get_all(WARNING).iter().map(|value| value.as_bytes().to_vec()).collect();
        assert_eq!(values, ["299 - \"a \\\"b\\\" \\\\ ü\"".as_bytes().to_vec()]);
        let long = |count: usize| (0..count).map(|i| format!("{i:0500}")).collect::<Vec<_>>();
        assert_eq!(warned(&long(8)), [500; 8]);
        assert_eq!(warned(&long(9)), [256; 9]);
        assert_eq!(warned(&long(20)), [256; 16]);
    }
}
