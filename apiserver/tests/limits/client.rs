//! A server on a port of this machine, and a client that speaks HTTP by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::server::{self, Limits};
use apiserver::storage::memory::Memory;
use apiserver::{ApiServer, Config, User};
use axum::Router;
use axum::body::Body;
use process::{Clock, Rng};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that listens.
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// The server behind it.
    pub server: Arc<ApiServer>,
    closing: CancellationToken,
    work: CancellationToken,
    ended: CancellationToken,
    _tasks: JoinSet<()>,
}

/// An answer.
pub struct Answer {
    /// The code.
    pub status: u16,
    /// The body, chunks put together.
    pub body: String,
    /// Whether the body came to its end.
    pub whole: bool,
}

/// A connection to it.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

fn admin() -> User {
    let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
    User { name: "admin".to_owned(), groups, ..User::default() }
}

impl Listening {
    /// Starts one whose clients are all administrators.
    pub async fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert, certificate.cert.pem()).expect("written");
        std::fs::write(&key, certificate.signing_key.serialize_pem()).expect("written");
        let tls = server::tls(&cert, &key, &cert).expect("TLS");
        let built = ApiServer::build(Config::for_tests(), Arc::new(Memory::new()), Clock::system(), Rng::seeded(1));
        let server = built.expect("a server");
        let (closing, work, ended) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut tasks = server.start(&work).await.expect("started");
        let listener = server::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = apiserver::in_process(Arc::clone(&server), admin());
        let (close, end) = (closing.clone(), ended.clone());
        tasks.spawn(async move {
            server::serve_within(limits, listener, tls, router, close).await;
            end.cancel();
        });
        Self { address, server, closing, work, ended, _tasks: tasks }
    }

    /// A way in without a socket.
    pub fn router(&self) -> Router {
        apiserver::in_process(Arc::clone(&self.server), admin())
    }

    /// As when the process is told to end.
    pub fn close(&self) {
        self.closing.cancel();
        self.server.draining.cancel();
    }

    /// Until all connections have ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the port is closed.
    pub fn is_closed(&self) -> bool {
        std::net::TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).is_err()
    }

    /// Open watches of ConfigMaps.
    pub fn streams(&self) -> usize {
        let name = "apiserver_longrunning_requests{verb=\"WATCH\",group=\"\",version=\"v1\",resource=\"configmaps\"";
        self.metric(name)
    }

    /// Writes that run.
    pub fn running(&self) -> usize {
        self.metric("apiserver_current_inflight_requests{request_kind=\"mutating\"")
    }

    fn metric(&self, name: &str) -> usize {
        let text = apiserver::metrics::scrape(&self.server);
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !so(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
    }

    /// Connects, with these protocols on offer.
    pub async fn connect(&self, protocols: &[&[u8]]) -> Connection {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let anything = Arc::new(Anything);
        let mut config =
            builder.expect("versions").dangerous().with_custom_certificate_verifier(anything).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("TLS");
        Connection { stream, read: Vec::new() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.closing.cancel();
        self.work.cancel();
    }
}

/// Creates a ConfigMap.
pub async fn create(router: &Router, body: &serde_json::Value) {
    let request = http::Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request");
    assert_eq!(router.clone().oneshot(request).await.expect("an answer").status(), 201);
}

/// Whether the other side closes in time.
pub async fn ends(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let closed = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    timeout(PATIENCE, closed).await.is_ok()
}

impl Connection {
    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        assert!(self.try_write(bytes).await, "sent");
    }

    /// Sends bytes; false if the other side has closed.
    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Whether the other side closes in time.
    pub async fn ends(&mut self) -> bool {
        ends(&mut self.stream).await
    }

    /// Sends a request and reads the answer. A server that refuses may close before it has read everything.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.try_write(head.as_bytes()).await;
        self.try_write(body).await;
        self.answer().await
    }

    /// Reads an answer.
    pub async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.read_answer()).await.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.read.drain(..end + 4).collect::<Vec<u8>>();
            }
            assert!(self.more().await, "closed without an answer: {}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if let Some(length) = length {
            while self.read.len() < length && self.more().await {}
            let whole = self.read.len() >= length;
            let body = self.read.drain(..length.min(self.read.len())).collect::<Vec<u8>>();
            return Answer { status, body: String::from_utf8_lossy(&body).into_owned(), whole };
        }
        let mut body = Vec::new();
        let whole = loop {
            let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") else {
                if !self.more().await {
                    break false;
                }
                continue;
            };
            let text = String::from_utf8_lossy(&self.read[..end]).into_owned();
            let size = usize::from_str_radix(&text, 16).expect("the size of a chunk");
            while self.read.len() < end + 2 + size + 2 && self.more().await {}
            if size == 0 || self.read.len() < end + 2 + size {
                self.read.clear();
                break size == 0;
            }
            body.extend_from_slice(&self.read[end + 2..end + 2 + size]);
            self.read.drain(..end + 2 + size + 2);
        };
        Answer { status, body: String::from_utf8_lossy(&body).into_owned(), whole }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }
}

/// Trusts any server: the tests are about something else.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
