//! Connections to webhooks. Entry points: [`over_tls`], and [`reason`] for why there is none.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{DEFAULT_PORT, ServiceReference, resolve};
use crate::view::{self, View};

/// Opens TCP connections to where a webhook is.
#[derive(Clone)]
pub(super) struct Connector {
    to: To,
}

#[derive(Clone)]
enum To {
    /// The host and port of the URL.
    Url,
    /// Whoever stands behind a Service at the moment.
    Service { service: ServiceReference, port: u16, view: Arc<dyn View>, advertised: String, turn: Arc<AtomicUsize> },
}

/// Why a connection could not be opened; in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DialError(String);

impl Connector {
    pub(super) fn to_url() -> Self {
        Self { to: To::Url }
    }

    pub(super) fn to_service(service: &ServiceReference, port: u16, view: &Arc<dyn View>, advertised: &str) -> Self {
        let (service, view, advertised) = (service.clone(), Arc::clone(view), advertised.to_owned());
        Self { to: To::Service { service, port, view, advertised, turn: Arc::default() } }
    }

    fn address(&self, uri: &Uri) -> Result<(String, u16), DialError> {
        match &self.to {
            To::Url => {
                let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                Ok((host.to_owned(), uri.port_u16().unwrap_or(DEFAULT_PORT)))
            }
            To::Service { service, port, view, advertised, turn } => {
                let ServiceReference { namespace, name, .. } = service;
                // This server itself is not one of the pods.
                if let ("default", "kubernetes", DEFAULT_PORT, Ok(own)) =
                    (namespace.as_str(), name.as_str(), *port, advertised.parse::<SocketAddr>())
                {
                    return Ok((own.ip().to_string(), own.port()));
                }
                let found: Option<Service> = view::get_as(view.as_ref(), "", "services", namespace, name);
                let endpoints: Option<Endpoints> = view::get_as(view.as_ref(), "", "endpoints", namespace, name);
                let choose = |count| turn.fetch_add(1, Ordering::Relaxed) % count;
                resolve::address(found.as_ref(), endpoints.as_ref(), name, *port, choose).map_err(DialError)
            }
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let address = self.address(&uri);
        Box::pin(async move {
            let (host, port) = address?;
            let stream = TcpStream::connect((host.as_str(), port)).await;
            let stream = stream.map_err(|error| DialError(dial_failure(&host, port, &error)))?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// TLS on top: certificates must be signed by one of these authorities, for this name or the URL's.
pub(super) fn over_tls(
    connector: Connector,
    ca_bundle: &[u8],
    name: Option<String>,
) -> Result<HttpsConnector<Connector>, String> {
    let mut roots = RootCertStore::empty();
    if ca_bundle.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in authorities(ca_bundle)? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
    Ok(match name {
        Some(name) => {
            let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
            builder
                .with_server_name_resolver(FixedServerNameResolver::new(name))
                .enable_http1()
                .wrap_connector(connector)
        }
        None => builder.enable_http1().wrap_connector(connector),
    })
}

/// The certificates in a bundle of authorities; the error is what Go's client library says of one that has none.
pub fn authorities(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let (mut sound, mut why) = (Vec::new(), "unable to parse bytes as PEM block");
    for (kind, bytes) in <(SectionKind, Vec<u8>)>::pem_slice_iter(bundle).flatten() {
        let is_certificate = kind == SectionKind::Certificate;
        if is_certificate && X509Certificate::from_der(&bytes).is_ok() {
            sound.push(CertificateDer::from(bytes));
        } else if is_certificate {
            why = "failed to parse certificate: x509: malformed certificate";
        } else {
            why = "no valid certificate authority data seen";
        }
    }
    if sound.is_empty() { Err(format!("unable to load root certificates: {why}")) } else { Ok(sound) }
}

fn dial_failure(host: &str, port: u16, error: &io::Error) -> String {
    let Ok(ip) = host.parse::<std::net::IpAddr>() else {
        return format!("dial tcp: lookup {host}: no such host");
    };
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {}: {why}", SocketAddr::new(ip, port))
}

/// Why a request failed, in Go's words.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = at {
        if let Some(dial) = error.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        if let Some(http) = error.downcast_ref::<hyper::Error>()
            && http.is_incomplete_message()
        {
            return "EOF".to_owned();
        }
        last = error.to_string();
        // An I/O error hides what it was made from.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    last
}

fn tls_failure(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
            rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
            other => format!("tls: {other}"),
        };
    };
    let time = |time: &rustls::pki_types::UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        k8s_openapi::jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
    };
    let why = match why {
        CertificateError::ExpiredContext { time: now, not_after } => format!(
            "certificate has expired or is not yet valid: current time {} is after {}",
            time(now),
            time(not_after)
        ),
        CertificateError::NotValidYetContext { time: now, not_before } => format!(
            "certificate has expired or is not yet valid: current time {} is before {}",
            time(now),
            time(not_before)
        ),
        CertificateError::Expired | CertificateError::NotValidYet => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // As rustls shows them: DnsName("a") or IpAddress(1.2.3.4).
            let bare = |shown: &String| {
                let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(shown);
                inner.trim_matches('"').to_owned()
            };
            let expected = expected.to_str().into_owned();
            let presented: Vec<String> = presented.iter().map(bare).collect();
            if presented.is_empty() {
                format!("certificate is not valid for any names, but wanted to match {expected}")
            } else {
                format!("certificate is valid for {}, not {expected}", presented.join(", "))
            }
        }
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
