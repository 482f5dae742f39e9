//! Which form the client wants an answer in. Entry points: [`check_accept`] (what go-restful refuses) and [`Accepted::negotiate`].
//!
//! The Accept list is tried in order of its qualities; the first clause that can be served wins. Protobuf answers are not offered:
//! a client that asks for them alone gets JSON.

use api::ApiError;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::query::Query;

/// Media types of ordinary answers.
pub const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Media types of lists, which may be watches.
pub const LIST_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const STREAM_TYPES: &[&str] = &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON on one line.
    Json,
    /// JSON for people.
    PrettyJson,
    /// YAML.
    Yaml,
}

/// What an answer shows of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All of them.
    Object,
    /// Rows of cells; the text is the version of meta.k8s.io that was asked for.
    Table(&'static str),
    /// Only the metadata of one object.
    Metadata(&'static str),
    /// Only the metadata of a list's objects.
    MetadataList(&'static str),
}

/// The result of negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How the answer is written.
    pub format: Format,
    /// What it shows.
    pub shape: Shape,
}

impl Accepted {
    /// Plain JSON.
    pub const JSON: Accepted = Accepted { format: Format::Json, shape: Shape::Object };

    /// The form of an ordinary answer.
    pub fn negotiate(headers: &HeaderMap, query: &Query, tables: bool) -> Result<Self, ApiError> {
        Self::choose(headers, query, tables, true).ok_or_else(|| only(OBJECT_TYPES))
    }

    /// The form of a watch's events.
    pub fn negotiate_stream(headers: &HeaderMap, query: &Query, tables: bool) -> Result<Self, ApiError> {
        Self::choose(headers, query, tables, false).ok_or_else(|| only(STREAM_TYPES))
    }

    /// The form of an error: the client's format where possible, always the whole Status.
    pub fn for_error(headers: &HeaderMap, query: &Query) -> Self {
        let clauses = clauses(accept(headers));
        let wanted = clauses.iter().find_map(|clause| format_of(&clause.media_type, true));
        Self { format: pretty(wanted.unwrap_or(Format::Json), headers, query), shape: Shape::Object }
    }

    fn choose(headers: &HeaderMap, query: &Query, tables: bool, yaml: bool) -> Option<Self> {
        let found = clauses(accept(headers)).into_iter().find_map(|clause| {
            let format = format_of(&clause.media_type, yaml)?;
            Some((format, clause.shape(tables)?))
        });
        let (format, shape) = found?;
        Some(Self { format: pretty(format, headers, query), shape })
    }
}

/// What go-restful refuses before a handler runs: no clause names a type of the route.
pub fn check_accept(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let acceptable =
        clauses(accept(headers)).iter().any(|c| c.media_type == "*/*" || types.contains(&c.media_type.as_str()));
    if acceptable {
        return Ok(());
    }
    let mut error =
        ApiError::not_acceptable(format!("406: Not Acceptable\n\nAvailable representations: {}", types.join(", ")));
    error.details = Some(Box::default());
    Err(error)
}

fn only(types: &[&str]) -> ApiError {
    ApiError::not_acceptable(format!("only the following media types are accepted: {}", types.join(", ")))
}

fn accept(headers: &HeaderMap) -> &str {
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text.is_empty() { "*/*" } else { text }
}

/// JSON, for a browser or `?pretty`, is indented.
fn pretty(format: Format, headers: &HeaderMap, query: &Query) -> Format {
    let wanted = match query.optional_boolean("pretty") {
        Some(wanted) => wanted,
        None => {
            let agent = headers.get(axum::http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|browser| agent.starts_with(browser))
        }
    };
    match format {
        Format::Json if wanted => Format::PrettyJson,
        other => other,
    }
}

fn format_of(media_type: &str, yaml: bool) -> Option<Format> {
    match media_type {
        "application/json" | "*/*" | "application/vnd.kubernetes.protobuf" => Some(Format::Json),
        "application/yaml" if yaml => Some(Format::Yaml),
        _ => None,
    }
}

struct Clause {
    media_type: String,
    params: Vec<(String, String)>,
}

impl Clause {
    fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// None where the clause asks for a form that can't be made.
    fn shape(&self, tables: bool) -> Option<Shape> {
        let kind = self.param("as");
        if kind.is_empty() {
            return Some(Shape::Object);
        }
        let version = match (self.param("g"), self.param("v")) {
            ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
            ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
            _ => return None,
        };
        match kind {
            "Table" if tables && self.media_type != "application/vnd.kubernetes.protobuf" => {
                Some(Shape::Table(version))
            }
            "PartialObjectMetadata" => Some(Shape::Metadata(version)),
            "PartialObjectMetadataList" => Some(Shape::MetadataList(version)),
            _ => None,
        }
    }
}

/// The clauses in falling order of quality; equal ones stay in their order.
fn clauses(accept: &str) -> Vec<Clause> {
    let mut clauses: Vec<(f64, Clause)> = Vec::new();
    for part in accept.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let Some(media_type) = pieces.next().filter(|m| !m.is_empty()) else { continue };
        let mut quality = 1.0;
        let mut params = Vec::new();
        for piece in pieces {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            if name == "q" {
                quality = value.parse().unwrap_or(1.0);
            } else {
                params.push((name.to_owned(), value.trim_matches('"').to_owned()));
            }
        }
        clauses.push((quality, Clause { media_type: media_type.to_owned(), params }));
    }
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.into_iter().map(|(_, clause)| clause).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Accepted::negotiate(&headers, &Query::default(), true).ok()
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let json = Some(Accepted::JSON);
        let table = Some(Accepted { format: Format::Json, shape: Shape::Table("meta.k8s.io/v1") });
        let cases = [
            ("*/*", json),
            ("application/json;charset=utf-8", json),
            ("text/html,application/json;q=0.1", json),
            ("application/vnd.kubernetes.protobuf,application/json", json),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table),
            ("application/json;as=Chair;v=v1;g=meta.k8s.io,application/json", json),
            ("application/json;as=Chair;v=v1;g=meta.k8s.io", None),
            ("application/json;q=0.5,application/yaml", Some(Accepted { format: Format::Yaml, shape: Shape::Object })),
            ("application/*", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn routes_refuse_what_they_never_produce() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "application/xml".parse().unwrap());
        let error = check_accept(&headers, OBJECT_TYPES).unwrap_err();
        assert!(error.message.starts_with("406: Not Acceptable\n\nAvailable representations: application/json, "));
        headers.insert(ACCEPT, "application/xml;q=0.9,*/*;q=0.8".parse().unwrap());
        assert!(check_accept(&headers, OBJECT_TYPES).is_ok());
    }
}
