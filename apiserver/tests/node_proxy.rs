//! Logs, exec, port-forward and proxies: a real API server, and a kubelet that answers over real TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::args::KubeletTls;
use apiserver::server::{self, ClientCertificates};
use apiserver::storage::memory::Memory;
use apiserver::storage::{Expect, Write};
use apiserver::{ApiServer, Config, User};
use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use process::{Clock, Rng};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// An API server, the kubelet of its node `n`, and the pods `p` (two containers) and `unbound`.
struct Fixture {
    router: Router,
    address: SocketAddr,
    token: CancellationToken,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let files = certificates(dir.path());
        let token = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let kubelet = listener.local_addr().expect("address");
        let tls = server::tls(&files.certificate, &files.key, &files.authority).expect("TLS");
        let mut tasks = JoinSet::new();
        tasks.spawn(server::serve(listener, tls, fake_kubelet(), token.clone()));

        let config = Config { kubelet_tls: Some(files), ..Config::for_tests() };
        let server =
            ApiServer::build(config, Arc::new(Memory::new()), Clock::system(), Rng::seeded(1)).expect("server");
        let mut running = server.start(&token).await.expect("start");
        tasks.spawn(async move { while running.join_next().await.is_some() {} });
        put(&server, "/registry/nodes/n", node(kubelet.port())).await;
        put(&server, "/registry/nodes/gone", node(1)).await;
        let pod = |name: &str, node: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}, "status": {}})
        };
        for (name, node) in [("p", "n"), ("unbound", ""), ("lost", "gone"), ("nowhere", "no-node")] {
            put(&server, &format!("/registry/pods/default/{name}"), pod(name, node)).await;
        }
        let admin = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
        let router = apiserver::in_process(server, admin);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address");
        let (served, ends) = (router.clone(), token.clone());
        tasks.spawn(async move {
            axum::serve(listener, served).with_graceful_shutdown(ends.cancelled_owned()).await.expect("serve")
        });
        Self { router, address, token, _tasks: tasks, _dir: dir }
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("authorization", "Bearer secret").body(Body::empty()).expect("request");
        let answer = self.router.clone().oneshot(request).await.expect("answer");
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn refusal(&self, path: &str) -> String {
        let (status, body) = self.get(path).await;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
        assert_eq!((body["kind"].as_str(), body["code"].as_u64()), (Some("Status"), Some(u64::from(status.as_u16()))));
        format!("{} {}", status.as_u16(), body["message"].as_str().unwrap_or_default())
    }
}

fn node(port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}})
}

async fn put(server: &ApiServer, key: &str, value: Value) {
    let value = Bytes::from(serde_json::to_vec(&value).expect("JSON"));
    server.storage.commit(key, Expect::Absent, Write::Put { value, ttl: None }).await.expect("commit");
}

fn fake_kubelet() -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", any(logs))
        .route("/exec/{namespace}/{pod}/{container}", any(echo))
        .route("/portForward/{namespace}/{pod}", any(echo))
        .route("/metrics", any(seen))
        .route("/deep/{*rest}", any(seen))
}

async fn logs(Extension(certificates): Extension<ClientCertificates>, request: Request) -> Response {
    if certificates.0.is_empty() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match request.uri().path() {
        "/containerLogs/default/p/b" => {
            let message = "container \"b\" in pod \"p\" is waiting to start: ContainerCreating";
            (StatusCode::BAD_REQUEST, message).into_response()
        }
        _ => {
            let lines = ["one\n".to_owned(), format!("{}\n", request.uri().query().unwrap_or_default())];
            Body::from_stream(futures::stream::iter(lines.map(Ok::<_, std::io::Error>))).into_response()
        }
    }
}

async fn seen(request: Request) -> String {
    let secret = request.headers().contains_key("authorization");
    format!("{} {} secret={secret}", request.method(), request.uri())
}

async fn echo(upgrade: WebSocketUpgrade, request: Request) -> Response {
    let asked = request.uri().to_string();
    upgrade.protocols(["v5.channel.k8s.io"]).on_upgrade(|mut socket| async move {
        socket.send(Message::Text(asked.into())).await.expect("send");
        while let Some(Ok(Message::Binary(bytes))) = socket.recv().await {
            socket.send(Message::Binary(bytes)).await.expect("send");
        }
    })
}

