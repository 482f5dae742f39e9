//! Admission policies: which of them a request is about, with which parameters.
//!
//! [`Hooks`] keeps the policies that have bindings compiled; a policy is compiled again only when it was written again, and
//! without policies a request pays for one comparison of versions. The plugins are [`validating`] and [`mutating`].
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>.

pub mod mutating;
pub mod type_checking;
pub mod validating;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::error::ApiError;
use api::names::Revision;
use api::selector::LabelSelector;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, RuleWithOperations, Variable,
};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::expressions::{Composition, MatchConditions, Scope};
use super::matching::{self, CONFIGURATION_GROUP, Row};
use super::{Attributes, Context, Lookup};
use crate::object::Object;
use crate::resources::{ResourceInfo, admission_policy};
use crate::view::View;

/// The kinds of policies, on which no policy is asked.
const POLICIES: [&str; 4] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// A kind of policy, compiled.
pub trait Policy: Send + Sync + Sized {
    /// The plural of the policies.
    const POLICIES: &'static str;
    /// The plural of their bindings.
    const BINDINGS: &'static str;
    /// A policy as it is stored.
    type Stored: DeserializeOwned;
    /// A binding as it is stored.
    type StoredBinding: DeserializeOwned;
    /// Compiles a policy.
    fn compile(stored: Self::Stored) -> Self;
    /// What all policies have.
    fn common(&self) -> &Common;
    /// Reads a binding.
    fn binding(stored: Self::StoredBinding) -> Binding;
}

/// What all policies have.
pub struct Common {
    /// Its name.
    pub name: String,
    /// What else has to hold.
    pub conditions: MatchConditions,
    /// Its variables.
    pub variables: Composition,
    /// Whether what fails refuses the request.
    pub fails: bool,
    constraints: Constraints,
    param_kind: Option<ParamKind>,
}

/// How a policy is used.
pub struct Binding {
    /// Its name.
    pub name: String,
    /// What follows from a validation that fails.
    pub actions: Vec<String>,
    policy: String,
    constraints: Option<Constraints>,
    param_ref: Option<ParamRef>,
}

/// A policy with its bindings.
pub struct Hook<P> {
    /// The policy.
    pub policy: Arc<P>,
    /// Its bindings, by name.
    pub bindings: Vec<Arc<Binding>>,
}

/// The parts of a policy that [`Common`] is made of.
pub struct Parts {
    name: Option<String>,
    failure_policy: Option<String>,
    constraints: Option<MatchResources>,
    conditions: Option<Vec<MatchCondition>>,
    variables: Option<Vec<Variable>>,
    param_kind: Option<ParamKind>,
}

impl Common {
    fn new(parts: Parts, scope: Scope) -> Self {
        Self {
            name: parts.name.unwrap_or_default(),
            conditions: MatchConditions::compile(&parts.conditions.unwrap_or_default(), scope.params),
            variables: Composition::of(&parts.variables.unwrap_or_default(), scope),
            fails: parts.failure_policy.as_deref() != Some("Ignore"),
            constraints: Constraints::new(&parts.constraints.unwrap_or_default()),
            param_kind: parts.param_kind,
        }
    }
}

struct Constraints {
    rules: Vec<NamedRuleWithOperations>,
    excluded: Vec<NamedRuleWithOperations>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    equivalent: bool,
}

impl Constraints {
    fn new(of: &MatchResources) -> Self {
        // Selectors were checked when they were written.
        let selector = |of: Option<&_>| {
            of.map_or_else(LabelSelector::everything, |of| {
                LabelSelector::from_meta(of).unwrap_or_else(|_| LabelSelector::nothing())
            })
        };
        Self {
            rules: of.resource_rules.clone().unwrap_or_default(),
            excluded: of.exclude_resource_rules.clone().unwrap_or_default(),
            namespaces: selector(of.namespace_selector.as_ref()),
            objects: selector(of.object_selector.as_ref()),
            equivalent: of.match_policy.as_deref() != Some("Exact"),
        }
    }

