//! What happens to a request. Entry point: [`serve`]: who asks, may they, and which verb's function answers.
//!
//! Handlers know no kind: they ask the strategy of the row that the path names.

mod audited;
mod computed;
mod connect;
mod deadline;
mod plain;
mod reads;
mod subresources;
mod turn;
mod writes;

use std::sync::Arc;

use api::ApiError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use tokio::time::timeout;

use super::answer::{self, Form, Include};
use super::media::{Accepted, LIST_TYPES, OBJECT_TYPES, Offers, Shape, check_accept};
use super::options::{DeleteOptions, Options, WriteOptions};
use super::query::Query;
use super::request_info::{RequestInfo, ResourcePath};
use super::{InProcess, body};
use crate::ApiServer;
use crate::audit::{Annotations, Record};
use crate::authn::{User, impersonation};
use crate::authz::{self, Attributes, Decision};
use crate::flow_control::Verdict;
use crate::metrics::Observed;
use crate::read::ListError;
use crate::resources::{ResourceInfo, Strategy, Subresource};
use crate::server::ClientCertificates;
use crate::write::{Place, Warnings};

/// The largest body that is read.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// The media types of patches.
const PATCH_TYPES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];

/// A request, read and admitted.
pub struct Call {
    server: Arc<ApiServer>,
    parts: Parts,
    query: Query,
    info: RequestInfo,
    user: User,
    warnings: Warnings,
    annotations: Annotations,
    record: Option<Arc<Record>>,
}

/// Answers a request.
pub async fn serve(server: Arc<ApiServer>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_well_escaped(parts.uri.path()) {
        return answer::unreadable();
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let observed = Observed::begin(&server, &info);
    let form = Accepted::for_error(&parts.headers, &query);
    let limit = match deadline::of(&query, &info) {
        Ok(limit) => limit,
        Err(error) => return observed.end(answer::error(&error, form, None)),
    };
    let respond = respond(server, parts, query, info, body, form);
    observed.end(match limit {
        None => respond.await,
        Some(limit) => timeout(limit, respond).await.unwrap_or_else(|_| deadline::passed(form)),
    })
}

async fn respond(
    server: Arc<ApiServer>,
    parts: Parts,
    query: Query,
    info: RequestInfo,
    body: Body,
    form: Accepted,
) -> Response {
    let user = match authenticate(&server, &parts).await {
        Ok(user) => user,
        Err(error) => return audited::refused(&server, &parts, &info, answer::error(&error, form, None)).await,
    };
    let Some(audit) = server.audit.clone() else {
        return admitted(Arrived { server, parts, query, info, user, record: None }, body, form).await;
    };
    match audit.begin(&parts, &info, &user).await {
        Some(recording) => {
            audited::admitted(recording, Arrived { server, parts, query, info, user, record: None }, body, form).await
        }
        None => admitted(Arrived { server, parts, query, info, user, record: None }, body, form).await,
    }
}

/// Whether two hexadecimal digits follow every percent sign.
fn is_well_escaped(path: &str) -> bool {
    let is_hex = |digits: Option<&str>| digits.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
    path.match_indices('%').all(|(at, _)| is_hex(path.get(at + 1..at + 3)))
}

/// A request of somebody known.
struct Arrived {
    server: Arc<ApiServer>,
    parts: Parts,
    query: Query,
    info: RequestInfo,
    user: User,
    /// What the audit log is told.
    record: Option<Arc<Record>>,
}

/// Lets a request wait its turn, asks whether it may, and answers it.
async fn admitted(arrived: Arrived, body: Body, form: Accepted) -> Response {
    let Arrived { server, parts, query, info, user, record } = arrived;
    let asked = match impersonated(&server, &parts, &query, &info, &user) {
        Ok(asked) => asked,
        Err(error) => return answer::error(&error, form, None),
    };
    if let Some(record) = record.as_ref().filter(|_| asked.user != user) {
        record.impersonated(&asked.user);
    }
    let verdict = turn::take(&server, &asked.user, &query, &info).await;
    let mut response = match &verdict {
        Some(Verdict { seat: Err(_), .. }) => turn::refused(),
        _ => match authorize(&server, &asked, record.as_deref()) {
            Ok(()) => {
                let (warnings, annotations) = (Warnings::default(), Annotations::default());
                let call = Call { server, parts, query, info, user: asked.user, warnings, annotations, record };
                call.answer(body, form).await
            }
            Err(error) => answer::error(&error, form, None),
        },
    };
    if let Some(verdict) = &verdict {
        verdict.mark(response.headers_mut());
    }
    response
}

/// Who asks.
async fn authenticate(server: &ApiServer, parts: &Parts) -> Result<User, ApiError> {
    match parts.extensions.get::<InProcess>() {
        Some(InProcess(user)) => Ok(user.clone()),
        None => {
            let certificates = parts.extensions.get::<ClientCertificates>().cloned().unwrap_or_default();
            server.authenticators.authenticate(parts, &certificates).await
        }
    }
}

/// What is asked, and as whom.
fn impersonated(
    server: &ApiServer,
    parts: &Parts,
    query: &Query,
    info: &RequestInfo,
    user: &User,
) -> Result<Attributes, ApiError> {
    let mut asked = Attributes::new(user, info.verb, info.target()).with_field_selector(query.first("fieldSelector"));
    asked.user = impersonation::impersonate(&server.authorizers, &parts.headers, &asked)?;
    Ok(asked)
}

/// Whether the user may; the audit log is told why.
fn authorize(server: &ApiServer, asked: &Attributes, record: Option<&Record>) -> Result<(), ApiError> {
    let Some(record) = record else { return server.authorizers.require(asked) };
    let (decision, reason) = match server.authorizers.authorize(asked) {
        Decision::Allow(reason) => ("allow", reason),
        Decision::NoOpinion(reason) => ("forbid", reason),
    };
    record.annotations.add("authorization.k8s.io/decision", decision);
    record.annotations.add("authorization.k8s.io/reason", reason.as_str());
    if decision == "allow" { Ok(()) } else { Err(authz::forbidden(asked, &reason)) }
}

/// Why a call failed.
struct Failure(ListError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error.into())
    }
}

