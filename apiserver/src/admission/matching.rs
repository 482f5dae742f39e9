//! Which requests webhooks and policies mean: rules, selectors, and other versions of the same objects. Data in, data out but for
//! the labels of the namespace, which come from the cache.
//!
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules>.

use std::sync::Arc;

use api::ApiError;
use api::names::GroupResource;
use api::selector::LabelSelector;
use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Attributes, Context, Lookup, Operation};
use crate::object::Object;
use crate::resources::{ResourceInfo, Strategy};

/// The group of webhooks' and policies' own configuration, which nobody but the built-in plugins has a say in.
pub const CONFIGURATION_GROUP: &str = "admissionregistration.k8s.io";
const CONFIGURATION_KINDS: [&str; 6] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// What a request is about, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// API group.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped requests; the name for a Namespace itself.
    pub namespace: &'a str,
    /// What is done.
    pub operation: Operation,
}

impl<'a> Asked<'a> {
    /// The request as it is.
    pub fn of(attributes: &'a Attributes<'a>) -> Self {
        Self::as_resource(attributes, attributes.resource)
    }

    /// The request as if it were about this resource, which holds the same objects.
    pub fn as_resource(attributes: &'a Attributes<'a>, info: &'a ResourceInfo) -> Self {
        Self {
            group: &info.group,
            version: &info.version,
            resource: &info.plural,
            subresource: attributes.subresource.map_or("", |subresource| subresource.as_str()),
            namespace: namespace(attributes),
            operation: attributes.operation,
        }
    }

    fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.resource == "namespaces"
    }
}

impl Operation {
    /// As rules and reviews name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The namespace of a request: a Namespace that exists is in itself.
pub fn namespace<'a>(attributes: &'a Attributes<'a>) -> &'a str {
    let own = attributes.is_any("", "namespaces") && attributes.operation != Operation::Create;
    if own { attributes.name } else { attributes.namespace }
}

/// Whether the request is about the configuration of webhooks or policies.
pub fn is_configuration(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group == CONFIGURATION_GROUP && CONFIGURATION_KINDS.contains(&attributes.resource.kind.as_str())
}

/// Whether a rule means a request.
pub fn rule_matches(rule: &RuleWithOperations, asked: &Asked<'_>) -> bool {
    let listed =
        |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|item| item == "*" || item == wanted);
    let in_scope = match rule.scope.as_deref() {
        None | Some("*") => true,
        Some("Namespaced") => !asked.is_namespace() && !asked.namespace.is_empty(),
        Some("Cluster") => asked.is_namespace() || asked.namespace.is_empty(),
        Some(_) => false,
    };
    in_scope
        && listed(&rule.operations, asked.operation.as_str())
        && listed(&rule.api_groups, asked.group)
        && listed(&rule.api_versions, asked.version)
        && rule.resources.iter().flatten().any(|text| {
            let (resource, sub) = text.split_once('/').unwrap_or((text, ""));
            (resource == "*" || resource == asked.resource) && (sub == "*" || sub == asked.subresource)
        })
}

/// The row whose objects the first matching rule means: the request's own, or with `equivalent` one that serves the same objects
/// in another group or version.
pub fn matching_row(
    rules: &[RuleWithOperations],
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    equivalent: bool,
) -> Option<Row> {
    let asked = Asked::of(attributes);
    if rules.iter().any(|rule| rule_matches(rule, &asked)) {
        return Some(Row::Own);
    }
    if !equivalent {
        return None;
    }
    let others = equivalents(attributes, context);
    rules.iter().find_map(|rule| {
        let other = others.iter().find(|row| rule_matches(rule, &Asked::as_resource(attributes, row.info())))?;
        Some(Row::Other(Arc::clone(other)))
    })
}

/// Which form of the objects is meant.
#[derive(Clone)]
pub enum Row {
    /// That of the request.
    Own,
    /// That of another group or version.
    Other(Arc<dyn Strategy>),
}

impl Row {
    /// The strategy.
    pub fn strategy<'a>(&'a self, context: &Context<'a>) -> &'a dyn Strategy {
        match self {
            Self::Own => context.place.strategy,
            Self::Other(row) => row.as_ref(),
        }
    }
}

