//! Evaluation: walks the checked tree. Time is bounded by counting what is done, never by a clock, so that the same expression on the
//! same values always ends the same way.
//!
//! Entry point: [`evaluate`]. Invariant: an error is absorbed only by `&&`, `||` and the loops of `all` and `exists`, and running
//! out of the budget by nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::syntax::{Fold, Kind, Literal, MapEntry, Node, StructField};
use super::value::{Map, Struct, Text, Value};
use super::{EvaluationError, Variables, cost, library};

/// What the tree gives with these variables, and what it cost.
pub(super) fn evaluate<'a>(
    tree: &'a Node,
    variables: &Variables<'a>,
    limit: u64,
) -> (Result<Value<'a>, EvaluationError>, u64) {
    let mut evaluation = Evaluation { variables, scope: Vec::new(), spent: 0, limit };
    let result = evaluation.node(tree);
    (result, evaluation.spent)
}

struct Evaluation<'e, 'a> {
    variables: &'e Variables<'a>,
    scope: Vec<(&'a str, Result<Value<'a>, EvaluationError>)>,
    spent: u64,
    limit: u64,
}

impl<'a> Evaluation<'_, 'a> {
    fn charge(&mut self, cost: u64) -> Result<(), EvaluationError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(EvaluationError::CallLimit) } else { Ok(()) }
    }

    fn node(&mut self, node: &'a Node) -> Result<Value<'a>, EvaluationError> {
        match &node.kind {
            Kind::Literal(value) => Ok(literal(value)),
            Kind::Ident(name) => {
                self.charge(1)?;
                self.ident(name)
            }
            Kind::Select { of, field, test } => {
                let operand = self.node(of)?;
                if *test {
                    return present(&operand, field).map(Value::Bool);
                }
                self.charge(1)?;
                select(&operand, field)
            }
            Kind::OptionalSelect { of, field } => {
                let operand = self.node(of)?;
                self.charge(1)?;
                let found = match &operand {
                    Value::Optional(Some(inner)) => inner.field(field)?,
                    other => other.field(field)?,
                };
                Ok(Value::optional(found))
            }
            Kind::Call { function, target, args } => self.call(function, target.as_deref(), args),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptionalMap { name, value, body, flat } => {
                let Value::Optional(inner) = self.node(value)? else { return Err(no_such_overload()) };
                let Some(inner) = inner else { return Ok(Value::Optional(None)) };
                self.scope.push((name, Ok((*inner).clone())));
                let result = self.node(body);
                self.scope.pop();
                if *flat { result } else { result.map(|value| Value::optional(Some(value))) }
            }
        }
    }

    fn ident(&self, name: &'a str) -> Result<Value<'a>, EvaluationError> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(local, _)| *local == name) {
            return value.clone();
        }
        if let Some(value) = self.variables.get(name) {
            return Ok(value.clone());
        }
        match super::declarations::named_type(name) {
            Some(_) => Ok(Value::Type(name.into())),
            None => Err(EvaluationError::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn call(
        &mut self,
        function: &'a str,
        target: Option<&'a Node>,
        args: &'a [Node],
    ) -> Result<Value<'a>, EvaluationError> {
        match (function, args) {
            ("_&&_", [one, two]) => return self.junction(one, two, false),
            ("_||_", [one, two]) => return self.junction(one, two, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.node(condition)? {
                    Value::Bool(true) => self.node(yes),
                    Value::Bool(false) => self.node(no),
                    _ => Err(no_such_overload()),
                };
            }
            ("@not_strictly_false", [argument]) => {
                return match self.node(argument) {
                    Ok(value) => Ok(Value::Bool(value.as_bool() != Some(false))),
                    Err(error) if error.is_final() => Err(error),
                    Err(_) => Ok(Value::Bool(true)),
                };
            }
            ("or" | "orValue", [other]) => {
                if let Some(target) = target {
                    let value = self.node(target)?;
                    return match (&value, function) {
                        (Value::Optional(None), _) => self.node(other),
                        (Value::Optional(Some(inner)), "orValue") => Ok((**inner).clone()),
                        (Value::Optional(_), _) => Ok(value),
                        _ => Err(no_such_overload()),
                    };
                }
            }
            _ => {}
        }
        let values = target.into_iter().chain(args).map(|argument| self.node(argument));
        let values: Vec<Value<'a>> = values.collect::<Result<_, _>>()?;
        match (function, values.as_slice()) {
            ("_[_]", [of, at]) => {
                self.charge(1)?;
                library::index(of, at)
            }
            ("_[?_]", [of, at]) => {
                self.charge(1)?;
                library::find(of, at).map(Value::optional)
            }
            _ => {
                self.charge(cost::of_call(function, &values))?;
                let result = library::call(function, &values)?;
                self.charge(cost::of_result(function, &result))?;
                Ok(result)
            }
        }
    }

    /// `&&` ends with false, `||` with true, whatever the other side says.
    fn junction(&mut self, one: &'a Node, two: &'a Node, decides: bool) -> Result<Value<'a>, EvaluationError> {
        let one = self.node(one);
        match &one {
            Ok(Value::Bool(value)) if *value == decides => return one,
            Err(error) if error.is_final() => return one,
            _ => {}
        }
        let two = self.node(two);
        match (&one, &two) {
            (_, Ok(Value::Bool(value))) if *value == decides => two,
            (_, Err(error)) if error.is_final() => two,
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => two,
            (Err(_), _) => one,
            (_, Err(_)) => two,
            _ => Err(no_such_overload()),
        }
    }

    fn list(&mut self, items: &'a [Node], optional: &[usize]) -> Result<Value<'a>, EvaluationError> {
        self.charge(10)?;
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match (self.node(item)?, optional.contains(&index)) {
                (Value::Optional(inner), true) => values.extend(inner.map(|inner| (*inner).clone())),
                (value, _) => values.push(value),
            }
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [MapEntry]) -> Result<Value<'a>, EvaluationError> {
        self.charge(30)?;
        let mut values = BTreeMap::new();
        for entry in entries {
            let name = self.node(&entry.key)?;
            let key = name.key().ok_or_else(|| EvaluationError::new("unsupported key type"))?;
            let value = match (self.node(&entry.value)?, entry.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (value, _) => value,
            };
            if values.insert(key, value).is_some() {
                return Err(EvaluationError::new(format!("Failed with repeated key: {name}")));
            }
        }
        Ok(Value::Map(Map::Made(Arc::new(values))))
    }

    fn object(&mut self, name: &str, fields: &'a [StructField]) -> Result<Value<'a>, EvaluationError> {
        self.charge(40)?;
        let mut values = BTreeMap::new();
        for field in fields {
            let value = match (self.node(&field.value)?, field.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(inner)), true) => (*inner).clone(),
                (value, _) => value,
            };
            values.insert(field.name.clone(), value);
        }
        Ok(Value::Struct(Arc::new(Struct { name: name.to_owned(), fields: values })))
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>, EvaluationError> {
        let range = self.node(&fold.range)?;
        let rounds = rounds(&range, fold.second.is_some())?;
        if let Some((filter, item)) = appended(fold) {
            return self.collect(fold, rounds, filter, item);
        }
        let mut accumulated = self.node(&fold.init);
        let depth = self.scope.len();
        for (first, second) in rounds {
            self.scope.push((&fold.accumulator, std::mem::replace(&mut accumulated, Ok(Value::Null))));
            self.bind(fold, first, second);
            let goes_on = self.node(&fold.condition);
            let step = match goes_on {
                Ok(Value::Bool(true)) => Some(self.node(&fold.step)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            };
            let before = self.scope.drain(depth..).next().map(|(_, before)| before);
            accumulated = match (step, before) {
                (Some(Err(error)), _) if error.is_final() => return Err(error),
                (Some(step), _) => step,
                (None, Some(before)) => {
                    accumulated = before;
                    break;
                }
                (None, None) => break,
            };
        }
        self.scope.push((&fold.accumulator, accumulated));
        let result = self.node(&fold.result);
        self.scope.truncate(depth);
        result
    }

    fn bind(&mut self, fold: &'a Fold, first: Value<'a>, second: Option<Value<'a>>) {
        self.scope.push((&fold.variable, Ok(first)));
        if let (Some(name), Some(value)) = (&fold.second, second) {
            self.scope.push((name, Ok(value)));
        }
    }

    /// A loop that only appends: `map`, `filter`, `transformList`.
    fn collect(
        &mut self,
        fold: &'a Fold,
        rounds: Vec<(Value<'a>, Option<Value<'a>>)>,
        filter: Option<&'a Node>,
        item: &'a Node,
    ) -> Result<Value<'a>, EvaluationError> {
        let depth = self.scope.len();
        let mut collected = Vec::new();
        for (first, second) in rounds {
            self.bind(fold, first, second);
            let kept = match filter.map(|filter| self.node(filter)).transpose()? {
                None | Some(Value::Bool(true)) => true,
                Some(Value::Bool(false)) => false,
                Some(_) => return Err(no_such_overload()),
            };
            if kept {
                // A list of one and a sum.
                self.charge(12)?;
                let item = self.node(item)?;
                collected.push(item);
            }
            self.scope.truncate(depth);
        }
        Ok(Value::list(collected))
    }
}