impl From<ListError> for Failure {
    fn from(error: ListError) -> Self {
        Self(error)
    }
}

impl Call {
    async fn answer(&self, body: Body, form: Accepted) -> Response {
        let Some(at) = self.info.resource.clone() else {
            if self.info.path.starts_with("/openid/") || self.info.path.starts_with("/.well-known/") {
                self.server.tokens.ready().await;
            }
            return self.plain(form);
        };
        let answered = self.resource(&at, body).await;
        self.finish(answered, form)
    }

    fn finish(&self, answered: Result<Response, Failure>, form: Accepted) -> Response {
        let mut response = match answered {
            Ok(response) => response,
            Err(Failure(failed)) => {
                if let Some(record) = &self.record {
                    record.failed(&failed.error);
                }
                answer::error(&failed.error, form, failed.page)
            }
        };
        answer::warn(&mut response, &self.warnings.list());
        response
    }

    /// Tells the audit log what was sent.
    fn sent(&self, object: impl FnOnce() -> serde_json::Value) {
        if let Some(record) = &self.record {
            record.sent(object);
        }
    }

    fn annotations(&self) -> &Annotations {
        self.record.as_ref().map_or(&self.annotations, |record| &record.annotations)
    }

    async fn resource(&self, at: &ResourcePath, body: Body) -> Result<Response, Failure> {
        let Some(strategy) = self.server.resources.find(&at.group, &at.version, &at.resource) else {
            return self.unserved(at).await;
        };
        if let Some(warning) = strategy.deprecation() {
            self.warnings.add(warning);
        }
        let (namespace, subresource) = route(strategy.info(), at, &self.parts.method, strategy.as_ref())?;
        let target = On { call: self, at, strategy: &strategy, namespace, subresource };
        if let Some(subresource) = subresource.filter(|subresource| !matches!(subresource, Subresource::Status)) {
            // In memory of its own: no other request pays for the largest.
            return Box::pin(target.subresource(subresource, body)).await;
        }
        self.check_media(at, strategy.info())?;
        match self.parts.method.as_str() {
            "GET" if strategy.computed() && self.info.verb == "watch" => {
                Err(ApiError::method_not_supported(&strategy.info().group_resource(), "watch").into())
            }
            "GET" if strategy.computed() && at.named => target.get_computed().await,
            "GET" if strategy.computed() => target.list_computed().await,
            "GET" if self.info.verb == "watch" => target.watch().await,
            "GET" if at.named => target.get().await,
            "GET" => target.list().await,
            "POST" => target.create(body).await,
            "PUT" => target.replace(body).await,
            "PATCH" => target.patch(body).await,
            "DELETE" if at.named => target.delete(body).await,
            "DELETE" => target.delete_collection(body).await,
            _ => Err(ApiError::method_not_allowed().into()),
        }
    }

