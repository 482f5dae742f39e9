//! `MutatingAdmissionPolicy`: changes what is written, by configurations that are merged into it and by JSON patches.
//!
//! A policy that wants it is asked again when a later one has changed the object.
//! Reference: <https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/>.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::error::ApiError;
use async_trait::async_trait;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy as Stored, MutatingAdmissionPolicyBinding as StoredBinding,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::Value as Json;

use super::{Binding, Common, Constraints, Hooks, Invocation, Misconfigured, Parts, Policy};
use crate::admission::expressions::{Expression, Judge, Run, Scope, Subject};
use crate::admission::matching::{self, Row};
use crate::admission::{Attributes, Context, Lookup, Plugin};
use crate::authz::Authorizers;
use crate::cel::{Budget, Value};
use crate::http::body;
use crate::object::Object;
use crate::resources::mutating_admission_policy::{configuration_type, patch_type};
use crate::resources::schema;
use crate::view::View;
use crate::write::apply;
use crate::write::managed_fields::Node;
use crate::write::patch::json as json_patch;

const NAME: &str = "MutatingAdmissionPolicy";
/// What upstream says before the reason why a patched object can't be read.
const INTERNAL: &str = "Internal error occurred: ";

/// See the module.
pub struct MutatingAdmissionPolicies {
    hooks: Hooks<Compiled>,
    authorizers: Arc<Authorizers>,
}

impl MutatingAdmissionPolicies {
    /// The policies among these objects.
    pub fn new(view: Arc<dyn View>, authorizers: Arc<Authorizers>) -> Self {
        Self { hooks: Hooks::new(view), authorizers }
    }
}

/// A policy, compiled.
pub struct Compiled {
    common: Common,
    mutations: Vec<Mutation>,
    again: bool,
}

enum Mutation {
    Configuration(Expression),
    Patch(Expression),
}

impl Policy for Compiled {
    const POLICIES: &'static str = "mutatingadmissionpolicies";
    const BINDINGS: &'static str = "mutatingadmissionpolicybindings";
    type Stored = Stored;
    type StoredBinding = StoredBinding;

    fn compile(stored: Stored) -> Self {
        let spec = stored.spec.unwrap_or_default();
        let scope = Scope { params: spec.param_kind.is_some(), authorizer: true, patches: true };
        let parts = Parts {
            name: stored.metadata.name,
            failure_policy: spec.failure_policy,
            constraints: spec.match_constraints,
            conditions: spec.match_conditions,
            variables: spec.variables,
            param_kind: spec.param_kind,
        };
        let common = Common::new(parts, scope);
        let environment = common.variables.environment(scope);
        let mutations = spec.mutations.into_iter().flatten().map(|mutation| {
            let text = |text: Option<String>| text.unwrap_or_default();
            if mutation.patch_type == "JSONPatch" {
                let expression = text(mutation.json_patch.and_then(|patch| patch.expression));
                Mutation::Patch(Expression::new(&expression, &environment, &[patch_type()]))
            } else {
                let expression = text(mutation.apply_configuration.and_then(|of| of.expression));
                Mutation::Configuration(Expression::new(&expression, &environment, &[configuration_type()]))
            }
        });
        let again = spec.reinvocation_policy.as_deref() == Some("IfNeeded");
        Self { mutations: mutations.collect(), again, common }
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn binding(stored: StoredBinding) -> Binding {
        let spec = stored.spec.unwrap_or_default();
        Binding {
            name: stored.metadata.name.unwrap_or_default(),
            actions: Vec::new(),
            policy: spec.policy_name.unwrap_or_default(),
            constraints: spec.match_resources.as_ref().map(Constraints::new),
            param_ref: spec.param_ref,
        }
    }
}

/// Policy, binding and parameter of a use.
type Key = (String, String, String);

/// What is remembered from the first round to the second.
#[derive(Default)]
struct Memory {
    /// Uses that want to be asked again when something changes.
    earlier: BTreeSet<Key>,
    /// Uses for which something has changed.
    due: BTreeSet<Key>,
    /// The object as the policies left it.
    left: Option<Json>,
}

impl Memory {
    fn changed(&mut self) {
        self.due.append(&mut self.earlier);
    }
}

/// Why a policy could not be carried out.
struct Failure {
    message: String,
    reason: Option<&'static str>,
}

/// One use of a policy, ready to be carried out.
struct Use {
    policy: Arc<Compiled>,
    invocation: Invocation,
    row: Row,
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        super::concerns(attributes) && !self.hooks.current().is_empty()
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let hooks = self.hooks.current();
        let Some((context, object)) = attributes.context.zip(object) else { return Ok(()) };
        let mut failures = Vec::new();
        let mut uses = Vec::new();
        for hook in hooks.iter() {
            let policy = &hook.policy;
            let found = super::invocations(hook, attributes, &context, Some(&*object), lookup).await;
            for invocation in
                found.into_iter().flat_map(|(row, found)| found.into_iter().map(move |one| (row.clone(), one)))
            {
                match invocation {
                    (row, Ok(invocation)) => uses.push(Use { policy: Arc::clone(policy), invocation, row }),
                    (_, Err(Misconfigured { binding, message })) if policy.common.fails => {
                        failures.push(failure(policy, binding.as_deref(), &message, None));
                    }
                    (_, Err(_)) => {}
                }
            }
        }
        if !uses.is_empty() {
            let namespace = super::namespace_object(attributes, lookup).await?;
            let judge = Judge::new(&self.authorizers, attributes.user);
            let round = Round { attributes, context: &context, namespace: namespace.as_ref(), judge: &judge };
            round.carry_out(&uses, object, &mut failures);
        }
        refuse(attributes, object, failures)
    }
}

