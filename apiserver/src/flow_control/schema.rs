//! A flow schema, ready to be matched with requests. Entry point: [`Schema::matches`].

use std::sync::Arc;

use axum::http::HeaderValue;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};
use process::metrics::{Counter, Histogram};

use super::level::Level;
use crate::authn::User;
use crate::http::request_info::{RequestInfo, ResourcePath};

/// See the module.
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its uid, for the header of answers.
    pub uid: HeaderValue,
    /// Who answers.
    pub level: Arc<Level>,
    /// What it counts.
    pub counts: Counts,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<PolicyRulesWithSubjects>,
}

/// What a schema counts.
pub struct Counts {
    /// Requests that ran.
    pub dispatched: Counter,
    /// How long they waited.
    pub waited: Histogram,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

impl Schema {
    /// The schema of an object, whose requests that level answers.
    pub fn new(object: &FlowSchema, level: Arc<Level>, counts: Counts) -> Self {
        let spec = object.spec.clone().unwrap_or_default();
        let method = spec.distinguisher_method.map(|method| method.type_);
        let distinguisher = match method.as_deref() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            Some(_) | None => Distinguisher::None,
        };
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            uid: super::uid(&object.metadata),
            level,
            counts,
            precedence: spec.matching_precedence.unwrap_or_default(),
            distinguisher,
            rules: spec.rules.unwrap_or_default(),
        }
    }

    /// Schemas are tried in the order of this.
    pub fn order(&self) -> (i32, &str) {
        (self.precedence, &self.name)
    }

    /// What tells this request's flow from others of the schema.
    pub fn distinguish<'a>(&self, user: &'a User, info: &'a RequestInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => info.resource.as_ref().map_or("", |at| &at.namespace),
        }
    }

    /// Whether the request is of this schema.
    pub fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rules| {
            rules.subjects.iter().any(|subject| is_subject(subject, user))
                && match &info.resource {
                    Some(at) => rules.resource_rules.iter().flatten().any(|rule| is_of_rule(rule, info.verb, at)),
                    None => rules.non_resource_rules.iter().flatten().any(|rule| is_path(rule, info)),
                }
        })
    }
}

fn is_subject(subject: &Subject, user: &User) -> bool {
    match subject.kind.as_str() {
        "User" => subject.user.as_ref().is_some_and(|own| own.name == "*" || own.name == user.name),
        "Group" => {
            let name = subject.group.as_ref().map_or("", |own| own.name.as_str());
            name == "*" || user.groups.iter().any(|group| group == name)
        }
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|own| {
            let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
            account.is_some_and(|(namespace, name)| namespace == own.namespace && (own.name == "*" || name == own.name))
        }),
        _ => false,
    }
}

fn lists(list: &[String], item: &str) -> bool {
    list.iter().any(|listed| listed == "*" || listed == item)
}

fn is_of_rule(rule: &ResourcePolicyRule, verb: &str, at: &ResourcePath) -> bool {
    lists(&rule.verbs, verb) && lists(&rule.api_groups, &at.group) && is_resource(rule, at) && is_scope(rule, at)
}

fn is_resource(rule: &ResourcePolicyRule, at: &ResourcePath) -> bool {
    if at.subresource.is_empty() {
        return lists(&rule.resources, &at.resource);
    }
    rule.resources.iter().any(|listed| {
        let parts = listed.split_once('/');
        listed == "*" || parts == Some((at.resource.as_str(), at.subresource.as_str()))
    })
}

fn is_scope(rule: &ResourcePolicyRule, at: &ResourcePath) -> bool {
    if at.namespace.is_empty() {
        return rule.cluster_scope == Some(true);
    }
    lists(rule.namespaces.as_deref().unwrap_or_default(), &at.namespace)
}

fn is_path(rule: &NonResourcePolicyRule, info: &RequestInfo) -> bool {
    let is_url = |url: &String| match url.strip_suffix('*') {
        Some(stem) => info.path.starts_with(stem),
        None => *url == info.path,
    };
    lists(&rule.verbs, info.verb) && rule.non_resource_urls.iter().any(is_url)
}
