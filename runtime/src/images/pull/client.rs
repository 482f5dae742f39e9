//! One conversation with a registry: requests, redirects, tokens.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cri::v1::AuthConfig;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::reference::Reference;

const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pieces of a body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
const LARGEST_DOCUMENT: usize = 16 << 20;

/// Why a registry gave no image.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It cannot be reached.
    #[error("the registry {host} cannot be reached: {why}")]
    Unreachable {
        /// Its host.
        host: String,
        /// What the network said.
        why: String,
    },
    /// It has no such image.
    #[error("not found")]
    NotFound,
    /// It does not let us.
    #[error("pull access denied, repository does not exist or may require authorization")]
    Denied,
    /// It answers something else.
    #[error("the registry answered {0}")]
    Answer(StatusCode),
    /// It answers nonsense.
    #[error("the registry's answer is malformed: {0}")]
    Malformed(String),
    /// The connection broke.
    #[error("the transfer broke off: {0}")]
    Broken(String),
    /// What arrived is not what was asked for.
    #[error("{expected} arrived with digest {found}")]
    Digest {
        /// As asked for.
        expected: String,
        /// As it is.
        found: String,
    },
    /// Writing what arrived.
    #[error("storing a layer: {0}")]
    Store(#[from] std::io::Error),
}

type Result<T> = std::result::Result<T, PullError>;
type Http = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Where a blob goes.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// Into memory.
    Document,
    /// Into this file.
    File(&'a Path),
}

/// A registry and our standing with it.
pub struct Client {
    http: Http,
    base: String,
    host: String,
    repository: String,
    basic: Option<String>,
    authorization: Option<String>,
}

impl Client {
    /// For one repository.
    pub fn new(reference: &Reference, auth: Option<&AuthConfig>) -> Result<Self> {
        let host = match reference.registry.as_str() {
            "docker.io" => "registry-1.docker.io".to_owned(),
            other => other.to_owned(),
        };
        let scheme = if is_local(&host) { "http" } else { "https" };
        let authorization =
            auth.filter(|a| !a.registry_token.is_empty()).map(|a| format!("Bearer {}", a.registry_token));
        Ok(Self {
            http: http_client()?,
            base: format!("{scheme}://{host}/v2/{}", reference.repository),
            host,
            repository: reference.repository.clone(),
            basic: auth.and_then(basic),
            authorization,
        })
    }

