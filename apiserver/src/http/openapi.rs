//! The OpenAPI documents, from which `kubectl explain`, validation on the client's side and generated clients know what this
//! server serves. Entry point: [`answer`]; [`Documents`] is what it remembers.
//!
//! A document is made when it is asked for, from the rows that are served at that moment, and is written piece by piece; what
//! stays is its digest, and once somebody wanted it, its compressed bytes. Invariant: a digest names the same bytes for ever, so
//! that clients may keep them. A kind that is defined at run time is in the documents as soon as its row is served.

mod definitions;
mod descriptions;
mod names;
mod operation;
mod operations;
mod parameters;
mod plain;
mod required;
mod subresources;
mod v2;
mod v2_protobuf;
mod v3;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use api::ApiError;
use axum::body::Body;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION,
    VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::{Timestamp, ToSpan};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::answer;
use crate::resources::{Served, Strategy};
pub use whole::schema_of;

/// The name under which the document of version 2 is remembered.
const V2: &str = "v2";
/// The same in protobuf.
const V2_PROTOBUF: &str = "v2 protobuf";
const PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The type's older name, which clients still ask for; it is no media type by the standard.
const OLD_PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// What is remembered of the documents.
#[derive(Default)]
pub struct Documents {
    kept: Mutex<BTreeMap<String, Kept>>,
}

/// Of one document: good as long as it is made of the same rows.
#[derive(Clone)]
struct Kept {
    rows: Vec<Arc<dyn Strategy>>,
    digest: String,
    packed: Option<Bytes>,
}

impl Kept {
    fn is_of(&self, rows: &[Arc<dyn Strategy>]) -> bool {
        self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// A GET of `/openapi/…`.
pub struct Asked<'a> {
    /// The steps of the path after `openapi`.
    pub path: &'a [&'a str],
    /// The query's `hash`.
    pub hash: Option<&'a str>,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// For `Expires`.
    pub now: Timestamp,
}

/// Answers a GET of `/openapi/…`.
pub fn answer(documents: &Documents, served: &Served, asked: &Asked<'_>) -> Result<Response, ApiError> {
    match asked.path {
        ["v2"] => version_2(documents, served, asked),
        ["v3"] => Ok(index(documents, served, asked)?),
        ["v3", key @ ..] if v3::keys(served).contains(&key.join("/")) => {
            group(documents, served, &key.join("/"), asked)
        }
        ["v3", ..] => Ok(answer::only_code(404)),
        _ => Ok(answer::page_not_found()),
    }
}

/// `/openapi/v3`: the documents and their digests.
fn index(documents: &Documents, served: &Served, asked: &Asked<'_>) -> Result<Response, ApiError> {
    let mut paths = serde_json::Map::new();
    documents.forget_all_but(&v3::keys(served));
    for key in v3::keys(served) {
        let digest = documents.digest(served, &key)?;
        paths.insert(key.clone(), json!({"serverRelativeURL": address(&key, &digest)}));
    }
    let bytes = json!({"paths": paths}).to_string().into_bytes();
    let whole = Packed { digest: digest(&bytes), packed: pack(&bytes)? };
    // Upstream lets Go guess the type of this one; clients that compare answers see text.
    Ok(respond(&whole, asked, "text/plain; charset=utf-8"))
}

/// `/openapi/v3/…`: one document. A digest in the query makes the answer good for ever, or leads to the one that is.
fn group(documents: &Documents, served: &Served, key: &str, asked: &Asked<'_>) -> Result<Response, ApiError> {
    let packed = documents.packed(served, key)?;
    match asked.hash {
        Some(hash) if !hash.is_empty() && hash != packed.digest => {
            let mut response = answer::text(301, "");
            insert(&mut response, LOCATION, &address(key, &packed.digest));
            Ok(response)
        }
        Some(hash) if !hash.is_empty() => {
            let mut response = document(&packed, asked, "application/json");
            insert(&mut response, CACHE_CONTROL, "public, immutable");
            let expires = asked.now.checked_add((365 * 24).hours()).unwrap_or(asked.now);
            insert(&mut response, EXPIRES, &expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
            Ok(response)
        }
        _ => Ok(document(&packed, asked, "application/json")),
    }
}

fn address(key: &str, digest: &str) -> String {
    format!("/openapi/v3/{key}?hash={digest}")
}

/// `/openapi/v2`: in the first form of the client's list that there is.
fn version_2(documents: &Documents, served: &Served, asked: &Asked<'_>) -> Result<Response, ApiError> {
    let protobuf = accepted(asked).find_map(|media_type| match media_type {
        PROTOBUF_TYPE | OLD_PROTOBUF_TYPE => Some(true),
        "*/*" | "application/*" | "application/json" => Some(false),
        _ => None,
    });
    match protobuf {
        Some(true) => Ok(respond(&documents.packed(served, V2_PROTOBUF)?, asked, PROTOBUF_TYPE)),
        Some(false) => Ok(respond(&documents.packed(served, V2)?, asked, "application/json")),
        None => Ok(answer::only_code(406)),
    }
}

/// The media types that the client takes, in its order; no list is all.
fn accepted<'a>(asked: &Asked<'a>) -> impl Iterator<Item = &'a str> {
    let accept = asked.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|accept| !accept.is_empty());
    accept.unwrap_or("*/*").split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim())
}

