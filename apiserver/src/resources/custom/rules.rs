//! The rules of a defined kind, compiled once and run on every write. Entry points: [`Rules::new`], [`Rules::check`].
//!
//! Rules with `oldSelf` run only where there is an old value; the others do not hold against what was wrong before and did not
//! change. All rules of an object share one budget. Reference:
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath, go_quote};
use serde_json::Value;

use super::schema::{Additional, Rule, Schema};
use crate::cel::{Budget, EvaluationError, Program, Shape, Value as CelValue, Variables, compile};
use crate::resources::definition::{field_path, rules::environment};

/// The longest text that a messageExpression may give.
const LONGEST_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The rules of one node of a schema and of those below.
pub struct Rules {
    rules: Vec<Compiled>,
    shape: Arc<Shape>,
    type_name: String,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: BTreeMap<String, Rules>,
    /// What tells the items of the list apart, if anything does.
    keys: Vec<String>,
}

struct Compiled {
    rule: Rule,
    /// The error is the compiler's text; definitions with such rules are refused.
    program: Result<Program, String>,
    message: Option<Program>,
    /// The field that is to blame.
    blamed: FieldPath,
}

impl Rules {
    /// The rules of a schema, given as JSON too; none if it has none.
    pub fn new(schema: &Schema, document: &Value, is_resource: bool) -> Option<Self> {
        if !schema.has_rules() {
            return None;
        }
        let shape = Shape::of_schema(document, is_resource);
        let rules = schema.rules.iter().map(|rule| Compiled::new(rule, &shape, schema)).collect();
        let below = |schema: &Schema, document: Option<&Value>| Self::new(schema, document?, schema.embedded);
        let property = |(name, schema): (&String, &Schema)| {
            Some((name.clone(), below(schema, document.get("properties")?.get(name))?))
        };
        let additional = match &schema.additional_properties {
            Some(Additional::Schema(schema)) => below(schema, document.get("additionalProperties")),
            Some(Additional::Allowed(_)) | None => None,
        };
        Some(Self {
            rules,
            shape,
            type_name: schema.type_name.clone(),
            items: schema.items.as_deref().and_then(|items| below(items, document.get("items"))).map(Box::new),
            additional: additional.map(Box::new),
            properties: schema.properties.iter().filter_map(property).collect(),
            keys: if schema.is_list_map() { schema.list_map_keys.clone() } else { Vec::new() },
        })
    }

    /// Everything that the rules have against an object; `old` is what it was before an update.
    pub fn check(&self, value: &Value, old: Option<&Value>) -> FieldErrors {
        self.run(value, old).errors
    }

    /// What they would have against it, had it not been so before.
    pub fn tolerated(&self, value: &Value, old: &Value) -> FieldErrors {
        self.run(value, Some(old)).tolerated
    }

    fn run(&self, value: &Value, old: Option<&Value>) -> Run {
        let mut run = Run::default();
        let same = old.is_some_and(|old| old == value);
        run.node(self, &FieldPath::default(), Pair { value, old, same });
        run
    }
}

impl Compiled {
    fn new(rule: &Rule, shape: &Shape, schema: &Schema) -> Self {
        let environment = environment(shape, rule.optional_old_self.unwrap_or_default());
        let message = (!rule.message_expression.is_empty()).then(|| compile(&rule.message_expression, &environment));
        let blamed = (!rule.field_path.is_empty()).then(|| field_path::resolve(&rule.field_path, schema, true));
        Self {
            program: compile(&rule.rule, &environment).map_err(|error| format!("compilation failed: {error}")),
            message: message.and_then(Result::ok),
            blamed: blamed.and_then(Result::ok).map(|(path, _)| path).unwrap_or_default(),
            rule: rule.clone(),
        }
    }

    /// The rule as errors about it show it.
    fn shown(&self) -> &str {
        if self.rule.message.is_empty() { self.rule.rule.trim() } else { self.rule.message.trim() }
    }
}

/// A value and what it was before.
#[derive(Clone, Copy)]
struct Pair<'a> {
    value: &'a Value,
    old: Option<&'a Value>,
    /// It, or the nearest value around it whose old one is known, did not change.
    same: bool,
}

impl<'a> Pair<'a> {
    fn below(self, value: &'a Value, old: Option<&'a Value>) -> Self {
        Self { value, old, same: old.map_or(self.same, |old| old == value) }
    }
}

