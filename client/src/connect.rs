//! A client from a kubeconfig file.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::Error;

/// A client for the current context of the file; the user agent names the component in the server's logs.
pub async fn kube_client(kubeconfig: &Path, user_agent: &str) -> Result<kube::Client, Error> {
    let unusable = |source| Error::Kubeconfig { path: kubeconfig.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(kubeconfig).map_err(unusable)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?;
    if let Ok(value) = http::HeaderValue::from_str(user_agent) {
        config.headers.push((http::header::USER_AGENT, value));
    }
    Ok(kube::Client::try_from(config)?)
}