    /// What go-restful refuses by Content-Type and Accept; custom resources do not pass through it.
    fn check_media(&self, at: &ResourcePath, info: &ResourceInfo) -> Result<(), ApiError> {
        if info.custom {
            return Ok(());
        }
        if self.parts.method == Method::PATCH && !PATCH_TYPES.contains(&self.content_type()) {
            let mut error = ApiError::unsupported_media_type("415: Unsupported Media Type");
            error.details = Some(Box::default());
            return Err(error);
        }
        let lists = self.parts.method == Method::GET && (!at.named || at.watch_path);
        check_accept(&self.parts.headers, if lists { LIST_TYPES } else { OBJECT_TYPES })
    }

    fn content_type(&self) -> &str {
        let text = self.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.split(';').next().unwrap_or_default().trim()
    }

    fn user_agent(&self) -> &str {
        self.parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|error| {
            let limited =
                std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            if limited {
                ApiError::request_entity_too_large(format_args!("limit is {BODY_LIMIT}"))
            } else {
                ApiError::bad_request(format!("the body of the request could not be read: {error}"))
            }
        })
    }
}

/// Requests that last as long as somebody listens.
fn is_stream(info: &RequestInfo, at: &ResourcePath) -> bool {
    info.verb == "watch" || turn::is_endless(at)
}

/// Which namespace and subresource a path means; 404 and 405 for what there is not.
fn route<'a>(
    info: &ResourceInfo,
    at: &'a ResourcePath,
    method: &Method,
    strategy: &dyn Strategy,
) -> Result<(&'a str, Option<Subresource>), ApiError> {
    let namespace = if info.namespaced { at.namespace.as_str() } else { "" };
    // The namespace of a namespace is its own name.
    let own = info.group.is_empty() && info.plural == "namespaces" && at.namespace == at.name;
    let misplaced = !info.namespaced && !at.namespace.is_empty() && !own;
    if misplaced || (at.named && at.name.is_empty()) || (info.namespaced && at.named && namespace.is_empty()) {
        return Err(ApiError::path_not_found());
    }
    let subresource = match at.subresource.as_str() {
        "" => None,
        name => Some(
            info.subresources.iter().copied().find(|sub| sub.as_str() == name).ok_or_else(ApiError::path_not_found)?,
        ),
    };
    if !at.rest.is_empty() && subresource != Some(Subresource::Proxy) {
        return Err(ApiError::path_not_found());
    }
    let whole = info.namespaced && namespace.is_empty();
    // What is not kept is only ever sent to its collection.
    let only_sent = !info.stored && !strategy.computed();
    if (only_sent && (at.named || whole)) || (!info.stored && at.watch_path) {
        return Err(ApiError::path_not_found());
    }
    let allowed: &[&str] = match (subresource, at.named) {
        _ if at.watch_path => &["GET"],
        (Some(subresource), _) => methods(subresource),
        (None, _) if strategy.computed() => &["GET"],
        (None, _) if !info.stored => &["POST"],
        (None, true) => &["GET", "PUT", "PATCH", "DELETE"],
        (None, false) if whole => &["GET"],
        (None, false) if strategy.delete_collection() => &["GET", "POST", "DELETE"],
        (None, false) => &["GET", "POST"],
    };
    if !allowed.contains(&"*") && !allowed.contains(&method.as_str()) {
        return Err(ApiError::method_not_allowed());
    }
    if at.named
        && let [first, ..] = api::names::path_segment(&at.name).as_slice()
    {
        let quoted = api::field::go_quote(&at.name);
        return Err(ApiError::bad_request(format!("Name parameter invalid: {quoted}: {first}")));
    }
    Ok((namespace, subresource))
}

