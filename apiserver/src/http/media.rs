//! Which form the client wants an answer in. Entry points: [`check_accept`] (what go-restful refuses) and [`Accepted::negotiate`].
//!
//! The Accept list is tried in order of its qualities; the first clause that can be served wins. Objects of kinds that were defined at
//! run time have no form in protobuf, but their metadata has.

use api::ApiError;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::query::Query;
use crate::resources::Strategy;

/// The media type of protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Media types of ordinary answers.
pub const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml", PROTOBUF];
/// Media types of lists, which may be watches.
pub const LIST_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    PROTOBUF,
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
    /// Protobuf in Kubernetes' envelope.
    Protobuf,
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

/// The forms in which the objects of a route can be had, besides JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// As rows of tables.
    pub tables: bool,
    /// Whole objects in protobuf.
    pub protobuf: bool,
    /// Only metadata.
    pub metadata: bool,
    /// In YAML.
    pub yaml: bool,
    /// As the stream of this name.
    pub stream: Option<&'static str>,
}

impl Offers {
    /// What documents and errors are offered in.
    const DOCUMENT: Self = Self { tables: false, protobuf: true, metadata: false, yaml: true, stream: None };
    /// What other objects than those of a kind's rows are offered in: a Scale, an Eviction.
    pub const OTHER: Self = Self { metadata: true, stream: Some("watch"), ..Self::DOCUMENT };

    /// What a kind's objects are offered in.
    pub fn of(strategy: &dyn Strategy) -> Self {
        Self { tables: !strategy.columns().is_empty(), protobuf: !strategy.info().custom, ..Self::OTHER }
    }

    /// The same for events of watches, which are never YAML.
    pub fn streamed(self) -> Self {
        Self { yaml: false, ..self }
    }
}

impl Accepted {
    /// Plain JSON.
    pub const JSON: Accepted = Accepted { format: Format::Json, shape: Shape::Object };