fn certificates(dir: &Path) -> KubeletTls {
    let ca_key = KeyPair::generate().expect("key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("certificate").pem();
    let key = KeyPair::generate().expect("key");
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).expect("certificate");
    let write = |name: &str, text: String| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    KubeletTls {
        authority: write("ca.pem", ca_pem),
        certificate: write("cert.pem", cert.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}

#[tokio::test]
async fn logs_are_streamed_from_the_kubelet() {
    let fixture = Fixture::new().await;
    let (status, body) = fixture.get("/api/v1/namespaces/default/pods/p/log?container=a&tailLines=5&follow=true").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "one\nfollow=true&tailLines=5\n"));
    let (status, body) = fixture.get("/api/v1/namespaces/default/pods/unbound/log?container=a").await;
    assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""));
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let fixture = Fixture::new().await;
    let table = [
        ("pods/p/log", "400 a container name must be specified for pod p, choose one of: [a b]"),
        ("pods/p/log?container=x", "400 container x is not valid for pod p"),
        ("pods/p/log?container=b", "400 container \"b\" in pod \"p\" is waiting to start: ContainerCreating"),
        ("pods/none/log", "404 pods \"none\" not found"),
        ("pods/nowhere/log?container=a", "404 nodes \"no-node\" not found"),
        (
            "pods/lost/log?container=a",
            "500 Get \"https://127.0.0.1:1/containerLogs/default/lost/a\": dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        ("pods/unbound/exec?container=a&command=ls", "400 pod unbound does not have a host assigned"),
        ("pods/p/exec?container=a&command=ls", "400 Upgrade request required"),
        ("pods/p/proxy/", "400 address not allowed"),
        ("services/none/proxy/x", "404 services \"none\" not found"),
        ("pods/a:b:c:d/proxy/", "400 invalid pod request \"a:b:c:d\""),
    ];
    for (path, expected) in table {
        assert_eq!(fixture.refusal(&format!("/api/v1/namespaces/default/{path}")).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_nodes_proxy_is_its_kubelet() {
    let fixture = Fixture::new().await;
    let (status, body) = fixture.get("/api/v1/nodes/n/proxy/metrics?a=b").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "GET /metrics?a=b secret=false"));
    let (_, body) = fixture.get("/api/v1/nodes/n/proxy/deep/a%2Fb/proxy/").await;
    assert_eq!(body, "GET /deep/a%2Fb/proxy/ secret=false");
    let (status, _) = fixture.get("/api/v1/nodes/n/proxy?a=b").await;
    assert_eq!(status, StatusCode::MOVED_PERMANENTLY);
    let (status, _) = fixture.get("/api/v1/nodes/n/proxy/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let refused = fixture.refusal("/api/v1/nodes/gone/proxy/metrics").await;
    assert_eq!(refused, "503 error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused");
}

#[tokio::test]
async fn exec_and_port_forward_become_the_kubelets_connection() {
    let fixture = Fixture::new().await;
    let table = [
        (
            "exec?container=b&command=sh&command=-c&command=a%20b&stdin=true&stdout=true&tty=true",
            "/exec/default/p/b?input=1&output=1&tty=1&command=sh&command=-c&command=a%20b",
        ),
        ("portforward?ports=80", "/portForward/default/p?port=80"),
    ];
    for (path, expected) in table {
        let mut request = format!("ws://{}/api/v1/namespaces/default/pods/p/{path}", fixture.address)
            .into_client_request()
            .expect("request");
        request.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().expect("header"));
        let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.expect("upgrade");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        assert_eq!(
            socket.next().await.expect("message").expect("message").into_text().expect("text").as_str(),
            expected
        );
        let large = Bytes::from(vec![7; 300_000]);
        socket.send(tungstenite::Message::Binary(large.clone())).await.expect("send");
        assert_eq!(socket.next().await.expect("message").expect("message").into_data(), large);
        socket.close(None).await.expect("close");
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    }
}