fn no_such_overload() -> EvaluationError {
    EvaluationError::new("no such overload")
}

fn literal<'a>(value: &'a Literal) -> Value<'a> {
    match value {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Made(Arc::clone(text))),
        Literal::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
    }
}

/// `of.field`
fn select<'a>(of: &Value<'a>, field: &str) -> Result<Value<'a>, EvaluationError> {
    if let Value::Optional(inner) = of {
        let found = inner.as_ref().map_or(Ok(None), |inner| inner.field(field))?;
        return Ok(Value::optional(found));
    }
    of.field(field)?.ok_or_else(|| EvaluationError::new(format!("no such key: {field}")))
}

/// `has(of.field)`
fn present(of: &Value<'_>, field: &str) -> Result<bool, EvaluationError> {
    match of {
        Value::Optional(inner) => inner.as_ref().map_or(Ok(false), |inner| present(inner, field)),
        other => Ok(other.field(field)?.is_some()),
    }
}

/// What the variables are in each round.
fn rounds<'a>(range: &Value<'a>, two: bool) -> Result<Vec<(Value<'a>, Option<Value<'a>>)>, EvaluationError> {
    let index = |at: usize| Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
    match range {
        Value::List(list) if two => Ok(list.iter().enumerate().map(|(at, item)| (index(at), Some(item))).collect()),
        Value::List(list) => Ok(list.iter().map(|item| (item, None)).collect()),
        Value::Map(_) | Value::Object(..) | Value::Struct(_) => {
            let entries = range.entries().into_iter();
            Ok(entries.map(|(key, value)| (key.value(), two.then_some(value))).collect())
        }
        _ => Err(no_such_overload()),
    }
}

