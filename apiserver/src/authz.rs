//! Authorization: the ordered table of authorizers (superusers, Node, RBAC). The first that allows decides; reasons of the
//! others are kept. Entry point: [`Authorizers::authorize`], for each request and for each access review alike.

pub mod escalation;
pub mod node;
pub mod rbac;
pub mod rules;

use std::sync::Arc;

use api::error::ApiError;
use api::names::GroupResource;
use api::selector::FieldSelector;
use api::well_known::groups;

use crate::authn::User;
use crate::view::View;

/// What is to be decided; one for each request, and for each access review.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Who asks.
    pub user: User,
    /// get, list, watch, create, update, patch, delete, deletecollection, or the lower-case HTTP method for non-resource paths.
    pub verb: String,
    /// What is asked for.
    pub target: Target,
    /// Fields that a list or watch requires to have one value: (field, value).
    pub fields: Vec<(String, String)>,
}

/// A resource or a plain path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An API object or collection.
    Resource { group: String, version: String, resource: String, subresource: String, namespace: String, name: String },
    /// Any other path, for example `/healthz`.
    Path(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, with the reason that access reviews report.
    Allow(String),
    /// No one allowed it; the reasons joined.
    NoOpinion(String),
}

/// The table.
pub struct Authorizers {
    node: node::NodeAuthorizer,
    rbac: rbac::Rbac,
}

impl Attributes {
    /// Without a field selector.
    pub fn new(user: &User, verb: &str, target: Target) -> Self {
        Self { user: user.clone(), verb: verb.to_owned(), target, fields: Vec::new() }
    }

    /// With what a `fieldSelector` parameter requires; a malformed one requires nothing here and is refused later.
    pub fn with_field_selector(mut self, selector: Option<&str>) -> Self {
        const NODE_NAME: &str = "spec.nodeName";
        let selector = selector.and_then(|text| FieldSelector::parse(text).ok());
        if let Some(value) = selector.as_ref().and_then(|selector| selector.exact(NODE_NAME)) {
            self.fields.push((NODE_NAME.to_owned(), value.to_owned()));
        }
        self
    }

    /// The message of a refusal, without the reasons.
    fn refusal(&self) -> String {
        let user = api::field::go_quote(&self.user.name);
        let verb = &self.verb;
        match &self.target {
            Target::Path(path) => format!("User {user} cannot {verb} path {}", api::field::go_quote(path)),
            Target::Resource { group, resource, subresource, namespace, .. } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let scope = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace \"{namespace}\"")
                };
                format!(
                    "User {user} cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \"{group}\" {scope}"
                )
            }
        }
    }
}

impl Target {
    /// A resource by name in a namespace, both possibly empty.
    pub fn resource(group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> Self {
        Target::Resource {
            group: group.to_owned(),
            version: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// The 403 that tells the user what was refused.
pub fn forbidden(attributes: &Attributes, reason: &str) -> ApiError {
    let mut why = attributes.refusal();
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    match &attributes.target {
        Target::Path(_) => ApiError::forbidden(&GroupResource::default(), "", &why),
        Target::Resource { group, resource, name, .. } => {
            ApiError::forbidden(&GroupResource::new(group, resource), name, &why)
        }
    }
}

impl Authorizers {
    /// The table over these objects.
    pub fn new(objects: Arc<dyn View>) -> Self {
        Self { node: node::NodeAuthorizer::new(Arc::clone(&objects)), rbac: rbac::Rbac::new(objects) }
    }

    /// Decides.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.groups.iter().any(|group| group == groups::MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for decision in [self.node.authorize(attributes), self.rbac.authorize(attributes)] {
            match decision {
                Decision::Allow(reason) => return Decision::Allow(reason),
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// Decides, and words the refusal.
    pub fn require(&self, attributes: &Attributes) -> Result<(), ApiError> {
        match self.authorize(attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(attributes, &reason)),
        }
    }

    /// The rules of roles, for escalation checks and rules reviews.
    pub fn rbac(&self) -> &rbac::Rbac {
        &self.rbac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstreams() {
        let user = User { name: "x".to_owned(), ..User::default() };
        let table = [
            (
                "list",
                Target::resource("", "pods", "", "default", ""),
                "",
                r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                "get",
                Target::resource("apps", "deployments", "scale", "d", "n"),
                "",
                r#"deployments.apps "n" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" in the namespace "d""#,
            ),
            (
                "list",
                Target::resource("", "nodes", "", "", ""),
                "why",
                r#"nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope: why"#,
            ),
            ("get", Target::Path("/metrics".to_owned()), "", r#"forbidden: User "x" cannot get path "/metrics""#),
        ];
        for (verb, target, reason, message) in table {
            let error = forbidden(&Attributes::new(&user, verb, target), reason);
            assert_eq!((error.code, error.message.as_str()), (403, message));
            assert!(error.details.is_some());
        }
    }
}
