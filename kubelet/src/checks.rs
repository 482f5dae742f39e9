//! Asking a container something: a command, an HTTP request, a connection, a gRPC health check.
//!
//! Entry: [`Target::check`], for probes, and [`Target::call`], for lifecycle hooks. Invariant: every question has a
//! time limit; its messages are those of Kubernetes.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::runtime::Runtime;

const BODY_LIMIT: usize = 10 * 1024;
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// A container that can be asked.
pub struct Target<'a> {
    pub runtime: &'a Runtime,
    pub container_id: &'a str,
    pub container: &'a Container,
    pub pod_ip: &'a str,
    /// A container on paper: the runtime answers for it.
    pub simulated: bool,
}

/// The answer to a question: fine, or what was wrong.
pub type Outcome = Result<(), String>;

impl Target<'_> {
    /// Asks what a probe asks.
    pub async fn check(&self, probe: &Probe) -> Outcome {
        let seconds = u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1);
        let limit = Duration::from_secs(seconds);
        if self.simulated {
            return self.exec(&ExecAction { command: Some(vec!["probe".into()]) }, limit).await;
        }
        if let Some(action) = &probe.exec {
            return self.exec(action, limit).await;
        }
        if let Some(action) = &probe.http_get {
            return self.http_get(action, limit).await;
        }
        if let Some(action) = &probe.tcp_socket {
            let port = self.port(&action.port)?;
            return self.tcp(action.host.as_deref(), port, limit).await;
        }
        if let Some(action) = &probe.grpc {
            return self.grpc(action, limit).await;
        }
        Err("missing probe handler".into())
    }

    /// Does what a lifecycle hook says.
    pub async fn call(&self, hook: &LifecycleHandler) -> Outcome {
        if let Some(action) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        if self.simulated {
            return Ok(());
        }
        if let Some(action) = &hook.exec {
            let command = action.command.clone().unwrap_or_default();
            return match self.runtime.exec(self.container_id, &command, 0).await {
                Ok((0, _)) => Ok(()),
                Ok((code, output)) => Err(format!(
                    "command '{}' exited with {code}: {}",
                    command.join(" "),
                    String::from_utf8_lossy(&output)
                )),
                Err(status) => Err(status.message().to_owned()),
            };
        }
        if let Some(action) = &hook.http_get {
            return self.http_get(action, HOOK_TIMEOUT).await;
        }
        Ok(())
    }

    async fn exec(&self, action: &ExecAction, limit: Duration) -> Outcome {
        let command = action.command.clone().unwrap_or_default();
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(1);
        match timeout(limit, self.runtime.exec(self.container_id, &command, seconds)).await {
            Err(_) => Err(format!("command timed out: \"{}\" timed out after {}s", command.join(" "), limit.as_secs())),
            Ok(Ok((0, _))) => Ok(()),
            Ok(Ok((_, output))) => Err(String::from_utf8_lossy(&output).into_owned()),
            Ok(Err(status)) => Err(status.message().to_owned()),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named = ports.filter(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
                named.chain(name.parse().ok()).next()
            }
        };
        let valid = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
        valid.ok_or_else(|| "couldn't find port: ".to_owned() + &format!("{port:?}"))
    }

    async fn tcp(&self, host: Option<&str>, port: u16, limit: Duration) -> Outcome {
        self.connect(host, port, limit).await.map(drop)
    }

    async fn connect(&self, host: Option<&str>, port: u16, limit: Duration) -> Result<TcpStream, String> {
        let host = host.filter(|host| !host.is_empty()).unwrap_or(self.pod_ip);
        match timeout(limit, TcpStream::connect((host, port))).await {
            Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(format!("dial tcp {host}:{port}: connect: connection refused"))
            }
            Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: connect: {error}")),
            Ok(Ok(stream)) => Ok(stream),
        }
    }

    async fn http_get(&self, action: &HTTPGetAction, limit: Duration) -> Outcome {
        let port = self.port(&action.port)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(self.pod_ip);
        let tls = action.scheme.as_deref() == Some("HTTPS");
        let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{port}{slash}{path}");
        let late =
            || format!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
        let answer = async {
            let stream = self.connect(Some(host), port, limit).await?;
            if tls {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
                let stream = connector().connect(name, stream).await.map_err(|error| error.to_string())?;
                request(stream, host, port, &format!("{slash}{path}"), action).await
            } else {
                request(stream, host, port, &format!("{slash}{path}"), action).await
            }
        };
        match timeout(limit, answer).await {
            Err(_) => Err(late()),
            Ok(Err(error)) => Err(format!("Get \"{url}\": {error}")),
            Ok(Ok(code)) if (200..400).contains(&code) => Ok(()),
            Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
        }
    }

    async fn grpc(&self, action: &GRPCAction, limit: Duration) -> Outcome {
        let port = u16::try_from(action.port).map_err(|error| error.to_string())?;
        let address = format!("{}:{port}", self.pod_ip);
        let late = || format!("timeout: failed to connect service \"{address}\" within {}s", limit.as_secs());
        let service = action.service.clone().unwrap_or_default();
        match timeout(limit, grpc_health(&address, service)).await {
            Err(_) => Err(late()),
            Ok(Err(error)) => Err(format!("error: health rpc failed: {error}")),
            Ok(Ok(1)) => Ok(()),
            Ok(Ok(_)) => Err("service unhealthy (responded with \"NOT_SERVING\")".into()),
        }
    }
}

async fn request<S>(stream: S, host: &str, port: u16, path: &str, action: &HTTPGetAction) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let mut builder = hyper::Request::get(path);
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let given = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    for header in headers {
        builder = builder.header(&header.name, &header.value);
    }
    if !given("host") {
        builder = builder.header("Host", format!("{host}:{port}"));
    }
    if !given("user-agent") {
        builder = builder.header("User-Agent", "kube-probe/1.36");
    }
    if !given("accept") {
        builder = builder.header("Accept", "*/*");
    }
    let request = builder.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(text)?;
        let code = answer.status().as_u16();
        // The body does not matter, but a server should see it taken.
        let _ = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        Ok(code)
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        code = &mut exchange => code,
        ended = &mut connection => match ended {
            Err(error) => Err(error.to_string()),
            Ok(()) => exchange.await,
        },
    }
}

/// TLS that asks for no proof: a probe checks whether a server answers, as in Kubernetes.
fn connector() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(schemes)))
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[derive(Debug)]
struct Unverified(Vec<SignatureScheme>);

impl ServerCertVerifier for Unverified {
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
        self.0.clone()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The status word of `grpc.health.v1.Health/Check`; 1 is SERVING.
async fn grpc_health(address: &str, service: String) -> Result<i32, String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthRequest { service });
    let answer = client.unary(request, path, codec).await.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner().status)
}