#[derive(Default)]
struct Run {
    errors: FieldErrors,
    /// What was so before and did not change.
    tolerated: FieldErrors,
    budget: Budget,
    ended: bool,
}

impl Run {
    fn node(&mut self, rules: &Rules, path: &FieldPath, pair: Pair<'_>) {
        if self.ended || pair.value.is_null() {
            return;
        }
        for rule in &rules.rules {
            if self.ended {
                return;
            }
            self.rule(rules, rule, path, pair);
        }
        match pair.value {
            Value::Array(items) => self.items(rules, path, pair, items),
            Value::Object(fields) => {
                let old = |name: &str| pair.old.and_then(|old| old.get(name));
                if let Some(additional) = &rules.additional {
                    for (name, value) in fields.iter().filter(|(name, _)| !rules.properties.contains_key(*name)) {
                        self.node(additional, &path.key(name), pair.below(value, old(name)));
                    }
                }
                for (name, below) in &rules.properties {
                    if let Some(value) = fields.get(name) {
                        self.node(below, &path.child(name), pair.below(value, old(name)));
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn items(&mut self, rules: &Rules, path: &FieldPath, pair: Pair<'_>, items: &[Value]) {
        let Some(below) = &rules.items else { return };
        let known = pair.old.and_then(Value::as_array).filter(|_| !rules.keys.is_empty());
        for (i, item) in items.iter().enumerate() {
            let same = |old: &&Value| rules.keys.iter().all(|key| old.get(key) == item.get(key));
            let old = known.and_then(|known| known.iter().find(same));
            self.node(below, &path.index(i), pair.below(item, old));
        }
    }

    fn rule(&mut self, rules: &Rules, compiled: &Compiled, path: &FieldPath, pair: Pair<'_>) {
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => return self.typed(rules, path, format!("rule compile error: {why}")),
        };
        let optional = compiled.rule.optional_old_self.unwrap_or_default();
        let uses_old = program.uses("oldSelf");
        if uses_old && pair.old.is_none() && !optional {
            return;
        }
        let mut variables = Variables::new().with("self", CelValue::shaped(pair.value, &rules.shape));
        let old = pair.old.map(|old| CelValue::shaped(old, &rules.shape));
        match old {
            old if optional => variables.set("oldSelf", CelValue::optional(old)),
            Some(old) => variables.set("oldSelf", old),
            None => {}
        }
        match program.evaluate(&variables, &mut self.budget).map(|value| value.as_bool()) {
            Ok(Some(true)) => {}
            Ok(_) => self.broken(rules, compiled, path, pair, &variables, uses_old),
            Err(error) => self.failed(rules, compiled, path, &error),
        }
    }

    /// A rule that could not be evaluated.
    fn failed(&mut self, rules: &Rules, compiled: &Compiled, path: &FieldPath, error: &EvaluationError) {
        let shown = compiled.shown();
        if error.is_out_of_budget() {
            self.typed(rules, path, OUT_OF_BUDGET.to_owned());
            self.ended = true;
        } else if error.is_call_limit() {
            let detail = format!(
                "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
            );
            self.typed(rules, path, detail);
            self.ended = true;
        } else if error.to_string().starts_with("no such overload") {
            let detail = format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            );
            self.typed(rules, path, detail);
        } else {
            self.typed(rules, path, format!("{error} evaluating rule: {shown}"));
        }
    }

    /// A rule that does not hold.
    fn broken(
        &mut self,
        rules: &Rules,
        compiled: &Compiled,
        path: &FieldPath,
        pair: Pair<'_>,
        variables: &Variables<'_>,
        uses_old: bool,
    ) {
        let detail = match self.message(compiled, variables) {
            Ok(Some(message)) => message,
            Ok(None) if compiled.rule.message.is_empty() => format!("failed rule: {}", compiled.shown()),
            Ok(None) => compiled.rule.message.trim().to_owned(),
            Err(why) => {
                self.typed(rules, path, why);
                self.ended = true;
                return;
            }
        };
        let path = match compiled.blamed.as_str() {
            "" => path.clone(),
            blamed => path.child(blamed),
        };
        let shows = !matches!(rules.type_name.as_str(), "object" | "array");
        let value = shows.then(|| pair.value.clone());
        let error = named(match compiled.rule.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(&path, detail),
            Some("FieldValueRequired") => FieldError::required(&path, detail),
            Some("FieldValueDuplicate") => {
                FieldError { kind: FieldErrorKind::Duplicate, path, value, detail: String::new() }
            }
            Some(_) | None => FieldError { kind: FieldErrorKind::Invalid, path, value, detail },
        });
        if pair.same && !uses_old { self.tolerated.push(error) } else { self.errors.push(error) }
    }

    /// What the rule's own expression says; none where it says nothing useful. The error ends the rules.
    fn message(&mut self, compiled: &Compiled, variables: &Variables<'_>) -> Result<Option<String>, String> {
        let Some(program) = &compiled.message else { return Ok(None) };
        match program.evaluate(variables, &mut self.budget) {
            Ok(value) => {
                let text = value.as_str().map(str::trim).unwrap_or_default();
                let useful = !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
                Ok(useful.then(|| text.to_owned()))
            }
            Err(error) if error.is_out_of_budget() => {
                Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned())
            }
            Err(error) if error.is_call_limit() => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                go_quote(&compiled.rule.message_expression)
            )),
            Err(error) => {
                tracing::debug!(%error, expression = compiled.rule.message_expression, "messageExpression failed");
                Ok(None)
            }
        }
    }

    /// An error that shows the type in place of the value.
    fn typed(&mut self, rules: &Rules, path: &FieldPath, detail: String) {
        self.errors.push(named(FieldError::invalid(path, &rules.type_name, detail)));
    }
}

