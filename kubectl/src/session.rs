//! A connection to one cluster: client, namespace, and the resources the server has (asked for once, when first needed).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use http::header::WARNING;
use http::{Method, Request, Response};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::util::MapResponseLayer;

use crate::cli::Global;
use crate::failure::{Failure, Result};
use crate::openapi::Document;
use crate::resources::{self, Resource, Resources};

/// The Table format, for the Accept header.
pub const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What a command works with.
pub struct Session {
    /// The client.
    pub client: Client,
    /// Namespace of the flag, else of the context, else `default`.
    pub namespace: String,
    /// Whether `-n` was given.
    pub namespace_given: bool,
    /// The server's URL.
    pub server: String,
    resources: OnceCell<Resources>,
    documents: Mutex<BTreeMap<String, Document>>,
}

impl Session {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub async fn open(global: &Global) -> Result<Self> {
        let config = config(global).await?;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = ClientBuilder::try_from(config).map_err(|error| Failure::usage(error.to_string()))?;
        let client = client.with_layer(&MapResponseLayer::new(show_warnings())).build();
        Ok(Self {
            client,
            namespace,
            namespace_given: global.namespace.is_some(),
            server,
            resources: OnceCell::new(),
            documents: Mutex::default(),
        })
    }

    /// All resources of the server.
    pub async fn resources(&self) -> Result<&Resources> {
        self.resources.get_or_try_init(|| resources::discover(&self.client)).await
    }

    /// The resource that a user means by a plural, singular, short name, kind, or `plural.group`.
    pub async fn resource(&self, name: &str) -> Result<&Resource> {
        self.resources().await?.find(name)
    }

    /// The description of a group and version's types, if it was fetched before.
    pub fn document(&self, name: &str) -> Option<Document> {
        self.documents.lock().expect("nobody panics while holding it").get(name).cloned()
    }

    /// Remembers a description.
    pub fn keep_document(&self, name: String, document: Document) {
        self.documents.lock().expect("nobody panics while holding it").insert(name, document);
    }

    /// GET of a path, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.get_as(path, "application/json").await
    }

    /// GET of a path with an Accept header.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Value> {
        let request = Request::get(path).header("Accept", accept).body(vec![]);
        Ok(self.client.request(request.map_err(bad_request)?).await?)
    }

    /// A request with a JSON body.
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Value> {
        let request = Request::builder().method(method).uri(path).header("Content-Type", content_type);
        let request = request.body(serde_json::to_vec(body)?);
        Ok(self.client.request(request.map_err(bad_request)?).await?)
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, "application/json", body).await
    }
}

/// Prints what the server warns of (header `Warning`, code 299), each text once.
fn show_warnings<B>() -> impl Fn(Response<B>) -> Response<B> + Clone {
    let shown = Arc::new(Mutex::new(BTreeSet::new()));
    move |response| {
        for value in response.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok()) {
            for text in warnings(value) {
                if shown.lock().expect("nobody panics while holding it").insert(text.clone()) {
                    eprintln!("Warning: {text}");
                }
            }
        }
        response
    }
}

/// The quoted texts of `299 - "one", 299 - "two"`.
fn warnings(mut value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(rest) = value.trim_start_matches([',', ' ']).strip_prefix("299 ") {
        let Some((_, quoted)) = rest.split_once('"') else { break };
        let (mut text, mut escaped, mut end) = (String::new(), false, quoted.len());
        for (index, c) in quoted.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = index + 1;
                    break;
                }
                (_, c) => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        texts.push(text);
        value = &quoted[end..];
    }
    texts
}

fn bad_request(error: http::Error) -> Failure {
    Failure::usage(error.to_string())
}

async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), ..Default::default() };
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
    let mut config = match &global.kubeconfig {
        Some(path) => {
            if !path.exists() {
                return Err(Failure::usage(format!("stat {}: no such file or directory", path.display())));
            }
            let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| wrong(&error))?
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            Err(error) => Config::incluster().map_err(|_| no_config(&error.to_string(), global))?,
        },
    };
    config.auth_info.impersonate = global.as_user.clone().or(config.auth_info.impersonate);
    if !global.as_group.is_empty() {
        config.auth_info.impersonate_groups = Some(global.as_group.clone());
    }
    Ok(config)
}

fn no_config(error: &str, global: &Global) -> Failure {
    match &global.context {
        Some(context) => Failure::usage(format!("context \"{context}\" does not exist")),
        None => Failure::Connection(format!(
            "The connection to the server localhost:8080 was refused - did you specify the right host or port? (no kubeconfig: {error}; `kubelab start` writes one)"
        )),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn warnings_are_taken_out_of_the_header() {
        let texts = super::warnings(r#"299 - "unknown field \"x\"", 299 kube "b \\ c""#);
        assert_eq!(texts, [r#"unknown field "x""#, r"b \ c"]);
        assert!(super::warnings("199 - \"old\"").is_empty());
    }
}
