//! A client from a kubeconfig file.

use std::path::Path;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::timeout::TimeoutLayer;

use crate::Error;

/// How long a request may go without an answer. Bodies (watches, logs) may take longer; an API server that is stopped
/// in the middle must not hold a component for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A client for the current context of the file; the user agent names the component in the server's logs.
pub async fn kube_client(kubeconfig: &Path, user_agent: &str) -> Result<kube::Client, Error> {
    let unusable = |source| Error::Kubeconfig { path: kubeconfig.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(kubeconfig).map_err(unusable)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?;
    if let Ok(value) = http::HeaderValue::from_str(user_agent) {
        config.headers.push((http::header::USER_AGENT, value));
    }
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
}
