//! The resources that the server says it has, and what a user means by a name.

use http::Request;
use kube::Client;
use serde_json::Value;

use crate::cli::near;
use crate::failure::{Failure, Result};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One resource of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Name in URLs.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// For example `all`.
    pub categories: Vec<String>,
    /// False for cluster-scoped ones.
    pub namespaced: bool,
    /// What may be done.
    pub verbs: Vec<String>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `deployments.apps`.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `pod` or `deployment.apps`: what comes before the name in messages.
    pub fn prefix(&self) -> String {
        if self.group.is_empty() { self.singular.clone() } else { format!("{}.{}", self.singular, self.group) }
    }

    /// Whether a user may mean it by this name (lower case, without a group).
    pub fn is_named(&self, name: &str) -> bool {
        self.plural == name
            || self.singular == name
            || self.kind.to_lowercase() == name
            || self.short_names.iter().any(|short| short == name)
    }

    /// URL path of the collection; `namespace` is ignored for cluster-scoped ones, None is all namespaces.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// URL path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection(Some(namespace)))
    }
}

/// All of them, core first, then by group in the server's order.
#[derive(Debug, Default)]
pub struct Resources(Vec<Resource>);

impl Resources {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter()
    }

    /// By any of its names, `plural.group` and `plural.version.group` included.
    pub fn find(&self, name: &str) -> Result<&Resource> {
        let wanted = name.to_lowercase();
        let (first, rest) = wanted.split_once('.').unwrap_or((&wanted, ""));
        let in_group = |resource: &&Resource| {
            rest.is_empty() || resource.group == rest || format!("{}.{}", resource.version, resource.group) == rest
        };
        let found = self.0.iter().find(|resource| resource.is_named(first) && in_group(resource));
        let found = found.ok_or_else(|| self.unknown(name))?;
        if rest.is_empty() {
            self.warn_of_others(found, first);
        }
        Ok(found)
    }

    /// A short name that means something in other groups, too.
    fn warn_of_others(&self, found: &Resource, short: &str) {
        let has = |resource: &&Resource| resource.short_names.iter().any(|name| name == short);
        if has(&found) {
            let mut others: Vec<String> =
                self.0.iter().filter(has).filter(|other| other.group != found.group).map(Resource::full_name).collect();
            others.dedup();
            for other in others {
                eprintln!("Warning: short name \"{short}\" could also match lower priority resource {other}");
            }
        }
    }

    /// By apiVersion and kind, as a manifest says it.
    pub fn for_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.0.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// The members of a category such as `all`.
    pub fn category(&self, name: &str) -> Vec<&Resource> {
        let has = |resource: &&Resource| resource.categories.iter().any(|category| category == name);
        let mut members: Vec<&Resource> = Vec::new();
        for resource in self.0.iter().filter(has) {
            // Of several versions the server names the preferred one first.
            if !members.iter().any(|other| other.group == resource.group && other.plural == resource.plural) {
                members.push(resource);
            }
        }
        members
    }

    fn unknown(&self, name: &str) -> Failure {
        let names = self.0.iter().flat_map(|resource| [resource.plural.as_str(), resource.singular.as_str()]);
        let near = near(name, names);
        let mut text = format!("the server doesn't have a resource type \"{name}\"");
        if let Some(nearest) = near.first() {
            text += &format!("\n\nDid you mean this?\n\t{nearest}");
        }
        Failure::Usage(text)
    }
}

/// Asks the server; aggregated discovery, or the legacy one where it answers that.
pub async fn discover(client: &Client) -> Result<Resources> {
    let mut all = Vec::new();
    for root in ["/api", "/apis"] {
        let document = fetch(client, root).await?;
        match document["kind"].as_str() {
            Some("APIGroupDiscoveryList") => all.extend(aggregated(&document)),
            _ => all.extend(legacy(client, root, &document).await?),
        }
    }
    Ok(Resources(all))
}

async fn fetch(client: &Client, path: &str) -> Result<Value> {
    let request = Request::get(path)
        .header("Accept", AGGREGATED)
        .body(vec![])
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(client.request(request).await?)
}

fn aggregated(document: &Value) -> Vec<Resource> {
    let mut resources = Vec::new();
    for group in list(&document["items"]) {
        for version in list(&group["versions"]) {
            for resource in list(&version["resources"]) {
                let kind = &resource["responseKind"];
                resources.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&kind["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: texts(&resource["verbs"]),
                });
            }
        }
    }
    resources
}

async fn legacy(client: &Client, root: &str, document: &Value) -> Result<Vec<Resource>> {
    let versions: Vec<String> = match root {
        "/api" => texts(&document["versions"]),
        _ => list(&document["groups"])
            .iter()
            .flat_map(|group| list(&group["versions"]))
            .map(|version| text(&version["groupVersion"]))
            .collect(),
    };
    let mut resources = Vec::new();
    for group_version in versions {
        let document = fetch(client, &format!("{root}/{group_version}")).await?;
        let (group, version) = group_version.split_once('/').unwrap_or(("", &group_version));
        resources.extend(
            list(&document["resources"]).iter().filter(|resource| !text(&resource["name"]).contains('/')).map(
                |resource| Resource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: text(&resource["kind"]),
                    plural: text(&resource["name"]),
                    singular: text(&resource["singularName"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    namespaced: resource["namespaced"] == true,
                    verbs: texts(&resource["verbs"]),
                },
            ),
        );
    }
    Ok(resources)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}