/// One round over the policies of a request.
struct Round<'a> {
    attributes: &'a Attributes<'a>,
    context: &'a Context<'a>,
    namespace: Option<&'a Json>,
    judge: &'a Arc<dyn crate::cel::Authorize>,
}

impl Round<'_> {
    fn remember<R>(&self, act: impl FnOnce(&mut Memory) -> R) -> R {
        self.context.rounds.with::<Memory, R>(NAME, act)
    }

    fn carry_out(&self, uses: &[Use], object: &mut dyn Object, failures: &mut Vec<Failure>) {
        let rounds = self.context.rounds;
        if rounds.is_second() {
            let now = object.to_value();
            self.remember(|memory| {
                if memory.left.as_ref() != Some(&now) {
                    memory.changed();
                }
            });
        }
        for one in uses {
            let (policy, binding) = (&one.policy, &one.invocation.binding);
            let param = one.invocation.param.as_ref().and_then(|param| param["metadata"]["name"].as_str());
            let key = (policy.common.name.clone(), binding.name.clone(), param.unwrap_or_default().to_owned());
            let before = object.to_value();
            match self.carry_out_one(one, &key, object) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(messages) => {
                    let reported = messages.iter().filter(|_| policy.common.fails);
                    failures.extend(reported.map(|message| failure(policy, Some(binding), message, Some("Invalid"))));
                }
            }
            if object.to_value() != before {
                self.remember(Memory::changed);
                rounds.want_second();
            }
            if policy.again {
                self.remember(|memory| memory.earlier.insert(key));
            }
        }
        let left = object.to_value();
        self.remember(|memory| memory.left = Some(left));
    }

    /// Whether the policy was asked; what fails of it does not keep its other mutations from being made.
    fn carry_out_one(&self, one: &Use, key: &Key, object: &mut dyn Object) -> Result<bool, Vec<String>> {
        let strategy = one.row.strategy(self.context);
        let other = self.context.other;
        let subject = |object: &dyn Object| {
            let subject = Subject::of(self.attributes, self.context, strategy, Some(object), self.namespace.cloned());
            if other.is_some() { subject.with_object(object.to_value()) } else { subject }
        };
        let node = match other {
            Some(other) => schema::of(&other.api_version(), other.kind).map(Node::Type),
            None => strategy.node(),
        };
        let param = one.invocation.param.as_ref();
        let now = subject(object);
        match one.policy.common.conditions.hold(now.variables(param, Some(self.judge))) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(message) => return Err(vec![message]),
        }
        if self.context.rounds.is_second() && !self.remember(|memory| memory.due.contains(key)) {
            return Ok(false);
        }
        let mut messages = Vec::new();
        for mutation in &one.policy.mutations {
            let now = subject(object);
            let mut run =
                Run::new(now.variables(param, Some(self.judge)), &one.policy.common.variables, Budget::default());
            let changed = mutation.applied(&mut run, now.object(), node);
            let assigned = changed.and_then(|changed| match changed {
                Some(changed) => {
                    let stored = if other.is_some() { changed } else { matching::stored(strategy, changed) };
                    object.assign(stored).map_err(|why| format!("{INTERNAL}{why}"))
                }
                None => Ok(()),
            });
            match assigned {
                Ok(()) if other.is_some() => {}
                Ok(()) => self.context.place.strategy.set_defaults(object),
                Err(message) => messages.push(message),
            }
        }
        if messages.is_empty() { Ok(true) } else { Err(messages) }
    }
}

