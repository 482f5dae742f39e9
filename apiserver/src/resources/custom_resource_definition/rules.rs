//! Whether the rules of a schema compile, and what they can cost. Entry point: [`check`], for the rules of one node.
//!
//! A rule inside a list or a map runs once for each of its members, so its cost is multiplied by the most there can be.
//! Reference: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#resource-use-by-validation-functions>.

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use serde_json::{Value, json};

use super::internal::shown_rule;
use crate::cel::{Environment, Program, Shape, Type, compile};

/// The most that one expression may cost.
const EXPRESSION_LIMIT: u64 = 10_000_000;
/// The most that all rules of a schema may cost together.
const SCHEMA_LIMIT: u64 = 100_000_000;
/// Expressions that cost more than this part of the limit are named when all cost too much together.
const EXPENSIVE: u64 = SCHEMA_LIMIT / 100;
/// So many of them.
const MOST_EXPENSIVE: usize = 4;

/// What the rules of a schema cost so far.
#[derive(Default)]
pub(super) struct Costs {
    total: u64,
    expensive: Vec<(u64, FieldPath)>,
}

impl Costs {
    fn observe(&mut self, path: &FieldPath, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= EXPENSIVE {
            self.expensive.push((cost, path.clone()));
            self.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.expensive.truncate(MOST_EXPENSIVE);
        }
    }

    /// What is wrong with the sum.
    pub(super) fn check(&self, path: &FieldPath) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.total > SCHEMA_LIMIT {
            for (_, path) in &self.expensive {
                let detail =
                    "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                errors.push(FieldError::forbidden(path, detail));
            }
            let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(path, excess(what, self.total, SCHEMA_LIMIT)));
        }
        errors
    }
}

fn excess(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a factor for people")]
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
         arrays, maps, and strings are declared)"
    )
}

/// Where a node stands, as its rules see it.
#[derive(Clone)]
pub(super) struct Place<'a> {
    schema: &'a Value,
    is_resource: bool,
    /// How often its rules run at most; none is without bound.
    times: Option<u64>,
}

impl<'a> Place<'a> {
    /// The whole resource.
    pub(super) fn root(schema: &'a Value) -> Self {
        Self { schema, is_resource: true, times: Some(1) }
    }

    fn below(&self, schema: &'a Value, limit: Option<&str>) -> Self {
        let is_resource = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        let times = match limit {
            None => self.times,
            Some(limit) => {
                self.schema.get(limit).and_then(Value::as_u64).zip(self.times).map(|(a, b)| a.saturating_mul(b))
            }
        };
        Self { schema, is_resource, times }
    }

    /// A field.
    pub(super) fn property(&self, name: &str) -> Option<Self> {
        Some(self.below(self.schema.get("properties")?.get(name)?, None))
    }

    /// The values of a map.
    pub(super) fn additional_properties(&self) -> Option<Self> {
        Some(self.below(self.schema.get("additionalProperties")?, Some("maxProperties")))
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Self> {
        Some(self.below(self.schema.get("items").filter(|items| items.is_object())?, Some("maxItems")))
    }

    /// How often a value can stand in one object: as often as it fits into a request, if nothing says otherwise.
    fn times(&self) -> u64 {
        self.times
            .unwrap_or_else(|| Shape::of_schema(&json!({"type": "array", "items": self.schema}), false).most_items())
    }
}

/// Everything that is wrong with the rules of a node.
pub(super) fn check(
    path: &FieldPath,
    at: &Place<'_>,
    uncorrelatable: Option<&FieldPath>,
    costs: &mut Costs,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let rules = at.schema.get("x-kubernetes-validations").and_then(Value::as_array);
    let Some(rules) = rules.filter(|rules| !rules.is_empty()) else { return errors };
    let shape = Shape::of_schema(at.schema, at.is_resource);
    let path = path.child("x-kubernetes-validations");
    for (i, rule) in rules.iter().enumerate() {
        let one = Rule { rule, at, shape: &shape, path: path.index(i) };
        one.expression(uncorrelatable, costs, &mut errors);
    }
    errors
}

struct Rule<'a> {
    rule: &'a Value,
    at: &'a Place<'a>,
    shape: &'a Shape,
    path: FieldPath,
}

impl Rule<'_> {
    fn text(&self, name: &str) -> &str {
        self.rule.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// `Invalid value: {the rule}: detail`.
    fn invalid(&self, field: &str, detail: &str) -> FieldError {
        FieldError {
            kind: FieldErrorKind::Invalid,
            path: self.path.child(field),
            value: None,
            detail: format!("{}: {detail}", shown_rule(self.rule)),
        }
    }

    fn environment(&self) -> Environment {
        let optional = self.rule.get("optionalOldSelf") == Some(&Value::Bool(true));
        environment(self.shape, optional)
    }

    fn cost(&self, program: &Program) -> u64 {
        program.estimated_cost(&[("self", self.shape), ("oldSelf", self.shape)])
    }

    fn expression(&self, uncorrelatable: Option<&FieldPath>, costs: &mut Costs, errors: &mut FieldErrors) {
        let environment = self.environment();
        let mut uses_old = false;
        match compile(self.text("rule"), &environment) {
            Err(error) => errors.push(self.invalid("rule", &format!("compilation failed: {error}"))),
            Ok(program) if !matches!(program.result(), Type::Bool | Type::Dyn) => {
                errors.push(self.invalid("rule", "cel expression must evaluate to a bool"));
            }
            Ok(program) => {
                let (path, cost) = (self.path.child("rule"), self.cost(&program).saturating_mul(self.at.times()));
                self.limit(&path, "estimated rule cost", cost, costs, errors);
                uses_old = program.uses("oldSelf");
            }
        }
        self.message(&environment, costs, errors);
        match (uses_old, uncorrelatable, self.rule.get("optionalOldSelf")) {
            (true, Some(within), _) => {
                let detail =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                errors.push(FieldError::invalid(&self.path.child("rule"), self.text("rule"), detail));
            }
            (false, _, Some(optional)) => {
                let detail = "may not be set if oldSelf is not used in rule";
                errors.push(FieldError::invalid(&self.path.child("optionalOldSelf"), optional, detail));
            }
            (true, None, _) | (false, _, None) => {}
        }
    }

    fn message(&self, environment: &Environment, costs: &mut Costs, errors: &mut FieldErrors) {
        let expression = self.text("messageExpression");
        if expression.is_empty() {
            return;
        }
        let detail = match compile(expression, environment) {
            Err(error) => format!("messageExpression compilation failed: {error}"),
            Ok(program) if *program.result() != Type::String => {
                "messageExpression must evaluate to a string".to_owned()
            }
            Ok(program) => {
                let (path, cost) = (self.path.child("messageExpression"), self.cost(&program));
                return self.limit(&path, "estimated messageExpression cost", cost, costs, errors);
            }
        };
        errors.push(self.invalid("messageExpression", &detail));
    }

    fn limit(&self, path: &FieldPath, what: &str, cost: u64, costs: &mut Costs, errors: &mut FieldErrors) {
        if cost > EXPRESSION_LIMIT {
            errors.push(FieldError::forbidden(path, excess(what, cost, EXPRESSION_LIMIT)));
        }
        costs.observe(path, cost);
    }
}

/// What a rule may speak of.
pub fn environment(shape: &Shape, optional_old_self: bool) -> Environment {
    let old = if optional_old_self { Type::optional(shape.cel_type()) } else { shape.cel_type() };
    Environment::new().with("self", shape.cel_type()).with("oldSelf", old)
}