    /// In which form the objects of the request are meant, if they are.
    async fn matching(
        &self,
        attributes: &Attributes<'_>,
        context: &Context<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<Option<Row>, ApiError> {
        let row = |rules: &[NamedRuleWithOperations]| {
            let named = rules.iter().filter(|rule| {
                let names = rule.resource_names.as_deref().unwrap_or_default();
                names.is_empty() || names.iter().any(|name| name == attributes.name)
            });
            let rules: Vec<RuleWithOperations> = named.map(admission_policy::plain).collect();
            matching::matching_row(&rules, attributes, context, self.equivalent)
        };
        let labelled = match context.other {
            Some(other) => other.labels().iter().any(|labels| self.objects.matches(labels)),
            None => matching::object_matches(&self.objects, object, attributes.old),
        };
        if !labelled || row(&self.excluded).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() { Some(Row::Own) } else { row(&self.rules) };
        let Some(found) = found else { return Ok(None) };
        let meant = matching::namespace_matches(&self.namespaces, attributes, object, lookup).await?;
        Ok(meant.then_some(found))
    }
}

/// All policies of one kind that have bindings, compiled.
pub struct Hooks<P> {
    view: Arc<dyn View>,
    known: Mutex<Known<P>>,
}

struct Known<P> {
    versions: [u64; 2],
    compiled: BTreeMap<String, (Revision, Arc<P>)>,
    hooks: Arc<Vec<Hook<P>>>,
}

impl<P: Policy> Hooks<P> {
    /// Over these objects.
    pub fn new(view: Arc<dyn View>) -> Self {
        let known = Known { versions: [0; 2], compiled: BTreeMap::new(), hooks: Arc::default() };
        Self { view, known: Mutex::new(known) }
    }

    /// The policies as they are now, by name.
    pub fn current(&self) -> Arc<Vec<Hook<P>>> {
        let versions = [P::POLICIES, P::BINDINGS].map(|plural| self.view.version(CONFIGURATION_GROUP, plural));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.versions != versions {
            let hooks = self.read(&mut known.compiled);
            known.hooks = Arc::new(hooks);
            known.versions = versions;
        }
        Arc::clone(&known.hooks)
    }