impl Mutation {
    /// The object with the mutation made; none if it is to stay as it is.
    fn applied<'a>(&'a self, run: &mut Run<'a>, object: &Json, node: Option<Node<'_>>) -> Result<Option<Json>, String> {
        match self {
            Self::Configuration(expression) => {
                let value = run.evaluate(expression)??;
                type_names(&value, "Object").map_err(|why| format!("type mismatch: {why}"))?;
                let mut config =
                    value.to_json().ok_or_else(|| format!("invalid return type: {}", value.type_name()))?;
                for name in ["apiVersion", "kind"] {
                    config[name] = object[name].clone();
                }
                let node = node.ok_or("error applying patch: type converter must not be nil")?;
                apply::overlay(node, object, &config).map(Some).map_err(|why| format!("error applying patch: {why}"))
            }
            Self::Patch(expression) => {
                let value = run.evaluate(expression)??;
                let Value::List(list) = &value else {
                    return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
                };
                let mut operations = Vec::with_capacity(list.len());
                for item in list.iter() {
                    if let Ok(Some(value @ Value::Struct(_))) = item.field("value") {
                        type_names(&value, value.type_name()).map_err(|why| format!("type mismatch: {why}"))?;
                    }
                    operations.push(
                        item.to_json()
                            .ok_or("JSONPath valueExpression evaluated to a type that could not marshal to JSON")?,
                    );
                }
                let patched = patched(object, &operations)?;
                let text = |name: &str| object[name].as_str().unwrap_or_default();
                let ty = schema::of(text("apiVersion"), text("kind"));
                let unknown = patched.as_ref().filter(|_| ty.is_some()).map(|patched| body::unknown_of(ty, patched));
                match unknown.filter(|unknown| !unknown.is_empty()) {
                    None => Ok(patched),
                    Some(unknown) => Err(format!("{INTERNAL}strict decoding error: {}", unknown.join(", "))),
                }
            }
        }
    }
}

/// The object after a JSON patch; none if a test in it fails.
fn patched(object: &Json, operations: &[Json]) -> Result<Option<Json>, String> {
    let mut object = object.clone();
    match json_patch::apply(&mut object, &operations) {
        Ok(()) => Ok(Some(object)),
        Err(json_patch::PatchError::Test(_)) => Ok(None),
        Err(why) => Err(format!("JSONPath: {why}")),
    }
}

/// An object that an expression made is called by its path from the root.
fn type_names(value: &Value<'_>, expected: &str) -> Result<(), String> {
    match value {
        Value::Struct(object) => {
            if object.name != expected {
                return Err(format!(
                    "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                    object.name
                ));
            }
            object.fields.iter().try_for_each(|(name, value)| type_names(value, &format!("{expected}.{name}")))
        }
        Value::List(list) => list.iter().try_for_each(|item| type_names(&item, expected)),
        Value::Optional(Some(inner)) => type_names(inner, expected),
        _ => Ok(()),
    }
}

fn failure(policy: &Compiled, binding: Option<&Binding>, message: &str, reason: Option<&'static str>) -> Failure {
    let name = &policy.common.name;
    let message = match binding {
        Some(binding) => format!("policy '{name}' with binding '{}' denied request: {message}", binding.name),
        None => format!("policy {name:?} denied request: {message}"),
    };
    Failure { message, reason }
}

/// The first failure is the answer's message; all are its causes.
fn refuse(attributes: &Attributes<'_>, object: &dyn Object, failures: Vec<Failure>) -> Result<(), ApiError> {
    let Some(first) = failures.first() else { return Ok(()) };
    let mut error = attributes.forbidden(Some(object), "admission request denied by policy");
    error.message.clone_from(&first.message);
    if let Some(reason) = first.reason {
        error.reason = reason.to_owned();
    }
    let causes = error.details.get_or_insert_default().causes.get_or_insert_default();
    causes.extend(
        failures.into_iter().map(|failure| StatusCause { message: Some(failure.message), ..StatusCause::default() }),
    );
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::{Environment, Type, Variables};
    use serde_json::json;

    #[test]
    fn objects_are_called_by_their_paths() {
        let table = [
            ("Object{spec: Object.spec{replicas: 1}}", None),
            ("Object{spec: Object.spec{list: [Object.spec.list{a: 1}]}}", None),
            ("Object{spec: Object.specx{}}", Some("Object.specx")),
        ];
        for (text, wrong) in table {
            let program = crate::cel::compile(text, &Environment::new().with_patches()).expect("compiles");
            let value = program.evaluate(&Variables::new(), &mut Budget::default()).expect("evaluates");
            let found = type_names(&value, "Object").err();
            assert_eq!(found.is_some(), wrong.is_some(), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_test_that_fails_leaves_the_object() {
        let object = json!({"a": 1});
        let test = [json!({"op": "test", "path": "/a", "value": 2}), json!({"op": "remove", "path": "/a"})];
        assert_eq!(patched(&object, &test), Ok(None));
        let replace = [json!({"op": "replace", "path": "/a", "value": 2})];
        assert_eq!(patched(&object, &replace), Ok(Some(json!({"a": 2}))));
        assert!(patched(&object, &[json!({"op": "remove", "path": "/b"})]).is_err());
        assert_eq!(patch_type(), Type::list(crate::cel::Declared::known("JSONPatch", [])));
    }
}
