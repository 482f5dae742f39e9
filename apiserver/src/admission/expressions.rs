//! Expressions about requests: which variables webhooks' match conditions and admission policies see, and what they say when they
//! fail.
//!
//! [`environment`] and [`compile`] check; a [`Subject`] is one request as values; [`Run`] evaluates, with the variables of a policy
//! ([`Composition`]) computed when an expression first needs them. Reference:
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#validation-expression>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, Variable};
use serde_json::{Value as Json, json};

use super::matching;
use super::{Attributes, Context, Operation};
use crate::authn::User;
use crate::authz::{self, Authorizers, Target};
use crate::cel::{self, Authorize, Budget, Check, Declared, Environment, EvaluationError, Fields, Program, Type};
use crate::cel::{Value, Variables, Verdict};
use crate::object::Object;
use crate::resources::Strategy;

/// What all match conditions of one webhook or policy may cost together.
const MATCH_BUDGET: u64 = 2_500_000;

/// Which variables there are besides `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// `params`
    pub params: bool,
    /// `authorizer`, `authorizer.requestResource`
    pub authorizer: bool,
    /// `Object{…}`, `JSONPatch{…}`, `jsonpatch.escapeKey(…)`
    pub patches: bool,
}

/// The variables of a scope.
pub fn environment(scope: Scope) -> Environment {
    static BASE: LazyLock<Environment> = LazyLock::new(|| {
        Environment::new()
            .with("object", Type::Dyn)
            .with("oldObject", Type::Dyn)
            .with("namespaceObject", namespace_type())
            .with("request", request_type())
    });
    let mut environment = BASE.clone();
    if scope.params {
        environment = environment.with("params", Type::Dyn);
    }
    if scope.authorizer {
        environment = environment
            .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"));
    }
    if scope.patches {
        environment = environment.with_patches();
    }
    environment
}