    fn read(&self, compiled: &mut BTreeMap<String, (Revision, Arc<P>)>) -> Vec<Hook<P>> {
        let mut bindings: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
        for item in self.view.list(CONFIGURATION_GROUP, P::BINDINGS, "") {
            if let Ok(stored) = serde_json::from_slice(&item.bytes) {
                let binding = P::binding(stored);
                bindings.entry(binding.policy.clone()).or_default().push(Arc::new(binding));
            }
        }
        let mut kept = BTreeMap::new();
        let mut hooks = Vec::new();
        for item in self.view.list(CONFIGURATION_GROUP, P::POLICIES, "") {
            let name = item.key.rsplit('/').next().unwrap_or_default().to_owned();
            let Some(bindings) = bindings.remove(&name) else { continue };
            let policy = match compiled.remove(&name) {
                Some((revision, policy)) if revision == item.revision => policy,
                _ => match serde_json::from_slice(&item.bytes) {
                    Ok(stored) => Arc::new(P::compile(stored)),
                    Err(_) => continue,
                },
            };
            kept.insert(name, (item.revision, Arc::clone(&policy)));
            hooks.push(Hook { policy, bindings });
        }
        *compiled = kept;
        hooks
    }
}

/// One use of a policy on a request: a binding, and a parameter object if the policy has such.
pub struct Invocation {
    /// The binding.
    pub binding: Arc<Binding>,
    /// The parameter.
    pub param: Option<Json>,
}

/// What keeps a policy, or one of its bindings, from being asked.
pub struct Misconfigured {
    /// The binding, if it is its fault.
    pub binding: Option<Arc<Binding>>,
    /// Why.
    pub message: String,
}

/// Whether policies are asked about a request at all.
pub fn concerns(attributes: &Attributes<'_>) -> bool {
    let resource = attributes.resource;
    let of_policies = resource.group == CONFIGURATION_GROUP && POLICIES.contains(&resource.plural.as_str());
    // Reviews ask about others; nobody is to be locked out of asking.
    !of_policies
        && (resource.stored || !matches!(resource.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io"))
}

/// In which form the policy means the request's objects, and for which bindings; none if it is not about it.
pub async fn invocations<P: Policy>(
    hook: &Hook<P>,
    attributes: &Attributes<'_>,
    context: &Context<'_>,
    object: Option<&dyn Object>,
    lookup: &dyn Lookup,
) -> Option<(Row, Vec<Result<Invocation, Misconfigured>>)> {
    let common = hook.policy.common();
    let of_policy =
        |message: String| Misconfigured { binding: None, message: format!("failed to configure policy: {message}") };
    let row = match common.constraints.matching(attributes, context, object, lookup).await {
        Ok(row) => row?,
        Err(error) => return Some((Row::Own, vec![Err(of_policy(error.message))])),
    };
    let kind = match common.param_kind.as_ref().map(|kind| param_resource(kind, context)).transpose() {
        Ok(kind) => kind,
        Err(message) => return Some((row, vec![Err(of_policy(message))])),
    };
    let mut found = Vec::new();
    for binding in &hook.bindings {
        let of_binding = |message: String| {
            let message = format!("failed to configure binding: {message}");
            Misconfigured { binding: Some(Arc::clone(binding)), message }
        };
        if let Some(constraints) = &binding.constraints {
            match constraints.matching(attributes, context, object, lookup).await {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) => {
                    found.push(Err(of_binding(error.message)));
                    continue;
                }
            }
        }
        match params(kind.as_ref(), binding.param_ref.as_ref(), matching::namespace(attributes), lookup).await {
            Ok(params) => {
                found.extend(params.into_iter().map(|param| Ok(Invocation { binding: Arc::clone(binding), param })))
            }
            Err(message) => found.push(Err(of_binding(message))),
        }
    }
    Some((row, found))
}

/// The resource that holds parameters.
fn param_resource(kind: &ParamKind, context: &Context<'_>) -> Result<ResourceInfo, String> {
    let version = kind.api_version.as_deref().unwrap_or_default();
    let name = kind.kind.as_deref().unwrap_or_default();
    let served = context.place.server.resources.served();
    let row = served
        .rows()
        .iter()
        .find(|row| row.info().stored && row.info().api_version() == version && row.info().kind == name);
    row.map(|row| row.info().clone())
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{version}, Kind={name}'"))
}

/// The parameters that a binding refers to: one that is nothing where the policy or the binding has none.
async fn params(
    kind: Option<&ResourceInfo>,
    of: Option<&ParamRef>,
    namespace: &str,
    lookup: &dyn Lookup,
) -> Result<Vec<Option<Json>>, String> {
    let (Some(kind), Some(of)) = (kind, of) else { return Ok(vec![None]) };
    let own = of.namespace.as_deref().unwrap_or_default();
    let namespace = match (kind.namespaced, own, namespace) {
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()
            );
        }
        (true, "", namespace) => namespace,
        (true, own, _) => own,
        (false, "", _) => "",
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
    };
    let (group, plural) = (kind.group.as_str(), kind.plural.as_str());
    let read = |bytes: bytes::Bytes| serde_json::from_slice::<Json>(&bytes).map_err(|error| error.to_string());
    let name = of.name.as_deref().unwrap_or_default();
    let found: Vec<Json> = if name.is_empty() {
        let selector = LabelSelector::from_meta_option(of.selector.as_ref()).map_err(|error| error.to_string())?;
        let all = lookup.list(group, plural, namespace).await.map_err(|error| error.message)?;
        let all: Vec<Json> = all.into_iter().map(read).collect::<Result<_, _>>()?;
        all.into_iter().filter(|object| selector.matches(&labels(object))).collect()
    } else {
        let found = lookup.get(group, plural, namespace, name).await.map_err(|error| error.message)?;
        found.map(read).transpose()?.into_iter().collect()
    };
    if found.is_empty() && of.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found.into_iter().map(Some).collect())
}

fn labels(object: &Json) -> BTreeMap<String, String> {
    serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default()
}

/// The namespace that a request happens in, as expressions see it; nothing for what has none, and for namespaces themselves.
pub async fn namespace_object(attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Result<Option<Json>, ApiError> {
    let name = matching::namespace(attributes);
    if name.is_empty() || attributes.is_any("", "namespaces") {
        return Ok(None);
    }
    let found = lookup.get("", "namespaces", "", name).await?;
    let found = found.ok_or_else(|| ApiError::not_found(&api::names::GroupResource::new("", "namespaces"), name))?;
    let mut namespace: Json = serde_json::from_slice(&found).map_err(ApiError::internal)?;
    if let Some(metadata) = namespace["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.remove("ownerReferences");
    }
    Ok(Some(namespace))
}