/// The whole object has no path.
fn named(mut error: FieldError) -> FieldError {
    if error.path.as_str().is_empty() {
        error.path = FieldPath::nil();
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors(schema: &Value, new: Value, old: Option<Value>) -> Vec<String> {
        let parsed = Schema::parse(schema).unwrap();
        let rules = Rules::new(&parsed, schema, true).unwrap();
        rules.check(&new, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_hold_at_every_depth() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a')"}],
            "properties": {"spec": {"type": "object",
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "message": "min is too large", "fieldPath": ".min"},
                    {"rule": "self.min > 0", "messageExpression": "'min is ' + string(self.min)", "reason": "FieldValueForbidden"}],
                "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
                    "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}]}},
                    "map": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]}}}}}});
        let object = |spec: Value| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}, "spec": spec});
        assert_eq!(errors(&schema, object(json!({"min": 1, "max": 2})), None), [""; 0]);
        let wrong = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "b"},
            "spec": {"min": 0, "max": -1, "list": ["x"], "map": {"k": 7}}});
        assert_eq!(
            errors(&schema, wrong, None),
            [
                "<nil>: Invalid value: failed rule: self.metadata.name.startsWith('a')",
                "spec.min: Invalid value: min is too large",
                "spec: Forbidden: min is 0",
                "spec.list[0]: Invalid value: \"x\": failed rule: self != 'x'",
                "spec.map[k]: Invalid value: 7: failed rule: self < 5",
            ]
        );
        assert_eq!(
            errors(&schema, object(json!({"min": 1})), None),
            ["spec: Invalid value: \"object\": no such key: max evaluating rule: min is too large"]
        );
    }

    #[test]
    fn transitions_need_an_old_value_and_what_stays_may_stay_wrong() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "a is immutable"}]},
            "o": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() || self == 1", "message": "o begins with 1", "optionalOldSelf": true}]},
            "w": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer",
                    "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "v only grows"}]}}}}}});
        assert_eq!(errors(&schema, json!({"a": "x", "o": 2}), None), ["o: Invalid value: 2: o begins with 1"]);
        let old = json!({"a": "x", "o": 1, "w": 1, "l": [{"k": "p", "v": 5}, {"k": "q", "v": 1}]});
        let new = json!({"a": "y", "o": 2, "w": 1, "l": [{"k": "q", "v": 2}, {"k": "p", "v": 4}]});
        assert_eq!(
            errors(&schema, new, Some(old)),
            ["a: Invalid value: \"y\": a is immutable", "l[1].v: Invalid value: 4: v only grows"]
        );
        let rules = Rules::new(&Schema::parse(&schema).unwrap(), &schema, true).unwrap();
        let tolerated = rules.tolerated(&json!({"w": 1, "o": 3}), &json!({"w": 1}));
        assert_eq!(tolerated.to_string(), "w: Invalid value: 1: failed rule: self > 5");
        let atomic = json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
            "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}});
        let found = errors(&atomic, json!({"a": "y"}), Some(json!({"a": "x"})));
        assert_eq!(found, ["a: Invalid value: \"y\": failed rule: self == oldSelf"]);
    }
}