fn methods(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Status
        | Subresource::Scale
        | Subresource::EphemeralContainers
        | Subresource::Resize
        | Subresource::Approval => &["GET", "PUT", "PATCH"],
        Subresource::Binding | Subresource::Eviction | Subresource::Token => &["POST"],
        Subresource::Log => &["GET"],
        Subresource::Exec | Subresource::Attach | Subresource::PortForward => &["GET", "POST"],
        Subresource::Proxy => &["*"],
        Subresource::Finalize => &["PUT"],
    }
}

/// A call on a resource that is served.
struct On<'a> {
    call: &'a Call,
    at: &'a ResourcePath,
    strategy: &'a Arc<dyn Strategy>,
    namespace: &'a str,
    subresource: Option<Subresource>,
}

impl<'a> On<'a> {
    fn info(&self) -> &'a ResourceInfo {
        self.strategy.info()
    }

    /// The form of the answer.
    fn form(&self) -> Result<Form<'a>, ApiError> {
        let call = self.call;
        let offers = Offers::of(self.strategy.as_ref());
        let accepted = Accepted::negotiate(&call.parts.headers, &call.query, offers)?;
        self.form_as(accepted)
    }

    fn form_as(&self, accepted: Accepted) -> Result<Form<'a>, ApiError> {
        let include = match accepted.shape {
            Shape::Table(_) => Include::parse(self.call.query.text("includeObject"))?,
            Shape::Object | Shape::Metadata(_) | Shape::MetadataList(_) => Include::Metadata,
        };
        Ok(Form { strategy: self.strategy.as_ref(), accepted, include, now: self.call.server.clock.now() })
    }

    fn place(&self, dry_run: bool) -> Place<'a> {
        Place {
            server: &self.call.server,
            strategy: self.strategy.as_ref(),
            namespace: self.namespace,
            name: if self.at.named { &self.at.name } else { "" },
            subresource: self.subresource,
            user: &self.call.user,
            manager: "",
            dry_run,
            warnings: &self.call.warnings,
            annotations: self.call.annotations(),
            options: Options::None,
        }
    }

    /// The place of a write that owns what it changes.
    fn place_for<'b>(&'b self, options: &'b WriteOptions) -> Place<'b> {
        Place { manager: &options.field_manager, options: Options::Write(options), ..self.place(options.dry_run) }
    }

    /// The place of a delete.
    fn place_of_delete<'b>(&'b self, options: &'b DeleteOptions) -> Place<'b> {
        Place { options: Options::Delete(options), ..self.place(options.dry_run) }
    }

    async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        self.call.read(body).await
    }

    fn options_of(&self, bytes: &[u8], kind: &str) -> Result<Option<serde_json::Value>, ApiError> {
        body::decode_options(&self.call.parts.headers, bytes, kind)
    }
}