/// Rows that serve the objects of a request in another group or version.
fn equivalents(attributes: &Attributes<'_>, context: &Context<'_>) -> Vec<Arc<dyn Strategy>> {
    let own = attributes.resource;
    let served = context.place.server.resources.served();
    let same = |row: &&Arc<dyn Strategy>| {
        let info = row.info();
        info.storage_prefix == own.storage_prefix
            && (&info.group, &info.version) != (&own.group, &own.version)
            && attributes.subresource.is_none_or(|subresource| info.subresources.contains(&subresource))
    };
    served.rows().iter().filter(same).cloned().collect()
}

/// An object in the form that a row serves.
pub fn shown(row: &dyn Strategy, object: &dyn Object) -> Value {
    let mut value = object.to_value();
    if let Some(served) = row.served_as() {
        return (served.from_stored)(value);
    }
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".to_owned(), row.info().api_version().into());
    }
    value
}

/// The way back of [`shown`].
pub fn stored(row: &dyn Strategy, value: Value) -> Value {
    match row.served_as() {
        Some(served) => (served.to_stored)(value),
        None => value,
    }
}

/// Whether the namespace of a request has the labels; requests outside of namespaces always match, but for Namespaces. An error
/// is for the caller to keep until it knows that the rules match.
pub async fn namespace_matches(
    selector: &LabelSelector,
    attributes: &Attributes<'_>,
    object: Option<&dyn Object>,
    lookup: &dyn Lookup,
) -> Result<bool, ApiError> {
    let (name, about_namespaces) = (namespace(attributes), attributes.resource.plural == "namespaces");
    if (name.is_empty() && !about_namespaces) || selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if about_namespaces && attributes.subresource.is_none() && written {
        return Ok(selector.matches_option(object.and_then(|object| object.metadata().labels.as_ref())));
    }
    let found = lookup.get("", "namespaces", "", name).await?;
    let found = found.ok_or_else(|| ApiError::not_found(&GroupResource::new("", "namespaces"), name))?;
    let found: Labelled = serde_json::from_slice(&found).map_err(ApiError::internal)?;
    Ok(selector.matches_option(found.metadata.labels.as_ref()))
}

#[derive(serde::Deserialize)]
struct Labelled {
    metadata: ObjectMeta,
}

/// Whether the object has the labels, as it is to be or as it was.
pub fn object_matches(selector: &LabelSelector, object: Option<&dyn Object>, old: Option<&dyn Object>) -> bool {
    let has = |object: &dyn Object| selector.matches_option(object.metadata().labels.as_ref());
    selector.is_everything() || object.is_some_and(has) || old.is_some_and(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules() {
        let pods = Asked {
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "n",
            operation: Operation::Create,
        };
        let status = Asked { subresource: "status", operation: Operation::Update, ..pods };
        let namespaces = Asked { resource: "namespaces", operation: Operation::Delete, ..pods };
        let nodes = Asked { resource: "nodes", namespace: "", ..pods };
        let rule = |operations: &[&str], resources: &[&str], scope: &str| {
            let rule = json!({"operations": operations, "apiGroups": [""], "apiVersions": ["*"], "resources": resources,
                "scope": scope});
            serde_json::from_value::<RuleWithOperations>(rule).expect("a rule")
        };
        let table = [
            (rule(&["CREATE"], &["pods"], "*"), [true, false, false, false]),
            (rule(&["*"], &["*"], "*"), [true, false, true, true]),
            (rule(&["*"], &["*/*"], "*"), [true, true, true, true]),
            (rule(&["UPDATE"], &["pods/status"], "*"), [false, true, false, false]),
            (rule(&["*"], &["*/status"], "Namespaced"), [false, true, false, false]),
            (rule(&["*"], &["*"], "Namespaced"), [true, false, false, false]),
            (rule(&["*"], &["*"], "Cluster"), [false, false, true, true]),
        ];
        for (rule, expected) in table {
            assert_eq!(
                [pods, status, namespaces, nodes].map(|asked| rule_matches(&rule, &asked)),
                expected,
                "{rule:?}"
            );
        }
        let other_group = RuleWithOperations { api_groups: Some(vec!["apps".into()]), ..rule(&["*"], &["*"], "*") };
        assert!(!rule_matches(&other_group, &pods));
    }
}
