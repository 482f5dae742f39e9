//! `kubectl create role`, `clusterrole`, `rolebinding` and `clusterrolebinding`.

use serde_json::{Value, json};

use super::{Write, named};
use crate::failure::{Failure, Result};
use crate::session::Session;

const V1: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const VERBS: [&str; 16] = [
    "get",
    "delete",
    "list",
    "create",
    "update",
    "patch",
    "watch",
    "proxy",
    "redirect",
    "deletecollection",
    "use",
    "bind",
    "escalate",
    "impersonate",
    "*",
    "approve",
];

#[derive(Debug, clap::Args)]
struct Rules {
    /// Verbs of the rules
    #[arg(long, required = true, value_delimiter = ',')]
    verb: Vec<String>,
    /// RESOURCE[.GROUP][/SUBRESOURCE]
    #[arg(long, value_delimiter = ',')]
    resource: Vec<String>,
    /// Names that the rules are limited to
    #[arg(long, value_delimiter = ',')]
    resource_name: Vec<String>,
}

/// Flags of `role`.
#[derive(Debug, clap::Args)]
pub struct Role {
    name: String,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    pub write: Write,
}

/// Flags of `clusterrole`.
#[derive(Debug, clap::Args)]
pub struct ClusterRole {
    name: String,
    #[command(flatten)]
    rules: Rules,
    /// Paths such as /logs/*
    #[arg(long, value_delimiter = ',')]
    non_resource_url: Vec<String>,
    #[command(flatten)]
    pub write: Write,
}

#[derive(Debug, clap::Args)]
struct Subjects {
    /// Users
    #[arg(long, value_delimiter = ',')]
    user: Vec<String>,
    /// Groups
    #[arg(long, value_delimiter = ',')]
    group: Vec<String>,
    /// NAMESPACE:NAME of service accounts
    #[arg(long, value_delimiter = ',')]
    serviceaccount: Vec<String>,
}

/// Flags of `rolebinding`.
#[derive(Debug, clap::Args)]
pub struct RoleBinding {
    name: String,
    /// The role
    #[arg(long, conflicts_with = "clusterrole")]
    role: Option<String>,
    /// Or the cluster role
    #[arg(long)]
    clusterrole: Option<String>,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub write: Write,
}

/// Flags of `clusterrolebinding`.
#[derive(Debug, clap::Args)]
pub struct ClusterRoleBinding {
    name: String,
    /// The cluster role
    #[arg(long)]
    clusterrole: String,
    #[command(flatten)]
    subjects: Subjects,
    #[command(flatten)]
    pub write: Write,
}

impl Role {
    /// One rule for each group.
    pub async fn object(&self, session: &Session) -> Result<Value> {
        if self.rules.resource.is_empty() {
            return Err(Failure::usage("at least one resource must be specified"));
        }
        let mut object = named(V1, "Role", &self.name);
        object["rules"] = self.rules.read(session).await?.into();
        Ok(object)
    }
}

impl ClusterRole {
    /// The rules of resources, or one of paths.
    pub async fn object(&self, session: &Session) -> Result<Value> {
        if self.rules.resource.is_empty() && self.non_resource_url.is_empty() {
            return Err(Failure::usage("one of resource or nonResourceURL must be specified"));
        }
        let mut rules = self.rules.read(session).await?;
        if !self.non_resource_url.is_empty() {
            rules.push(json!({"nonResourceURLs": self.non_resource_url, "verbs": self.rules.verb}));
        }
        let mut object = named(V1, "ClusterRole", &self.name);
        object["rules"] = rules.into();
        Ok(object)
    }
}

impl Rules {
    async fn read(&self, session: &Session) -> Result<Vec<Value>> {
        for verb in self.verb.iter().filter(|verb| !VERBS.contains(&verb.as_str())) {
            eprintln!("Warning: '{verb}' is not a standard resource verb");
        }
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for asked in &self.resource {
            let (name, subresource) =
                asked.split_once('/').map_or((asked.as_str(), None), |(name, sub)| (name, Some(sub)));
            let (group, plural) = match name {
                "*" => (String::new(), "*".to_owned()),
                name => {
                    let found = session.resource(name).await?;
                    (found.group.clone(), found.plural.clone())
                }
            };
            let full = subresource.map_or(plural.clone(), |subresource| format!("{plural}/{subresource}"));
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, resources)) => resources.push(full),
                None => groups.push((group, vec![full])),
            }
        }
        groups.sort();
        let rule = |(group, resources): (String, Vec<String>)| {
            let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": self.verb});
            if !self.resource_name.is_empty() {
                rule["resourceNames"] = json!(self.resource_name);
            }
            rule
        };
        Ok(groups.into_iter().map(rule).collect())
    }
}

impl Subjects {
    fn read(&self) -> Result<Vec<Value>> {
        let of_group = |kind: &'static str| move |name: &String| json!({"apiGroup": GROUP, "kind": kind, "name": name});
        let mut subjects: Vec<Value> = self.user.iter().map(of_group("User")).collect();
        subjects.extend(self.group.iter().map(of_group("Group")));
        for account in &self.serviceaccount {
            let (namespace, name) = account
                .split_once(':')
                .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
                .ok_or_else(|| Failure::usage("serviceaccount must be <namespace>:<name>"))?;
            subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
        }
        Ok(subjects)
    }
}

fn binding(kind: &str, name: &str, role: (&str, &str), subjects: &Subjects) -> Result<Value> {
    let mut object = named(V1, kind, name);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let subjects = subjects.read()?;
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(object)
}

impl RoleBinding {
    /// The binding.
    pub fn object(&self) -> Result<Value> {
        let role = match (&self.role, &self.clusterrole) {
            (Some(role), None) => ("Role", role.as_str()),
            (None, Some(role)) => ("ClusterRole", role.as_str()),
            _ => return Err(Failure::usage("exactly one of clusterrole or role must be specified")),
        };
        binding("RoleBinding", &self.name, role, &self.subjects)
    }
}

impl ClusterRoleBinding {
    /// The binding.
    pub fn object(&self) -> Result<Value> {
        binding("ClusterRoleBinding", &self.name, ("ClusterRole", &self.clusterrole), &self.subjects)
    }
}