/// Filter and item of a loop that starts with an empty list and in each round appends one item or none.
fn appended(fold: &Fold) -> Option<(Option<&Node>, &Node)> {
    let is_accumulator = |node: &Node| matches!(&node.kind, Kind::Ident(name) if *name == fold.accumulator);
    let starts_empty = matches!(&fold.init.kind, Kind::List { items, .. } if items.is_empty());
    let always = matches!(fold.condition.kind, Kind::Literal(Literal::Bool(true)));
    if !starts_empty || !always || !is_accumulator(&fold.result) {
        return None;
    }
    let Kind::Call { function, args, .. } = &fold.step.kind else { return None };
    match (function.as_str(), args.as_slice()) {
        ("_+_", [accumulator, list]) if is_accumulator(accumulator) => Some((None, single(list)?)),
        ("_?_:_", [filter, step, otherwise]) if is_accumulator(otherwise) => {
            let Kind::Call { function, args, .. } = &step.kind else { return None };
            match (function.as_str(), args.as_slice()) {
                ("_+_", [accumulator, list]) if is_accumulator(accumulator) => Some((Some(filter), single(list)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn single(list: &Node) -> Option<&Node> {
    match &list.kind {
        Kind::List { items, optional } if optional.is_empty() => items.first().filter(|_| items.len() == 1),
        _ => None,
    }
}