    /// The form of an ordinary answer, or of a watch's events.
    pub fn negotiate(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Self, ApiError> {
        Self::choose(headers, query, offers).ok_or_else(|| only(if offers.yaml { OBJECT_TYPES } else { STREAM_TYPES }))
    }

    /// The form of a document of the server itself.
    pub fn document(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        Self::negotiate(headers, query, Offers::DOCUMENT)
    }

    /// The form of an error: the client's format where possible, always the whole Status.
    pub fn for_error(headers: &HeaderMap, query: &Query) -> Self {
        let raw = Self { format: Format::PrettyJson, shape: Shape::Object };
        Self::choose(headers, query, Offers::DOCUMENT).unwrap_or(raw)
    }

    /// The format of the aggregated discovery document, if the client asks for that one.
    pub fn aggregated(headers: &HeaderMap, query: &Query) -> Option<Format> {
        let wanted = |clause: &Clause| {
            (clause.param("as"), clause.param("g"), clause.param("v"))
                == ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2")
        };
        let clauses = clauses(accept(headers));
        // Clauses that ask for less, a stream of another name or a version of the server, are passed over.
        let plain = |clause: &&Clause| clause.param("sv").is_empty() && matches!(clause.param("stream"), "" | "watch");
        let mut formats =
            clauses.iter().filter(|clause| wanted(clause)).filter(plain).filter_map(|c| c.format(Offers::DOCUMENT));
        formats.next().map(|format| pretty(format, headers, query))
    }

    fn choose(headers: &HeaderMap, query: &Query, offers: Offers) -> Option<Self> {
        let header = accept(headers);
        if header.is_empty() {
            return Some(Self { format: pretty(Format::Json, headers, query), shape: Shape::Object });
        }
        clauses(header).into_iter().find_map(|clause| {
            let format = clause.format(offers)?;
            let shape = clause.shape(format, offers)?;
            let format = if clause.param("pretty") == "1" { Format::PrettyJson.or(format) } else { format };
            Some(Self { format: pretty(format, headers, query), shape })
        })
    }
}

/// What go-restful refuses before a handler runs: no clause names a type of the route.
pub fn check_accept(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let header = accept(headers);
    let named = |part: &str| part.split(';').next().unwrap_or_default().trim().to_owned();
    let acceptable = header.split(',').map(named).any(|name| name == "*/*" || types.contains(&name.as_str()));
    if header.is_empty() || acceptable {
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
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Format {
    /// This one for JSON; others stay.
    fn or(self, other: Format) -> Format {
        if other == Format::Json { self } else { other }
    }
}

/// JSON, for a browser or `?pretty`, is indented.
fn pretty(format: Format, headers: &HeaderMap, query: &Query) -> Format {
    let wanted = match query.text("pretty") {
        "" => {
            let agent = headers.get(axum::http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|browser| agent.starts_with(browser))
        }
        text => ["1", "t", "T", "true", "TRUE", "True"].contains(&text),
    };
    if wanted { Format::PrettyJson.or(format) } else { format }
}

/// A clause of an Accept list: media type and parameters.
struct Clause {
    media_type: String,
    subtype: String,
    params: Vec<(String, String)>,
}

impl Clause {
    fn param(&self, name: &str) -> &str {
        self.params.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn format(&self, offers: Offers) -> Option<Format> {
        match (self.media_type.as_str(), self.subtype.as_str()) {
            ("application", "json" | "*") | ("*", "*") => Some(Format::Json),
            ("application", "yaml") if offers.yaml => Some(Format::Yaml),
            ("application", "vnd.kubernetes.protobuf") => Some(Format::Protobuf),
            _ => None,
        }
    }

    /// None where the clause asks for a form that can't be made.
    fn shape(&self, format: Format, offers: Offers) -> Option<Shape> {
        let stream = self.param("stream");
        if !self.param("sv").is_empty() || !(stream.is_empty() || offers.stream == Some(stream)) {
            return None;
        }
        let (kind, group, version) = (self.param("as"), self.param("g"), self.param("v"));
        if kind.is_empty() && group.is_empty() && version.is_empty() {
            return (format != Format::Protobuf || offers.protobuf).then_some(Shape::Object);
        }
        let version = match (group, version) {
            ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
            ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
            _ => return None,
        };
        match kind {
            "Table" if offers.tables && format != Format::Protobuf => Some(Shape::Table(version)),
            "PartialObjectMetadata" if offers.metadata => Some(Shape::Metadata(version)),
            "PartialObjectMetadataList" if offers.metadata => Some(Shape::MetadataList(version)),
            _ => None,
        }
    }
}

/// The clauses that can be read, best first, as upstream's parser orders them: those of higher quality, and those that name a type
/// before those that name any.
fn clauses(accept: &str) -> Vec<Clause> {
    let mut clauses: Vec<(f32, Clause)> = Vec::new();
    for part in accept.split(',') {
        let mut pieces = part.split(';');
        let media_type: Vec<&str> = pieces.next().unwrap_or_default().split('/').map(str::trim).collect();
        let (media_type, subtype) = match media_type.as_slice() {
            ["*"] => ("*", "*"),
            [media_type, subtype] => (*media_type, *subtype),
            _ => continue,
        };
        let mut quality = 1.0;
        let mut params = Vec::new();
        for (name, value) in pieces.filter_map(|piece| piece.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            match name {
                _ if value.is_empty() || value.contains('=') => {}
                "q" => quality = value.parse().unwrap_or(0.0),
                _ => params.push((name.to_owned(), value.to_owned())),
            }
        }
        clauses.push((quality, Clause { media_type: media_type.to_owned(), subtype: subtype.to_owned(), params }));
        let mut at = clauses.len() - 1;
        while at > 0 && is_better(&clauses[at], &clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses.into_iter().map(|(_, clause)| clause).collect()
}

fn is_better(one: &(f32, Clause), other: &(f32, Clause)) -> bool {
    one.0 > other.0
        || (one.1.media_type != "*" && other.1.media_type == "*")
        || (one.1.subtype != "*" && other.1.subtype == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Accepted::negotiate(&headers, &Query::default(), Offers { tables: true, ..Offers::OTHER }).ok()
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let json = Some(Accepted::JSON);
        let table = Some(Accepted { format: Format::Json, shape: Shape::Table("meta.k8s.io/v1") });
        let protobuf = Some(Accepted { format: Format::Protobuf, shape: Shape::Object });
        let metadata = Some(Accepted { format: Format::Protobuf, shape: Shape::Metadata("meta.k8s.io/v1") });
        let yaml = Some(Accepted { format: Format::Yaml, shape: Shape::Object });
        let cases = [
            ("*/*", json),
            ("application/json;charset=utf-8", json),
            ("text/html,application/json;q=0.1", json),
            ("application/vnd.kubernetes.protobuf,application/json", protobuf),
            ("application/json,application/vnd.kubernetes.protobuf", json),
            ("application/vnd.kubernetes.protobuf;stream=watch", protobuf),
            ("application/vnd.kubernetes.protobuf;stream=chair", None),
            ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", metadata),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", None),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table),
            ("application/json;as=Chair;v=v1;g=meta.k8s.io,application/json", json),
            ("application/json;as=Chair;v=v1;g=meta.k8s.io", None),
            ("application/json;g=meta.k8s.io;v=v1", None),
            ("application/json;as=", json),
            ("application/json;pretty=1", Some(Accepted { format: Format::PrettyJson, shape: Shape::Object })),
            ("application/json;sv=v1", None),
            ("application/json;q=0.5,application/yaml", yaml),
            ("*/*,application/yaml;q=0.1", yaml),
            ("application/yaml;q=x,application/json;q=0.1", json),
            ("application/*", json),
            ("*", json),
            ("application", None),
            ("a/b/c", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn errors_come_in_the_clients_format_or_as_text_to_read() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            Accepted::for_error(&headers, &Query::default())
        };
        let form = |format| Accepted { format, shape: Shape::Object };
        assert_eq!(of("application/vnd.kubernetes.protobuf"), form(Format::Protobuf));
        assert_eq!(of("application/json;as=Table;g=meta.k8s.io;v=v1,application/json"), form(Format::Json));
        assert_eq!(of("application/xml"), form(Format::PrettyJson));
        assert_eq!(of("application/json;as=Table;g=meta.k8s.io;v=v1"), form(Format::PrettyJson));
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