fn request_type() -> Type {
    let text = || Type::String;
    let kind =
        Declared::known("kubernetes.GroupVersionKind", [("group", text()), ("version", text()), ("kind", text())]);
    let resource = Declared::known(
        "kubernetes.GroupVersionResource",
        [("group", text()), ("version", text()), ("resource", text())],
    );
    let user = Declared::known(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Type::list(text())),
            ("extra", Type::map(text(), Type::list(text()))),
        ],
    );
    Declared::known(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

fn namespace_type() -> Type {
    let texts = || Type::map(Type::String, Type::String);
    let metadata = Declared::known(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let condition = Declared::known(
        "kubernetes.NamespaceCondition",
        [
            ("status", Type::String),
            ("type", Type::String),
            ("lastTransitionTime", Type::Timestamp),
            ("message", Type::String),
            ("reason", Type::String),
        ],
    );
    let status =
        Declared::known("kubernetes.NamespaceStatus", [("conditions", Type::list(condition)), ("phase", Type::String)]);
    let spec = Declared::known("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))]);
    Declared::known("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}

/// Compiles an expression that is to give one of these types; the error is what upstream says of the field.
pub fn compile(expression: &str, environment: &Environment, returns: &[Type]) -> Result<Program, String> {
    let program = cel::compile(expression, environment).map_err(|error| format!("compilation failed: {error}"))?;
    let found = program.result();
    if returns.is_empty() || returns.contains(found) {
        return Ok(program);
    }
    Err(match returns {
        [one] => format!("must evaluate to {one} but got {found}"),
        several => {
            let names: Vec<String> = several.iter().map(Type::to_string).collect();
            format!("must evaluate to one of [{}] but got {found}", names.join(" "))
        }
    })
}

/// What is wrong with a match condition's expression, if anything is.
pub fn wrong_condition(expression: &str, params: bool) -> Option<String> {
    let scope = Scope { params, authorizer: true, patches: false };
    compile(expression, &environment(scope), &[Type::Bool]).err()
}

/// A compiled expression, or why it does not compile.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles; a problem is kept until the expression is needed.
    pub fn new(text: &str, environment: &Environment, returns: &[Type]) -> Self {
        Self { text: text.to_owned(), program: compile(text, environment, returns) }
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The variables of a policy.
#[derive(Debug, Default)]
pub struct Composition {
    variables: Vec<(String, Result<Program, String>)>,
    types: BTreeMap<String, Type>,
}

impl Composition {
    /// Adds a variable, which may use those before it; the error is what upstream says of its expression.
    pub fn add(&mut self, name: &str, expression: &str, scope: Scope) -> Result<(), String> {
        self.add_within(name, expression, environment(scope))
    }

    /// The same for other types of the scope's variables.
    pub fn add_within(&mut self, name: &str, expression: &str, environment: Environment) -> Result<(), String> {
        let program = compile(expression, &self.within(environment), &[]);
        let kind = program.as_ref().map_or(Type::Dyn, |program| program.result().clone());
        let result = program.as_ref().map(|_| ()).map_err(Clone::clone);
        self.types.insert(name.to_owned(), kind);
        self.variables.push((name.to_owned(), program));
        result
    }

    /// All variables of a policy.
    pub fn of(variables: &[Variable], scope: Scope) -> Self {
        let mut composition = Self::default();
        for variable in variables {
            // What does not compile fails whoever reads it.
            let _ = composition.add(&variable.name, &variable.expression, scope);
        }
        composition
    }

    /// The scope's variables and `variables`.
    pub fn environment(&self, scope: Scope) -> Environment {
        self.within(environment(scope))
    }

    /// These variables and `variables`.
    pub fn within(&self, environment: Environment) -> Environment {
        if self.types.is_empty() {
            return environment;
        }
        let fields = Fields::Known(self.types.clone());
        environment
            .with("variables", Type::Object(Arc::new(Declared { name: "kubernetes.variables".to_owned(), fields })))
    }
}

/// One request as values.
pub struct Subject {
    request: Json,
    object: Json,
    old: Json,
    namespace: Json,
    asked: [String; 5],
}

impl Subject {
    /// The request in the form of a row, with the namespace that it happens in.
    pub fn of(
        attributes: &Attributes<'_>,
        context: &Context<'_>,
        row: &dyn Strategy,
        object: Option<&dyn Object>,
        namespace: Option<Json>,
    ) -> Self {
        let shown = |object: Option<&dyn Object>| object.map_or(Json::Null, |object| matching::shown(row, object));
        let (object, old) = match context.other {
            Some(other) => (other.object.clone(), other.old.clone().unwrap_or_default()),
            None => (shown(object), shown(attributes.old)),
        };
        let info = attributes.resource;
        let subresource = attributes.subresource.map_or("", |subresource| subresource.as_str());
        let asked = [&info.group, &info.plural, subresource, attributes.namespace, attributes.name].map(str::to_owned);
        Self {
            request: request(attributes, context, row),
            object,
            old,
            namespace: namespace.unwrap_or_default(),
            asked,
        }
    }

    /// The same request with this object.
    #[must_use]
    pub fn with_object(self, object: Json) -> Self {
        Self { object, ..self }
    }

    /// The object.
    pub fn object(&self) -> &Json {
        &self.object
    }

    /// The values of the variables, but for `variables`.
    pub fn variables<'a>(&'a self, params: Option<&'a Json>, judge: Option<&Arc<dyn Authorize>>) -> Variables<'a> {
        let variables = Variables::new()
            .with("object", Value::json(&self.object))
            .with("oldObject", Value::json(&self.old))
            .with("request", Value::json(&self.request))
            .with("namespaceObject", Value::json(&self.namespace))
            .with("params", params.map_or(Value::Null, Value::json));
        let [group, resource, subresource, namespace, name] = &self.asked;
        match judge {
            Some(judge) => variables.with_authorizer(judge, [group, resource, subresource, namespace, name]),
            None => variables,
        }
    }
}

fn request(attributes: &Attributes<'_>, context: &Context<'_>, row: &dyn Strategy) -> Json {
    let (asked, matched) = (attributes.resource, row.info());
    let kind = |info: &crate::resources::ResourceInfo| match context.other {
        Some(other) => json!({"group": other.group, "version": other.version, "kind": other.kind}),
        None => json!({"group": info.group, "version": info.version, "kind": info.kind}),
    };
    let resource = |info: &crate::resources::ResourceInfo| json!({"group": info.group, "version": info.version, "resource": info.plural});
    let user = attributes.user;
    let mut request = json!({
        "uid": "",
        "kind": kind(matched),
        "resource": resource(matched),
        "requestKind": kind(asked),
        "requestResource": resource(asked),
        "operation": attributes.operation.as_str(),
        "userInfo": {"username": user.name, "groups": user.groups, "extra": user.extra},
        "dryRun": attributes.dry_run,
        "options": context.place.options.to_value(attributes.operation == Operation::Create),
    });
    let optional = [("name", attributes.name), ("namespace", matching::namespace(attributes))];
    let subresource = attributes.subresource.map_or("", |subresource| subresource.as_str());
    for (name, value) in optional.into_iter().chain([("subResource", subresource), ("requestSubResource", subresource)])
    {
        if !value.is_empty() {
            request[name] = value.into();
        }
    }
    if !user.uid.is_empty() {
        request["userInfo"]["uid"] = user.uid.as_str().into();
    }
    request
}

/// Evaluates the expressions of one policy on one request.
pub struct Run<'a> {
    variables: Variables<'a>,
    composition: &'a Composition,
    computed: BTreeMap<String, Result<Value<'a>, EvaluationError>>,
    budget: Budget,
}

impl<'a> Run<'a> {
    /// With these variables, and those of the policy.
    pub fn new(variables: Variables<'a>, composition: &'a Composition, budget: Budget) -> Self {
        Self { variables, composition, computed: BTreeMap::new(), budget }
    }

    /// What an expression says: a value or a failure of its own; the outer error is that nothing more can be evaluated.
    pub fn evaluate(&mut self, expression: &'a Expression) -> Result<Result<Value<'a>, String>, String> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(error) => return Ok(Err(format!("compilation error: {error}"))),
        };
        self.compute(program)?;
        let variables = self.with_computed();
        match program.evaluate(&variables, &mut self.budget) {
            Ok(value) => Ok(Ok(value)),
            Err(error) if error.is_out_of_budget() => Err(error.to_string()),
            Err(error) => Ok(Err(format!("expression '{}' resulted in error: {error}", expression.text))),
        }
    }

    /// What may still be spent.
    pub fn into_budget(self) -> Budget {
        self.budget
    }

    fn with_computed(&self) -> Variables<'a> {
        if self.composition.variables.is_empty() {
            return self.variables.clone();
        }
        self.variables.clone().with("variables", Value::Map(cel::Map::Computed(Arc::new(self.computed.clone()))))
    }

    /// Computes the variables that the program reads, and those that they read, in their order.
    fn compute(&mut self, program: &Program) -> Result<(), String> {
        let composition = self.composition;
        let reads = |program: &Program, name: &str| program.uses(&format!("variables.{name}"));
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        for (index, (name, _)) in composition.variables.iter().enumerate().rev() {
            let later = composition.variables[index + 1..].iter().filter(|(later, _)| needed.contains(later.as_str()));
            let read_later = later.filter_map(|(_, program)| program.as_ref().ok()).any(|later| reads(later, name));
            if read_later || reads(program, name) {
                needed.insert(name);
            }
        }
        for (name, program) in &composition.variables {
            if !needed.contains(name.as_str()) || self.computed.contains_key(name) {
                continue;
            }
            let value = match program {
                Err(error) => {
                    Err(EvaluationError::Failed(format!("composited variable {name:?} fails to compile: {error}")))
                }
                Ok(program) => match program.evaluate(&self.with_computed(), &mut self.budget) {
                    Err(error) if error.is_out_of_budget() => return Err(error.to_string()),
                    Err(error) => {
                        Err(EvaluationError::Failed(format!("composited variable {name:?} fails to evaluate: {error}")))
                    }
                    Ok(value) => Ok(value),
                },
            };
            self.computed.insert(name.clone(), value);
        }
        Ok(())
    }
}

/// The match conditions of a webhook or policy.
#[derive(Debug, Default)]
pub struct MatchConditions {
    conditions: Vec<Expression>,
    none: Composition,
}

impl MatchConditions {
    /// Compiles; `params` where the policy has them.
    pub fn compile(conditions: &[MatchCondition], params: bool) -> Self {
        let environment = environment(Scope { params, authorizer: true, patches: false });
        let conditions =
            conditions.iter().map(|condition| Expression::new(&condition.expression, &environment, &[Type::Bool]));
        Self { conditions: conditions.collect(), none: Composition::default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether all hold. One that does not hold decides; else failures are an error, which the failure policy is about.
    pub fn hold(&self, variables: Variables<'_>) -> Result<bool, String> {
        if self.is_empty() {
            return Ok(true);
        }
        let budget = Budget::new(cel::PER_CALL_LIMIT, MATCH_BUDGET);
        let mut run = Run::new(variables, &self.none, budget);
        let mut failures = Vec::new();
        for condition in &self.conditions {
            match run.evaluate(condition)? {
                Ok(value) if value.as_bool() == Some(false) => return Ok(false),
                Ok(_) => {}
                Err(failure) => failures.push(failure),
            }
        }
        match failures.as_slice() {
            [] => Ok(true),
            [failure] => Err(failure.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

/// Answers `authorizer` for the user of a request.
pub struct Judge {
    authorizers: Arc<Authorizers>,
    user: User,
}

impl Judge {
    /// For this user.
    #[expect(clippy::new_ret_no_self, reason = "nobody needs more of it than that it answers")]
    pub fn new(authorizers: &Arc<Authorizers>, user: &User) -> Arc<dyn Authorize> {
        Arc::new(Self { authorizers: Arc::clone(authorizers), user: user.clone() })
    }
}

impl Authorize for Judge {
    fn authorize(&self, service_account: Option<(&str, &str)>, check: &Check<'_>) -> Verdict {
        let user = match service_account {
            None => self.user.clone(),
            Some((namespace, name)) => User {
                name: format!("system:serviceaccount:{namespace}:{name}"),
                groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
                ..User::default()
            },
        };
        let asked = match check {
            Check::Path { path, verb } => authz::Attributes::new(&user, verb, Target::Path((*path).to_owned())),
            Check::Resource { resource: of, verb } => {
                let target = Target::resource(&of.group, &of.resource, &of.subresource, &of.namespace, &of.name);
                authz::Attributes::new(&user, verb, target).with_field_selector(of.field_selector.as_deref())
            }
        };
        match self.authorizers.authorize(&asked) {
            authz::Decision::Allow(reason) => Verdict { allowed: true, reason, error: None },
            authz::Decision::NoOpinion(reason) => Verdict { allowed: false, reason, error: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_see_the_request() {
        let scope = Scope { params: false, authorizer: true, patches: false };
        let table = [
            ("object.spec.replicas > 1", None),
            ("request.operation == 'CREATE' && request.userInfo.groups.exists(g, g == 'x')", None),
            ("namespaceObject.metadata.labels['a'] == 'b'", None),
            ("authorizer.requestResource.check('delete').allowed()", None),
            ("authorizer.group('apps').resource('deployments').namespace('n').check('get').allowed()", None),
            ("object.spec.replicas", Some("must evaluate to bool but got dyn")),
            ("request.name", Some("must evaluate to bool but got string")),
            (
                "params.x",
                Some(
                    "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x\n | ^",
                ),
            ),
            (
                "request.foo == 1",
                Some("compilation failed: ERROR: <input>:1:8: undefined field 'foo'\n | request.foo == 1\n | .......^"),
            ),
        ];
        for (expression, wrong) in table {
            let found = compile(expression, &environment(scope), &[Type::Bool]).err();
            assert_eq!(found.as_deref(), wrong, "{expression}");
        }
        let annotation = compile("1", &environment(scope), &[Type::String, Type::Null]).expect_err("neither");
        assert_eq!(annotation, "must evaluate to one of [string null_type] but got int");
    }

    #[test]
    fn variables_are_computed_when_they_are_read() {
        let scope = Scope::default();
        let mut composition = Composition::default();
        composition.add("a", "object.a", scope).expect("compiles");
        composition.add("b", "variables.a + 1", scope).expect("compiles");
        composition.add("broken", "object.nothing", scope).expect("compiles");
        let wrong = composition.add("c", "variables.later", scope).expect_err("not yet declared");
        assert!(wrong.contains("undefined field 'later'"), "{wrong}");
        let environment = composition.environment(scope);
        let object = json!({"a": 1});
        let variables = Variables::new().with("object", Value::json(&object));
        let table = [
            ("variables.b == 2", Ok(true)),
            ("variables.b == 2 || variables.broken == 1", Ok(true)),
            (
                "variables.broken == 1",
                Err(
                    "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: no such key: nothing",
                ),
            ),
        ];
        for (text, expected) in table {
            let expression = Expression::new(text, &environment, &[Type::Bool]);
            let mut run = Run::new(variables.clone(), &composition, Budget::default());
            let found = run.evaluate(&expression).expect("within the budget");
            let found = found.map(|value| value.as_bool() == Some(true));
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|text| *text), "{text}");
        }
    }

    #[test]
    fn a_condition_that_does_not_hold_beats_failures() {
        let object = json!({"a": 1});
        let condition = |expression: &str| MatchCondition { name: "x".to_owned(), expression: expression.to_owned() };
        let hold = |conditions: &[&str]| {
            let conditions: Vec<MatchCondition> = conditions.iter().map(|text| condition(text)).collect();
            let variables = Variables::new().with("object", Value::json(&object));
            MatchConditions::compile(&conditions, false).hold(variables)
        };
        assert_eq!(hold(&["object.a == 1"]), Ok(true));
        assert_eq!(hold(&["object.b == 1", "object.a == 2"]), Ok(false));
        assert_eq!(
            hold(&["object.b == 1", "object.a == 1"]),
            Err("expression 'object.b == 1' resulted in error: no such key: b".to_owned())
        );
    }
}
