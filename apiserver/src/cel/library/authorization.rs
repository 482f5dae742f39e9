//! Authorization checks: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library>.
//!
//! Who may do what is not known here: an [`Authorize`] answers.

use std::fmt;
use std::sync::Arc;

use super::Answer;
use super::opaque::Opaque;
use crate::cel::value::Value;

/// Answers whether somebody may do something.
pub trait Authorize: Send + Sync {
    /// The answer. `service_account` (namespace, name) asks for another user than the one of the request.
    fn authorize(&self, service_account: Option<(&str, &str)>, check: &Check<'_>) -> Verdict;
}

/// What is to be done.
#[derive(Debug)]
pub enum Check<'a> {
    /// A verb on a path.
    Path {
        /// The path.
        path: &'a str,
        /// The verb.
        verb: &'a str,
    },
    /// A verb on a resource.
    Resource {
        /// The resource.
        resource: &'a ResourceCheck,
        /// The verb.
        verb: &'a str,
    },
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong in finding out.
    pub error: Option<String>,
}

/// `authorizer`: of the request's user, or of a service account.
#[derive(Clone)]
pub struct Authorizer {
    judge: Arc<dyn Authorize>,
    service_account: Option<(String, String)>,
}

/// `authorizer.path(…)`
#[derive(Clone, Debug)]
pub struct PathCheck {
    authorizer: Authorizer,
    path: String,
}

/// `authorizer.group(…)`
#[derive(Clone, Debug)]
pub struct GroupCheck {
    authorizer: Authorizer,
    group: String,
}

/// `authorizer.group(…).resource(…)`
#[derive(Clone, Debug)]
pub struct ResourceCheck {
    authorizer: Authorizer,
    /// Group of the resource.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// Its subresource, or nothing.
    pub subresource: String,
    /// Where, or nothing.
    pub namespace: String,
    /// Which, or nothing.
    pub name: String,
    /// Only those with such fields.
    pub field_selector: Option<String>,
    /// Only those with such labels.
    pub label_selector: Option<String>,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("service_account", &self.service_account).finish_non_exhaustive()
    }
}

/// The value of the variable `authorizer`.
pub(in crate::cel) fn authorizer<'a>(judge: &Arc<dyn Authorize>) -> Value<'a> {
    value(Opaque::Authorizer(Authorizer { judge: Arc::clone(judge), service_account: None }))
}

/// The value of the variable `authorizer.requestResource`.
pub(in crate::cel) fn request_resource<'a>(judge: &Arc<dyn Authorize>, of: [&str; 5]) -> Value<'a> {
    let [group, resource, subresource, namespace, name] = of.map(str::to_owned);
    let authorizer = Authorizer { judge: Arc::clone(judge), service_account: None };
    let (field_selector, label_selector) = (None, None);
    value(Opaque::ResourceCheck(ResourceCheck {
        authorizer,
        group,
        resource,
        subresource,
        namespace,
        name,
        field_selector,
        label_selector,
    }))
}

fn value<'a>(opaque: Opaque) -> Value<'a> {
    Value::Opaque(Arc::new(opaque))
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    let [Value::Opaque(opaque), rest @ ..] = args else { return None };
    let texts: Option<Vec<&str>> = rest.iter().map(Value::as_str).collect();
    let answer = match (&**opaque, texts?.as_slice()) {
        (Opaque::Authorizer(authorizer), texts) => of_authorizer(authorizer, function, texts)?,
        (Opaque::GroupCheck(check), [resource]) if function == "resource" => {
            let GroupCheck { authorizer, group } = check.clone();
            let (subresource, namespace, name) = (String::new(), String::new(), String::new());
            let (resource, field_selector, label_selector) = ((*resource).to_owned(), None, None);
            value(Opaque::ResourceCheck(ResourceCheck {
                authorizer,
                group,
                resource,
                subresource,
                namespace,
                name,
                field_selector,
                label_selector,
            }))
        }
        (Opaque::PathCheck(check), [verb]) if function == "check" => {
            decide(&check.authorizer, &Check::Path { path: &check.path, verb })
        }
        (Opaque::ResourceCheck(check), [verb]) if function == "check" => {
            decide(&check.authorizer, &Check::Resource { resource: check, verb })
        }
        (Opaque::ResourceCheck(check), [text]) => {
            let mut check = check.clone();
            match function {
                "subresource" => check.subresource = (*text).to_owned(),
                "namespace" => check.namespace = (*text).to_owned(),
                "name" => check.name = (*text).to_owned(),
                "fieldSelector" => check.field_selector = Some((*text).to_owned()),
                "labelSelector" => check.label_selector = Some((*text).to_owned()),
                _ => return None,
            }
            value(Opaque::ResourceCheck(check))
        }
        (Opaque::Decision(verdict), []) => match function {
            "allowed" => Value::Bool(verdict.allowed),
            "reason" => Value::text(verdict.reason.as_str()),
            "errored" => Value::Bool(verdict.error.is_some()),
            "error" => Value::text(verdict.error.as_deref().unwrap_or_default()),
            _ => return None,
        },
        _ => return None,
    };
    Some(Ok(answer))
}

fn of_authorizer<'a>(authorizer: &Authorizer, function: &str, texts: &[&str]) -> Option<Value<'a>> {
    let mut authorizer = authorizer.clone();
    Some(value(match (function, texts) {
        ("path", [path]) => Opaque::PathCheck(PathCheck { authorizer, path: (*path).to_owned() }),
        ("group", [group]) => Opaque::GroupCheck(GroupCheck { authorizer, group: (*group).to_owned() }),
        ("serviceAccount", [namespace, name]) => {
            authorizer.service_account = Some(((*namespace).to_owned(), (*name).to_owned()));
            Opaque::Authorizer(authorizer)
        }
        _ => return None,
    }))
}

fn decide<'a>(authorizer: &Authorizer, check: &Check<'_>) -> Value<'a> {
    let account = authorizer.service_account.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    value(Opaque::Decision(authorizer.judge.authorize(account, check)))
}