/// A document, for a client that takes JSON; kubectl asks for JSON of version 3.
fn document(packed: &Packed, asked: &Asked<'_>, content_type: &str) -> Response {
    if accepted(asked).any(|media_type| matches!(media_type, "*/*" | "application/*" | "application/json")) {
        return respond(packed, asked, content_type);
    }
    answer::only_code(406)
}

fn respond(whole: &Packed, asked: &Asked<'_>, content_type: &str) -> Response {
    let tag = format!("\"{}\"", whole.digest);
    let mut response = answer::text(200, "");
    if knows(asked.headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
    } else {
        let encodings = asked.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if encodings.split(',').any(|encoding| encoding.split(';').next().is_some_and(|name| name.trim() == "gzip")) {
            *response.body_mut() = Body::from(whole.packed.clone());
            insert(&mut response, CONTENT_ENCODING, "gzip");
        } else {
            *response.body_mut() = Body::from(unpack(&whole.packed));
        }
        insert(&mut response, CONTENT_TYPE, content_type);
    }
    insert(&mut response, ETAG, &tag);
    insert(&mut response, VARY, "Accept, Accept-Encoding");
    response
}

/// Whether the client says that it has these bytes.
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A document as it is kept.
struct Packed {
    digest: String,
    packed: Bytes,
}

impl Documents {
    fn digest(&self, served: &Served, key: &str) -> Result<String, ApiError> {
        let rows = rows(served, key);
        if let Some(kept) = self.known(key, &rows) {
            return Ok(kept.digest);
        }
        let digest = digest(&write(key, &rows)?);
        self.keep(key, Kept { rows, digest: digest.clone(), packed: None });
        Ok(digest)
    }

    fn packed(&self, served: &Served, key: &str) -> Result<Packed, ApiError> {
        let rows = rows(served, key);
        if let Some(Kept { digest, packed: Some(packed), .. }) = self.known(key, &rows) {
            return Ok(Packed { digest, packed });
        }
        let bytes = write(key, &rows)?;
        let (digest, packed) = (digest(&bytes), pack(&bytes)?);
        self.keep(key, Kept { rows, digest: digest.clone(), packed: Some(packed.clone()) });
        Ok(Packed { digest, packed })
    }

    fn known(&self, key: &str, rows: &[Arc<dyn Strategy>]) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|kept| kept.is_of(rows)).cloned()
    }

    /// Forgets the documents of groups that are no longer served.
    fn forget_all_but(&self, keys: &BTreeSet<String>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|key, _| is_whole(key) || keys.contains(key));
    }

    fn keep(&self, key: &str, document: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key.to_owned(), document);
    }
}

/// The rows that a document is made of, in the order of the table.
fn rows(served: &Served, key: &str) -> Vec<Arc<dyn Strategy>> {
    served.rows().iter().filter(|row| is_whole(key) || v3::key(row.as_ref()) == key).cloned().collect()
}

/// Whether it is a document of everything.
fn is_whole(key: &str) -> bool {
    key == V2 || key == V2_PROTOBUF
}

fn write(key: &str, rows: &[Arc<dyn Strategy>]) -> Result<Vec<u8>, ApiError> {
    let rows: Vec<&dyn Strategy> = rows.iter().map(AsRef::as_ref).collect();
    let written = match key {
        V2 => v2::write(&rows),
        V2_PROTOBUF => v2::write(&rows).and_then(|json| v2_protobuf::encode(&json)),
        _ => v3::write(key, &rows),
    };
    written.map_err(|error| ApiError::internal(format!("the OpenAPI document {key} can't be written: {error}")))
}

fn digest(bytes: &[u8]) -> String {
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn pack(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = packer.write_all(bytes).and_then(|()| packer.finish());
    packed
        .map(Bytes::from)
        .map_err(|error| ApiError::internal(format!("an OpenAPI document can't be compressed: {error}")))
}

/// Only what [`pack`] made comes here, so it can be read.
fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("packed by this module");
    bytes
}

/// A JSON object whose values are made while it is written.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator<Item = (String, Value)>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map((self.0)())
    }
}

#[cfg(test)]
mod tests;
