//! Which objects a command is about: `pods`, `pod/x svc/y`, `rc nginx`, `all`, `-l`, `-A`, or what files name.

use http::Method;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::manifest::Files;
use crate::resources::Resource;
use crate::session::Session;

/// Selection flags that several verbs share.
#[derive(Debug, Default, clap::Args)]
pub struct Selection {
    /// Selector (label query): '=', '==', '!=', 'in', 'notin'
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Selector (field query)
    #[arg(long)]
    pub field_selector: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

impl Selection {
    /// As URL query, `?` excluded.
    pub fn query(&self) -> String {
        let mut pairs = Vec::new();
        if let Some(selector) = &self.selector {
            pairs.push(format!("labelSelector={}", encode(selector)));
        }
        if let Some(selector) = &self.field_selector {
            pairs.push(format!("fieldSelector={}", encode(selector)));
        }
        pairs.join("&")
    }

    /// Whether objects are chosen by a query.
    pub fn is_query(&self) -> bool {
        self.selector.is_some() || self.field_selector.is_some()
    }
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    text.bytes().map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What the arguments name: whole collections, or objects by name.
#[derive(Debug)]
pub enum Named<'a> {
    /// All objects of these resources (that match the selection).
    Collections(Vec<&'a Resource>),
    /// These objects.
    Objects(Vec<Target<'a>>),
}

/// One object.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Its resource.
    pub resource: &'a Resource,
    /// Its namespace, empty for cluster-scoped ones.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target<'_> {
    /// Its URL path.
    pub fn path(&self) -> String {
        self.resource.object(&self.namespace, &self.name)
    }

    /// `pod/x`.
    pub fn display(&self) -> String {
        format!("{}/{}", self.resource.prefix(), self.name)
    }

    /// Reads it.
    pub async fn get(&self, session: &Session) -> Result<Value> {
        session.get(&self.path()).await
    }

    /// Sends a patch.
    pub async fn patch(&self, session: &Session, content_type: &str, query: &str, patch: &Value) -> Result<Value> {
        session.send(Method::PATCH, &format!("{}?{query}", self.path()), content_type, patch).await
    }
}

/// Reads `TYPE[,TYPE] [NAME...]` or `TYPE/NAME ...`.
pub async fn parse<'a>(session: &'a Session, args: &[String]) -> Result<Named<'a>> {
    let [first, names @ ..] = args else {
        return Err(Failure::usage(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.",
        ));
    };
    if args.iter().any(|arg| arg.contains('/')) {
        return slashed(session, args).await;
    }
    let mut resources = Vec::new();
    for name in first.split(',').filter(|name| !name.is_empty()) {
        let category = session.resources().await?.category(name);
        match category.is_empty() {
            true => resources.push(session.resource(name).await?),
            false => resources.extend(category),
        }
    }
    if names.is_empty() {
        return Ok(Named::Collections(resources));
    }
    let target = |resource, name: &String| target(session, resource, name);
    Ok(Named::Objects(
        resources.iter().flat_map(|resource| names.iter().map(move |name| target(resource, name))).collect(),
    ))
}

async fn slashed<'a>(session: &'a Session, args: &[String]) -> Result<Named<'a>> {
    let mut targets = Vec::new();
    for arg in args {
        let Some((kind, name)) =
            arg.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/'))
        else {
            return Err(Failure::usage(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
            ));
        };
        targets.push(target(session, session.resource(kind).await?, name));
    }
    Ok(Named::Objects(targets))
}

fn target<'a>(session: &Session, resource: &'a Resource, name: &str) -> Target<'a> {
    let namespace = if resource.namespaced { session.namespace.clone() } else { String::new() };
    Target { resource, namespace, name: name.to_owned() }
}

/// One object: `TYPE NAME` or `TYPE/NAME`; a bare name is of the `default` type.
pub async fn one<'a>(session: &'a Session, args: &[String], default: &str) -> Result<Target<'a>> {
    if let [name] = args
        && !name.contains('/')
    {
        return Ok(target(session, session.resource(default).await?, name));
    }
    match parse(session, args).await? {
        Named::Objects(mut targets) if targets.len() == 1 => Ok(targets.remove(0)),
        _ => Err(Failure::usage("exactly one resource and name is expected")),
    }
}

/// Every object that arguments, selection and files name, by listing collections where needed.
pub async fn resolve<'a>(
    session: &'a Session,
    args: &[String],
    selection: &Selection,
    all: bool,
    files: &Files,
) -> Result<Vec<Target<'a>>> {
    if !files.is_empty() {
        let mut targets = Vec::new();
        for manifest in files.read()? {
            let located = manifest.locate(session).await?;
            let name = located.manifest.metadata("name").to_owned();
            targets.push(Target { resource: located.resource, namespace: located.namespace, name });
        }
        return Ok(targets);
    }
    match parse(session, args).await? {
        Named::Objects(targets) if !selection.is_query() && !all => Ok(targets),
        Named::Objects(_) => Err(Failure::usage("name cannot be provided when a selector is specified")),
        Named::Collections(_) if !selection.is_query() && !all => {
            Err(Failure::usage("resource(s) were provided, but no name was specified"))
        }
        Named::Collections(resources) => {
            let mut targets = Vec::new();
            for resource in resources {
                targets.extend(list(session, resource, selection).await?);
            }
            Ok(targets)
        }
    }
}

async fn list<'a>(session: &Session, resource: &'a Resource, selection: &Selection) -> Result<Vec<Target<'a>>> {
    let namespace = (!selection.all_namespaces).then_some(session.namespace.as_str());
    let list = session.get(&format!("{}?{}", resource.collection(namespace), selection.query())).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let field = |item: &Value, name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .map(|item| Target { resource, namespace: field(item, "namespace"), name: field(item, "name") })
        .collect())
}
