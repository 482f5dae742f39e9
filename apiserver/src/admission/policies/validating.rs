//! `ValidatingAdmissionPolicy`: refuses, warns about or notes writes that do not keep the rules of a policy.

use std::sync::Arc;

use api::error::ApiError;
use async_trait::async_trait;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy as Stored, ValidatingAdmissionPolicyBinding as StoredBinding,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Serialize;

use super::{Binding, Common, Constraints, Hook, Hooks, Invocation, Misconfigured, Parts, Policy};
use crate::admission::expressions::{Expression, Judge, Run, Scope, Subject};
use crate::admission::{Attributes, Context, Lookup, Plugin};
use crate::authz::Authorizers;
use crate::cel::{Budget, Type, Value};
use crate::object::Object;
use crate::view::View;

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
/// The longest audit annotation.
const MAX_ANNOTATION: usize = 10 * 1024;
const FAILURE_ANNOTATION: &str = "validation.policy.admission.k8s.io/validation_failure";

/// See the module.
pub struct ValidatingAdmissionPolicies {
    hooks: Hooks<Compiled>,
    authorizers: Arc<Authorizers>,
}

impl ValidatingAdmissionPolicies {
    /// The policies among these objects.
    pub fn new(view: Arc<dyn View>, authorizers: Arc<Authorizers>) -> Self {
        Self { hooks: Hooks::new(view), authorizers }
    }
}

/// A policy, compiled.
pub struct Compiled {
    common: Common,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: Option<String>,
}

impl Policy for Compiled {
    const POLICIES: &'static str = "validatingadmissionpolicies";
    const BINDINGS: &'static str = "validatingadmissionpolicybindings";
    type Stored = Stored;
    type StoredBinding = StoredBinding;

    fn compile(stored: Stored) -> Self {
        let spec = stored.spec.unwrap_or_default();
        let scope = Scope { params: spec.param_kind.is_some(), authorizer: true, patches: false };
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
        let of_messages = common.variables.environment(Scope { authorizer: false, ..scope });
        let message = |text: Option<String>| {
            let text = text.filter(|text| !text.is_empty())?;
            Some(Expression::new(&text, &of_messages, &[Type::String]))
        };
        let validations = spec.validations.into_iter().flatten().map(|validation| Validation {
            expression: Expression::new(&validation.expression, &environment, &[Type::Bool]),
            message: validation.message.unwrap_or_default().trim().to_owned(),
            message_expression: message(validation.message_expression),
            reason: validation.reason,
        });
        let annotation = [Type::String, Type::Null];
        let annotations = spec.audit_annotations.into_iter().flatten();
        let annotations =
            annotations.map(|of| (of.key, Expression::new(&of.value_expression, &environment, &annotation)));
        Self { validations: validations.collect(), annotations: annotations.collect(), common }
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn binding(stored: StoredBinding) -> Binding {
        Binding {
            name: stored.metadata.name.unwrap_or_default(),
            actions: stored.spec.validation_actions,
            policy: stored.spec.policy_name,
            constraints: stored.spec.match_resources.as_ref().map(Constraints::new),
            param_ref: stored.spec.param_ref,
        }
    }
}

/// Why a request is refused.
struct Denial {
    message: String,
    reason: String,
}

/// What one validation says.
enum Decision {
    Holds,
    Broken { message: String, reason: String },
}

/// All that one policy says of a request with one parameter.
#[derive(Default)]
struct Verdict {
    decisions: Vec<Decision>,
    annotations: Vec<(String, String)>,
    /// Audit annotations that failed, under a policy whose failures refuse.
    failures: Vec<String>,
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn concerns(&self, attributes: &Attributes<'_>) -> bool {
        super::concerns(attributes) && !self.hooks.current().is_empty()
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
    ) -> Result<(), ApiError> {
        let hooks = self.hooks.current();
        let Some(context) = attributes.context else { return Ok(()) };
        let mut denials = Vec::new();
        for hook in hooks.iter() {
            self.ask(hook, attributes, &context, object, lookup, &mut denials).await?;
        }
        match denials.into_iter().next() {
            None => Ok(()),
            Some(denial) => Err(refusal(attributes, object, denial)),
        }
    }
}

impl ValidatingAdmissionPolicies {
    async fn ask(
        &self,
        hook: &Hook<Compiled>,
        attributes: &Attributes<'_>,
        context: &Context<'_>,
        object: Option<&dyn Object>,
        lookup: &dyn Lookup,
        denials: &mut Vec<Denial>,
    ) -> Result<(), ApiError> {
        let policy = &hook.policy;
        let name = &policy.common.name;
        let Some((row, invocations)) = super::invocations(hook, attributes, context, object, lookup).await else {
            return Ok(());
        };
        if invocations.is_empty() {
            return Ok(());
        }
        let namespace = super::namespace_object(attributes, lookup).await?;
        let subject = Subject::of(attributes, context, row.strategy(context), object, namespace);
        let mut annotations: Vec<(String, Vec<String>)> = Vec::new();
        for invocation in invocations {
            match invocation {
                Ok(invocation) => {
                    let verdict = policy.judge(&subject, &invocation, &Judge::new(&self.authorizers, attributes.user));
                    act(name, &invocation.binding, verdict, context, &mut annotations, denials);
                }
                Err(Misconfigured { binding, message }) if policy.common.fails => {
                    let with = binding.map(|binding| format!(" with binding '{}'", binding.name)).unwrap_or_default();
                    let message = format!("ValidatingAdmissionPolicy '{name}'{with} denied request: {message}");
                    denials.push(Denial { message, reason: "Invalid".to_owned() });
                }
                Err(_) => {}
            }
        }
        for (key, values) in annotations {
            context.place.annotations.add(format!("{name}/{key}"), values.join(", "));
        }
        Ok(())
    }
}

/// Carries out what the binding says about what the policy found.
fn act(
    policy: &str,
    binding: &Binding,
    verdict: Verdict,
    context: &Context<'_>,
    annotations: &mut Vec<(String, Vec<String>)>,
    denials: &mut Vec<Denial>,
) {
    let name = &binding.name;
    let denial = |message: &str, reason: &str| Denial {
        message: format!("ValidatingAdmissionPolicy '{policy}' with binding '{name}' denied request: {message}"),
        reason: reason.to_owned(),
    };
    for (index, decision) in verdict.decisions.iter().enumerate() {
        let Decision::Broken { message, reason } = decision else { continue };
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => denials.push(denial(message, reason)),
                "Warn" => context.place.warnings.add(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': {message}"
                )),
                _ => {
                    let failure = Failure {
                        message,
                        policy,
                        binding: name,
                        expression_index: index,
                        validation_actions: &binding.actions,
                    };
                    let text = serde_json::to_string(&[failure]).unwrap_or_default();
                    context.place.annotations.add(FAILURE_ANNOTATION, &text);
                }
            }
        }
    }
    for (key, value) in verdict.annotations {
        match annotations.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => annotations.push((key, vec![value])),
        }
    }
    denials.extend(verdict.failures.iter().map(|message| denial(message, "Invalid")));
}

