//! A server in this process, on the store in memory and on virtual time, and ways to ask it: kube's client, or plain requests.

use std::sync::Arc;

use apiserver::storage::memory::Memory;
use apiserver::{ApiServer, Config, User};
use axum::Router;
use axum::body::{Body, Bytes};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::jiff::Timestamp;
use process::{Clock, Rng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// See the module.
pub struct Server {
    /// The server.
    pub server: Arc<ApiServer>,
    token: CancellationToken,
    _tasks: JoinSet<()>,
}

/// What a plain request was answered.
pub struct Answer {
    /// The code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// The body as it came.
    pub bytes: Bytes,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Server {
    /// A server with the namespace `default` and its account, as the controllers would leave it.
    pub async fn start() -> Self {
        Self::start_with(Config::for_tests()).await
    }

    /// The same with other flags.
    pub async fn start_with(config: Config) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a timestamp"));
        let server =
            ApiServer::build(config, Arc::new(Memory::new()), clock, Rng::seeded(1)).expect("the server is built");
        let token = CancellationToken::new();
        let tasks = server.start(&token).await.expect("the server starts");
        let started = Self { server, token, _tasks: tasks };
        started.ask("POST", "/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
        let account = json!({"metadata": {"name": "default"}});
        started.ask("POST", "/api/v1/namespaces/default/serviceaccounts", &account).await;
        started
    }

    /// A way in as an administrator.
    pub fn router(&self) -> Router {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let user = User { name: "admin".to_owned(), groups, ..User::default() };
        apiserver::in_process(Arc::clone(&self.server), user)
    }

    /// kube's client on it.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// Sends a JSON body; null sends none.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[("content-type", "application/json")], text).await
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null).await
    }

    /// Sends a patch; `kind` is json, merge or strategic-merge.
    pub async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.send("PATCH", path, &[("content-type", &content_type)], body.to_string()).await
    }

    /// Sends anything.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method.parse::<Method>().expect("a method")).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let response = self.router().oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body can be read").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, bytes, text, body }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

impl Answer {
    /// Code and message of an error, for tables.
    pub fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["message"].as_str().unwrap_or_default())
    }

    /// The names of a list's items.
    pub fn names(&self) -> Vec<&str> {
        let items = self.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
    }

    /// The `Warning` headers.
    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).collect()
    }
}
