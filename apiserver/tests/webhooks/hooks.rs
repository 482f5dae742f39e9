//! Webhooks for tests: an HTTPS server that answers by path, remembers what it was asked, and is named in configurations.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::server::{Answer, Server};

/// Paths of configurations.
pub const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// Where most tests write.
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// See the module.
pub struct Hooks {
    port: u16,
    ca: String,
    asked: Asked,
    /// Connections that were opened.
    connections: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Hooks {
    /// Webhooks that answer a path and a request with a response; its uid is filled in.
    pub async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate that fits");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, connections) = (Asked::default(), Arc::new(Mutex::new(0)));
        let router = router(Arc::new(answer), Arc::clone(&asked));
        let (acceptor, count) = (TlsAcceptor::from(Arc::new(tls)), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().expect("no panic") += 1;
                let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, ca: STANDARD.encode(made.cert.pem()), asked, connections, _tasks: tasks }
    }

    /// What the webhooks were asked, in order: path and request.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }

    /// The paths alone.
    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, _)| path).collect()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("no panic")
    }

    /// How a configuration names the webhook at this path.
    pub fn client_config(&self, path: &str) -> Value {
        json!({"url": self.url(path), "caBundle": self.ca})
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// A webhook with this path that is asked about config maps, changed by `changes`.
    pub fn hook(&self, path: &str, changes: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.example.org", path.trim_start_matches('/').replace('/', "-")),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": self.client_config(path),
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        });
        if let (Some(fields), Some(changes)) = (hook.as_object_mut(), changes.as_object()) {
            fields.extend(changes.clone());
        }
        hook
    }
}

fn router(answer: Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>, asked: Asked) -> Router {
    Router::new().fallback(move |request: Request| {
        let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
        async move {
            let path = request.uri().path().to_owned();
            let bytes = request.into_body().collect().await.expect("the body can be read").to_bytes();
            let review: Value = serde_json::from_slice(&bytes).expect("a review");
            let question = review["request"].clone();
            asked.lock().expect("no panic").push((path.clone(), question.clone()));
            let mut response = answer(&path, &question);
            if let Some(seconds) = response.get("sleep").and_then(Value::as_u64) {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            if let Some(code) = response.get("code").and_then(Value::as_u64) {
                let text = response["text"].as_str().unwrap_or_default().to_owned();
                let code = u16::try_from(code).expect("a code");
                let answer = Response::builder().status(code).header("content-type", "text/plain");
                return answer.body(Body::from(text)).expect("an answer");
            }
            if response.get("uid").is_none() {
                response["uid"] = question["uid"].clone();
            }
            let review =
                json!({"kind": review["kind"].clone(), "apiVersion": review["apiVersion"].clone(), "response": response});
            Response::new(Body::from(review.to_string()))
        }
    })
}

/// The response of a webhook that changes something.
pub fn patched(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

/// Creates a configuration with these webhooks.
pub async fn configure(server: &Server, path: &str, name: &str, hooks: Vec<Value>) {
    let created = server.ask("POST", path, &json!({"metadata": {"name": name}, "webhooks": hooks})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    caught_up(server, path).await;
}

/// Webhooks count as soon as the watch cache knows them; a list waits for that.
pub async fn caught_up(server: &Server, path: &str) {
    assert_eq!(server.get(path).await.status, 200);
}

/// Creates a config map.
pub async fn create(server: &Server, name: &str) -> Answer {
    server.ask("POST", MAPS, &json!({"metadata": {"name": name}, "data": {"a": "1"}})).await
}
