//! Calls to webhooks: HTTPS to a URL or to a Service of the cluster, with the authority that the configuration names.
//!
//! Entry point: [`Client::call`]. Connections are kept and used again, HTTP/1.1 as upstream (so that calls spread over the
//! endpoints of a Service); nothing is opened, and no task runs, before the first call. Errors read as Go's HTTP client and
//! upstream's REST client word them, because users search for those words.
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook>.

mod answer;
mod connect;
mod resolve;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ApiError;
use axum::http::{HeaderValue, Method, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::timeout;

use self::connect::Connector;
use crate::view::View;

pub use self::connect::authorities;

/// Pools that are kept; with more configurations than this, all begin anew.
const MAX_POOLS: usize = 200;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;
/// The port of a Service that none is named of.
const DEFAULT_PORT: u16 = 443;

/// How a webhook is reached: a URL or a Service, and who vouches for its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientConfig {
    /// `https://host[:port]/path`.
    pub url: Option<String>,
    /// A Service of the cluster; it counts if both are given.
    pub service: Option<ServiceReference>,
    /// PEM of the authorities; the machine's own if it is empty.
    pub ca_bundle: Vec<u8>,
}

/// A Service as a webhook's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Path of the URL.
    pub path: String,
    /// Port of the Service; 443 if it is 0.
    pub port: u16,
}

/// Why a call did not give an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The configuration can't be used.
    #[error("{0}")]
    Unusable(String),
    /// Nobody answered; in Go's words.
    #[error("Post {}: {why}", api::field::go_quote(url))]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// The answer is no answer to the question.
    #[error("{0}")]
    Malformed(String),
    /// The webhook answered an error.
    #[error("{}", .0.message)]
    Refused(Box<ApiError>),
}

impl CallError {
    /// The code that audit and metrics note.
    pub fn code(&self) -> u16 {
        match self {
            Self::Unusable(_) => 500,
            Self::Unreachable { .. } | Self::Malformed(_) => 503,
            Self::Refused(error) => error.code,
        }
    }
}

/// See the module.
pub struct Client {
    view: Arc<dyn View>,
    advertised: String,
    pools: Mutex<BTreeMap<ClientConfig, Arc<Webhook>>>,
}

/// One webhook with its connections.
struct Webhook {
    pool: Pool<hyper_rustls::HttpsConnector<Connector>, Full<Bytes>>,
    /// Scheme, host and port as URLs show them.
    base: String,
    path: String,
    /// The Host header.
    host: HeaderValue,
}

impl Client {
    /// Services are found in `view`; `advertised` is the address of this server itself.
    pub fn new(view: Arc<dyn View>, advertised: String) -> Self {
        Self { view, advertised, pools: Mutex::default() }
    }

    /// Posts a JSON document and reads the one it is answered with.
    pub async fn call(&self, config: &ClientConfig, limit: Duration, body: &Value) -> Result<Value, CallError> {
        let webhook = self.webhook(config)?;
        let path = if webhook.path.is_empty() { "/" } else { &webhook.path };
        let path = format!("{path}?timeout={}s", limit.as_secs().max(1));
        let url = format!("{}{path}", webhook.base);
        let unreachable = |why: String| CallError::Unreachable { url: url.clone(), why };
        let request = Request::builder()
            .method(Method::POST)
            .uri(&url)
            .header(header::HOST, webhook.host.clone())
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| CallError::Unusable(error.to_string()))?;
        let exchange = async {
            let answer = webhook.pool.request(request).await.map_err(|error| unreachable(connect::reason(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await;
            let body = body.map_err(|error| CallError::Malformed(error.to_string()))?.to_bytes();
            answer::read(&head, &body)
        };
        match timeout(limit, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(unreachable("context deadline exceeded".to_owned())),
        }
    }

    fn webhook(&self, config: &ClientConfig) -> Result<Arc<Webhook>, CallError> {
        if let Some(known) = self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(config) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Webhook::new(config, &self.view, &self.advertised)?);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(config.clone(), Arc::clone(&made));
        Ok(made)
    }
}

impl Webhook {
    fn new(config: &ClientConfig, view: &Arc<dyn View>, advertised: &str) -> Result<Self, CallError> {
        let unusable = |error: &dyn std::fmt::Display| CallError::Unusable(error.to_string());
        let (base, path, connector, name) = match (&config.service, &config.url) {
            (Some(service), _) => {
                let name = format!("{}.{}.svc", service.name, service.namespace);
                let port = if service.port == 0 { DEFAULT_PORT } else { service.port };
                let connector = Connector::to_service(service, port, view, advertised);
                (format!("https://{name}:{port}"), service.path.clone(), connector, Some(name))
            }
            (None, Some(url)) => {
                let parsed: axum::http::Uri = url.parse().map_err(|error| unusable(&error))?;
                let authority = parsed.authority().ok_or_else(|| unusable(&"the URL has no host"))?;
                (format!("https://{authority}"), parsed.path().to_owned(), Connector::to_url(), None)
            }
            (None, None) => return Err(unusable(&"webhook configuration must have either service or URL")),
        };
        let host = base.trim_start_matches("https://");
        let host = HeaderValue::from_str(host).map_err(|error| unusable(&error))?;
        let connector = connect::over_tls(connector, &config.ca_bundle, name).map_err(|error| unusable(&error))?;
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .set_host(false)
            .build(connector);
        let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
        Ok(Self { pool, base, path: format!("{slash}{path}"), host })
    }
}