    /// A manifest by tag or digest.
    pub async fn manifest(&mut self, wanted: &str) -> Result<Vec<u8>> {
        let url = format!("{}/manifests/{wanted}", self.base);
        let mut response = self.get(&url, self.authorization.as_deref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|c| c.to_str().ok()).map(str::to_owned);
            self.authorization = Some(self.authorize(&challenge.unwrap_or_default()).await?);
            response = self.get(&url, self.authorization.as_deref()).await?;
        }
        let bytes = self.read(accepted(response)?).await?;
        if wanted.starts_with("sha256:") {
            check(wanted, &Sha256::digest(&bytes))?;
        }
        Ok(bytes)
    }

    /// A small blob.
    pub async fn document(&self, digest: &str) -> Result<Vec<u8>> {
        self.blob(digest, Expected::Document).await
    }

    /// A blob, checked against its digest. A file's contents are not answered.
    pub async fn blob(&self, digest: &str, expected: Expected<'_>) -> Result<Vec<u8>> {
        let url = format!("{}/blobs/{digest}", self.base);
        let response = accepted(self.get(&url, self.authorization.as_deref()).await?)?;
        match expected {
            Expected::Document => {
                let bytes = self.read(response).await?;
                check(digest, &Sha256::digest(&bytes))?;
                Ok(bytes)
            }
            Expected::File(path) => {
                let mut file = tokio::fs::File::create(path).await?;
                let (mut hash, mut body) = (Sha256::new(), response.into_body());
                while let Some(bytes) = next(&mut body).await? {
                    hash.update(&bytes);
                    file.write_all(&bytes).await?;
                }
                file.flush().await?;
                check(digest, &hash.finalize())?;
                Ok(Vec::new())
            }
        }
    }

    /// Asks, following redirects; what another host asks for is not told our password.
    async fn get(&self, url: &str, authorization: Option<&str>) -> Result<Response<Incoming>> {
        let mut uri: Uri = url.parse().map_err(|_| PullError::Malformed(url.to_owned()))?;
        let home = uri.authority().cloned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::get(uri.clone()).header(ACCEPT, MANIFESTS);
            if let (Some(authorization), true) = (authorization, uri.authority() == home.as_ref()) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(Empty::new()).map_err(|e| PullError::Malformed(e.to_string()))?;
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.http.request(request)).await;
            let unreachable = |why: String| PullError::Unreachable { host: self.host.clone(), why };
            let response = answered.map_err(|_| unreachable("no answer in time".to_owned()))?;
            let response = response.map_err(|e| unreachable(causes(&e)))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
            uri = redirected(&uri, location).ok_or_else(|| PullError::Malformed(location.to_owned()))?;
        }
        Err(PullError::Malformed("too many redirects".to_owned()))
    }

    /// Answers a registry's challenge.
    async fn authorize(&self, challenge: &str) -> Result<String> {
        if challenge.to_ascii_lowercase().starts_with("basic") {
            return self.basic.clone().ok_or(PullError::Denied);
        }
        let part = |key| challenge_part(challenge, key);
        let realm = part("realm").ok_or(PullError::Denied)?;
        let scope = part("scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let service = part("service").map(|s| format!("service={s}&")).unwrap_or_default();
        let join = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{join}{service}scope={scope}");
        let response = accepted(self.get(&url, self.basic.as_deref()).await?)?;
        let bytes = self.read(response).await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| PullError::Malformed(e.to_string()))?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        token.map(|t| format!("Bearer {t}")).ok_or_else(|| PullError::Malformed("no token".to_owned()))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Vec<u8>> {
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(part) = next(&mut body).await? {
            bytes.extend_from_slice(&part);
            if bytes.len() > LARGEST_DOCUMENT {
                return Err(PullError::Malformed("too large".to_owned()));
            }
        }
        Ok(bytes)
    }
}

fn http_client() -> Result<Http> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| PullError::Malformed(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https))
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
        match frame.map_err(|_| PullError::Broken("nothing came for a minute".to_owned()))? {
            None => return Ok(None),
            Some(Err(error)) => return Err(PullError::Broken(causes(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(PullError::NotFound),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PullError::Denied),
        status => Err(PullError::Answer(status)),
    }
}

fn check(expected: &str, hash: &[u8]) -> Result<()> {
    let found = format!("sha256:{}", super::super::hex(hash));
    match found == expected {
        true => Ok(()),
        false => Err(PullError::Digest { expected: expected.to_owned(), found }),
    }
}

fn basic(auth: &AuthConfig) -> Option<String> {
    match (auth.auth.is_empty(), auth.username.is_empty()) {
        (false, _) => Some(format!("Basic {}", auth.auth)),
        (true, false) => Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", auth.username, auth.password)))),
        (true, true) => None,
    }
}

/// A registry on this machine itself needs no TLS.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn redirected(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') {
        let authority = from.authority()?;
        return format!("{}://{authority}{location}", from.scheme_str()?).parse().ok();
    }
    location.parse().ok().filter(|uri: &Uri| uri.authority().is_some())
}

/// `Bearer realm="…",service="…"`: the value of a key.
fn challenge_part(challenge: &str, key: &str) -> Option<String> {
    let start = challenge.find(&format!("{key}=\""))? + key.len() + 2;
    let rest = &challenge[start..];
    rest.find('"').map(|end| rest[..end].to_owned())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let challenge =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull""#;
        assert_eq!(challenge_part(challenge, "realm").as_deref(), Some("https://auth.docker.io/token"));
        assert_eq!(challenge_part(challenge, "service").as_deref(), Some("registry.docker.io"));
        assert_eq!(challenge_part(challenge, "error"), None);
    }

    #[test]
    fn redirects_and_local_hosts() {
        let from: Uri = "https://r.example/v2/a".parse().expect("valid");
        let to = |location| redirected(&from, location).map(|u| u.to_string());
        assert_eq!(to("/blob").as_deref(), Some("https://r.example/blob"));
        assert_eq!(to("https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        assert_eq!(to("nonsense here"), None);
        assert!(is_local("127.0.0.1:5000") && is_local("localhost") && !is_local("registry.k8s.io"));
    }
}