/// What the audit log is told of a broken rule.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure<'a> {
    message: &'a str,
    policy: &'a str,
    binding: &'a str,
    expression_index: usize,
    validation_actions: &'a [String],
}

fn refusal(attributes: &Attributes<'_>, object: Option<&dyn Object>, denial: Denial) -> ApiError {
    let mut error = attributes.forbidden(object, &denial.message);
    error.code = match denial.reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    error.reason = denial.reason;
    let details = error.details.get_or_insert_default();
    let cause = StatusCause { message: Some(denial.message), ..StatusCause::default() };
    details.causes.get_or_insert_default().push(cause);
    error
}

impl Compiled {
    /// Evaluates everything; one failure that ends it all is one broken rule.
    fn judge(&self, subject: &Subject, invocation: &Invocation, judge: &Arc<dyn crate::cel::Authorize>) -> Verdict {
        let with_authorizer = || subject.variables(invocation.param.as_ref(), Some(judge));
        match self.common.conditions.hold(with_authorizer()) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(message) => return self.ended(message),
        }
        let mut run = Run::new(with_authorizer(), &self.common.variables, Budget::default());
        let mut results = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            match run.evaluate(&validation.expression) {
                Ok(result) => results.push(result),
                Err(message) => return self.ended(message),
            }
        }
        let plain = subject.variables(invocation.param.as_ref(), None);
        let mut messages = Run::new(plain.clone(), &self.common.variables, run.into_budget());
        let decisions = self.validations.iter().zip(results).map(|(validation, result)| match result {
            Ok(value) if value.as_bool() == Some(true) => Decision::Holds,
            Ok(_) => validation.broken(&mut messages),
            Err(_) if !self.common.fails => Decision::Holds,
            Err(message) => Decision::Broken { message, reason: "Invalid".to_owned() },
        });
        let mut verdict = Verdict { decisions: decisions.collect(), ..Verdict::default() };
        let mut run = Run::new(plain, &self.common.variables, Budget::default());
        for (key, expression) in &self.annotations {
            match run.evaluate(expression) {
                Ok(Ok(Value::String(text))) if !text.trim().is_empty() => {
                    verdict.annotations.push((key.clone(), shortened(text.trim())));
                }
                Ok(Ok(_)) => {}
                Ok(Err(message)) if self.common.fails => verdict.failures.push(message),
                Ok(Err(_)) => {}
                Err(message) => return self.ended(message),
            }
        }
        verdict
    }

    fn ended(&self, message: String) -> Verdict {
        let broken = self.common.fails.then(|| Decision::Broken { message, reason: "Invalid".to_owned() });
        Verdict { decisions: broken.into_iter().collect(), ..Verdict::default() }
    }
}

impl Validation {
    /// What is said of a rule that is broken: what its message expression makes, else its message, else the rule.
    fn broken<'a>(&'a self, messages: &mut Run<'a>) -> Decision {
        let made = self.message_expression.as_ref().and_then(|expression| match messages.evaluate(expression) {
            Ok(Ok(Value::String(text))) => {
                let text = text.trim();
                (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
            }
            _ => None,
        });
        let given = || Some(self.message.clone()).filter(|message| !message.is_empty());
        let message =
            made.or_else(given).unwrap_or_else(|| format!("failed expression: {}", self.expression.text().trim()));
        Decision::Broken { message, reason: self.reason.clone().unwrap_or_else(|| "Invalid".to_owned()) }
    }
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_ANNOTATION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
