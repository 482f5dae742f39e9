//! Whole requests on a server: what the decoders make of an input goes on to defaults, validation, patches and answers.

use std::sync::Arc;

use apiserver::storage::memory::Memory;
use apiserver::{ApiServer, Config, User};
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use process::{Clock, Rng};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::harness::fuzz;
use crate::seeds;

/// A server with a ConfigMap and a Pod in its namespace `default`.
pub struct Target {
    runtime: Runtime,
    server: Arc<ApiServer>,
    admin: Router,
    _tasks: JoinSet<()>,
}

/// What a request was answered.
pub struct Answer {
    /// The code.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

impl Target {
    /// A server in this thread.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().expect("a time"));
        let (server, tasks) = runtime.block_on(async {
            let built = ApiServer::build(Config::for_tests(), Arc::new(Memory::new()), clock, Rng::seeded(1));
            let server = built.expect("a server");
            let tasks = server.start(&CancellationToken::new()).await.expect("started");
            (server, tasks)
        });
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let user = User { name: "admin".to_owned(), groups, ..User::default() };
        let admin = apiserver::in_process(Arc::clone(&server), user);
        let target = Self { runtime, server, admin, _tasks: tasks };
        let account = r#"{"metadata":{"name":"default"}}"#;
        target.create("serviceaccounts", account);
        target.create("configmaps", r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#);
        target.create("pods", r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
        target
    }

    fn create(&self, kind: &str, body: &str) {
        let request = Request::post(format!("/api/v1/namespaces/default/{kind}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let answer = self.ask(request);
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Asks as an administrator.
    pub fn ask(&self, request: Request<Body>) -> Answer {
        self.ask_on(self.admin.clone(), request)
    }

    fn ask_on(&self, router: Router, request: Request<Body>) -> Answer {
        let answer = self.runtime.block_on(async {
            let response = router.oneshot(request).await.expect("an answer");
            let (parts, body) = response.into_parts();
            // Watches do not end by themselves, but time is not real here.
            let bytes = body.collect().await.expect("a body").to_bytes();
            Answer { status: parts.status, body: String::from_utf8_lossy(&bytes).into_owned() }
        });
        assert!(!answer.body.contains("the request handler panicked"), "{}", answer.body);
        answer
    }

    /// A write of the body that stores nothing.
    pub fn write(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let force = if content_type.contains("apply") { "&force=true" } else { "" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?dryRun=All&fieldManager=fuzz{force}"))
            .header("content-type", content_type)
            .body(Body::from(body.to_vec()));
        self.ask(request.expect("a request"))
    }
}

#[test]
fn paths() {
    fuzz("paths", seeds::PATHS, || {
        let target = Target::new();
        move |input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            let (method, path) = text.split_once(' ').unwrap_or(("GET", &text));
            let Ok(method) = method.parse::<Method>() else { return };
            if method != Method::GET && !path.contains("dryRun=All") {
                return;
            }
            if let Ok(request) = Request::builder().method(method).uri(path).body(Body::empty()) {
                target.ask(request);
            }
        }
    });
}

#[test]
fn headers() {
    fuzz("headers", seeds::HEADERS, || {
        let target = Target::new();
        let stranger = apiserver::router(Arc::clone(&target.server));
        move |input: &[u8]| {
            let request = |path: &str| {
                let mut request = Request::builder().uri(path).body(Body::empty()).expect("a request");
                for line in input.split(|byte| *byte == b'\n') {
                    let mut parts = line.splitn(2, |byte| *byte == b':');
                    let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
                    let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
                    if let (Ok(name), Ok(value)) = (name, value) {
                        request.headers_mut().append(name, value);
                    }
                }
                request
            };
            for path in
                ["/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/pods/p/exec?command=a&stdout=1"]
            {
                target.ask(request(path));
                let answer = target.ask_on(stranger.clone(), request(path));
                assert!(!answer.status.is_success(), "nobody in particular may read");
            }
        }
    });
}

#[test]
fn continue_tokens() {
    fuzz("continue tokens", seeds::TOKENS, || {
        let target = Target::new();
        move |input: &[u8]| {
            for token in [URL_SAFE_NO_PAD.encode(input), String::from_utf8_lossy(input).into_owned()] {
                let token: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let path = format!("/api/v1/configmaps?limit=1&continue={token}");
                if let Ok(request) = Request::get(path).body(Body::empty()) {
                    let answer = target.ask(request);
                    assert!(matches!(answer.status.as_u16(), 200 | 400 | 410 | 504), "{}", answer.body);
                }
            }
        }
    });
}

#[test]
fn bodies() {
    fuzz("bodies", seeds::JSON, || {
        let target = Target::new();
        move |input: &[u8]| {
            for kind in ["configmaps", "pods", "services"] {
                let path = format!("/api/v1/namespaces/default/{kind}");
                let answer = target.write("POST", &path, "application/json", input);
                // With a resourceVersion or an unreadable patch upstream says 500, too.
                assert!(answer.status.as_u16() <= 500, "{}", answer.body);
            }
        }
    });
}

#[test]
fn yaml_bodies() {
    fuzz("YAML bodies on the server", seeds::YAML, || {
        let target = Target::new();
        move |input: &[u8]| {
            target.write("POST", "/api/v1/namespaces/default/configmaps", "application/yaml", input);
            target.write("PATCH", "/api/v1/namespaces/default/configmaps/a", "application/apply-patch+yaml", input);
        }
    });
}

#[test]
fn patches() {
    fuzz("patches", seeds::PATCHES, || {
        let target = Target::new();
        move |input: &[u8]| {
            let Some((kind, text)) = input.split_first() else { return };
            let content_type = match kind {
                b'j' => "application/json-patch+json",
                b'm' => "application/merge-patch+json",
                b's' => "application/strategic-merge-patch+json",
                _ => "application/apply-patch+yaml",
            };
            for path in ["configmaps/a", "pods/p", "pods/p/status"] {
                target.write("PATCH", &format!("/api/v1/namespaces/default/{path}"), content_type, text);
            }
        }
    });
}
