//! Type checking, by the rules and in the words of cel-go's checker.
//!
//! Entry point: [`check`]. It also settles what names mean: `a.b.c` may be a variable with dots, `sets.contains(…)` a function
//! with dots; the tree says so afterwards. Invariant: a tree without problems calls declared functions only.

use std::sync::Arc;

use super::declarations::{self, Overload};
use super::syntax::{Fold, Kind, Literal, Node, Problem, StructField, problem};
use super::types::{Declared, Fields, Substitution, Type, most_general};
use super::{Environment, library};

/// Checks a tree and settles its names; the type of its value.
pub(super) fn check(text: &str, tree: &mut Node, environment: &Environment) -> Result<Type, Vec<Problem>> {
    let mut checker =
        Checker { text, environment, known: Substitution::default(), scope: Vec::new(), problems: Vec::new() };
    let kind = checker.node(tree);
    let kind = checker.known.apply(&kind, true);
    if checker.problems.is_empty() {
        checker.literals(tree);
    }
    if checker.problems.is_empty() {
        return Ok(kind);
    }
    checker.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(checker.problems)
}

struct Checker<'a> {
    text: &'a str,
    environment: &'a Environment,
    known: Substitution,
    scope: Vec<(String, Type)>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn report(&mut self, at: usize, message: String) {
        self.problems.push(problem(self.text, at, message));
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.scope.iter().rev().find(|(local, _)| local == name).map(|(_, kind)| kind.clone());
        local
            .or_else(|| self.environment.variable(name))
            .or_else(|| declarations::named_type(name).map(|kind| Type::TypeOf(Arc::new(kind))))
    }

    fn node(&mut self, node: &mut Node) -> Type {
        let at = node.at;
        match &mut node.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let kind = self.variable(name);
                kind.unwrap_or_else(|| self.undeclared(at, name))
            }
            Kind::Select { of, field, test } => {
                let qualified = qualified_name(of).filter(|_| !*test).map(|prefix| format!("{prefix}.{field}"));
                if let Some((name, kind)) = qualified.and_then(|name| Some((name.clone(), self.variable(&name)?))) {
                    node.kind = Kind::Ident(name);
                    return kind;
                }
                let kind = self.selection(at, of, field, false);
                if *test { Type::Bool } else { kind }
            }
            Kind::OptionalSelect { of, field } => self.selection(at, of, field, true),
            Kind::Call { .. } => self.call(node),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map(_) => self.map(node),
            Kind::Struct { name, fields } => self.object(at, name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptionalMap { name, value, body, flat } => {
                let value = self.node(value);
                let inner = match self.known.apply(&value, false) {
                    Type::Optional(inner) => (*inner).clone(),
                    kind if kind.is_dyn() || kind == Type::Error => Type::Dyn,
                    kind => {
                        let applied = kind.name();
                        self.report(at, format!("found no matching overload for 'hasValue' applied to '{applied}.()'"));
                        Type::Error
                    }
                };
                self.scope.push((name.clone(), inner));
                let kind = self.node(body);
                self.scope.pop();
                if *flat { kind } else { Type::optional(kind) }
            }
        }
    }

    fn selection(&mut self, at: usize, of: &mut Node, field: &str, optional: bool) -> Type {
        let operand = self.node(of);
        let (target, was_optional) = match self.known.apply(&operand, false) {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, false),
        };
        let result = match &target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(declared) => match field_type(declared, field) {
                Some(kind) => kind,
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Variable(_) => {
                self.known.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            _ => {
                self.report(at, format!("type '{}' does not support field selection", target.name()));
                Type::Dyn
            }
        };
        let result = if was_optional || optional { Type::optional(result) } else { result };
        self.known.apply(&result, false)
    }

    fn call(&mut self, node: &mut Node) -> Type {
        let at = node.at;
        let Kind::Call { function, target, args } = &mut node.kind else { return Type::Error };
        let mut types: Vec<Type> = args.iter_mut().map(|argument| self.node(argument)).collect();
        let Some(of) = target else {
            let overloads = self.function(function);
            let name = function.clone();
            return match overloads {
                Some(overloads) => self.resolve(at, &name, overloads, &types, false),
                None => self.undeclared(at, &name),
            };
        };
        let qualified = qualified_name(of).map(|prefix| format!("{prefix}.{function}"));
        if let Some((name, overloads)) = qualified.and_then(|name| Some((name.clone(), self.function(&name)?))) {
            *function = name.clone();
            *target = None;
            return self.resolve(at, &name, overloads, &types, false);
        }
        types.insert(0, self.node(of));
        match self.function(function) {
            Some(overloads) => {
                let name = function.clone();
                self.resolve(at, &name, overloads, &types, true)
            }
            None => {
                let name = function.clone();
                self.undeclared(at, &name)
            }
        }
    }

    fn function(&self, name: &str) -> Option<&'static [Overload]> {
        if name == "jsonpatch.escapeKey" && !self.environment.patches {
            return None;
        }
        declarations::function(name)
    }

    /// The result of the overloads that fit: the first one's, or dyn where they differ.
    fn resolve(&mut self, at: usize, name: &str, overloads: &[Overload], types: &[Type], member: bool) -> Type {
        let mut result: Option<Type> = None;
        for overload in overloads {
            if overload.member != member || overload.arguments.len() != types.len() {
                continue;
            }
            let fresh = [self.known.variable(), self.known.variable()];
            let wanted: Vec<Type> = overload.arguments.iter().map(|kind| instantiate(kind, &fresh)).collect();
            let pairs: Vec<(&Type, &Type)> = types.iter().zip(&wanted).collect();
            if !self.known.assign_all(&pairs) {
                continue;
            }
            let candidate = self.known.apply(&instantiate(&overload.result, &fresh), false);
            result = Some(match result {
                None => candidate,
                Some(before) if before.is_dyn() || before == candidate => before,
                Some(_) => Type::Dyn,
            });
        }
        result.unwrap_or_else(|| {
            let names: Vec<String> = types.iter().map(|kind| self.known.apply(kind, true).name()).collect();
            let signature = match (member, names.split_first()) {
                (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
                _ => format!("({})", names.join(", ")),
            };
            self.report(at, format!("found no matching overload for '{name}' applied to '{signature}'"));
            Type::Error
        })
    }

    /// The common type of what stands in one list or map.
    fn join(&mut self, at: usize, before: Option<Type>, now: Type) -> Type {
        let Some(before) = before else { return now };
        if self.known.assign(&before, &now) {
            return most_general(&before, &now);
        }
        let (expected, found) = (self.known.apply(&before, true).name(), self.known.apply(&now, true).name());
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
        before
    }

    /// The type within an optional element, key or field.
    fn unwrapped(&mut self, at: usize, kind: Type) -> Type {
        match self.known.apply(&kind, false) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                let (expected, found) = (Type::optional(other.clone()).name(), other.name());
                self.report(at, format!("expected type '{expected}' but found '{found}'"));
                other
            }
        }
    }

    fn list(&mut self, items: &mut [Node], optional: &[usize]) -> Type {
        let mut element = None;
        for (index, item) in items.iter_mut().enumerate() {
            let mut kind = self.node(item);
            if optional.contains(&index) {
                kind = self.unwrapped(item.at, kind);
            }
            element = Some(self.join(item.at, element, kind));
        }
        Type::list(element.unwrap_or_else(|| self.known.variable()))
    }

    fn map(&mut self, node: &mut Node) -> Type {
        let Kind::Map(entries) = &mut node.kind else { return Type::Error };
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.node(&mut entry.key);
            keys = Some(self.join(entry.key.at, keys, key));
            let mut value = self.node(&mut entry.value);
            if entry.optional {
                value = self.unwrapped(entry.value.at, value);
            }
            values = Some(self.join(entry.value.at, values, value));
        }
        let key = keys.unwrap_or_else(|| self.known.variable());
        Type::map(key, values.unwrap_or_else(|| self.known.variable()))
    }

    fn object(&mut self, at: usize, name: &str, fields: &mut [StructField]) -> Type {
        let Some(kind) = self.environment.object(name) else {
            let not_object = declarations::named_type(name).is_some();
            if not_object {
                self.report(at, format!("'{name}' is not a message type"));
            } else {
                self.undeclared(at, name);
            }
            for field in fields {
                self.node(&mut field.value);
            }
            return Type::Error;
        };
        for field in fields {
            let mut value = self.node(&mut field.value);
            if field.optional {
                value = self.unwrapped(field.at, value);
            }
            let Type::Object(declared) = &kind else { continue };
            let Some(wanted) = field_type(declared, &field.name) else {
                self.report(field.at, format!("undefined field '{}'", field.name));
                continue;
            };
            if !self.known.assign(&wanted, &value) {
                let (wanted, found) = (wanted.name(), self.known.apply(&value, true).name());
                let message =
                    format!("expected type of field '{}' is '{wanted}' but provided type is '{found}'", field.name);
                self.report(field.at, message);
            }
        }
        kind
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.node(&mut fold.range);
        let accumulator = self.node(&mut fold.init);
        let range = self.known.apply(&range, false);
        let two = fold.second.is_some();
        let (first, second) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Error),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Variable(_) => {
                self.known.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                let name = range.name();
                self.report(
                    fold.range.at,
                    format!(
                        "expression of type '{name}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let outside = self.scope.len();
        self.scope.push((fold.accumulator.clone(), accumulator.clone()));
        let inside = self.scope.len();
        self.scope.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scope.push((name.clone(), second));
        }
        let condition = self.node(&mut fold.condition);
        self.expect(fold.condition.at, &Type::Bool, &condition);
        let step = self.node(&mut fold.step);
        self.expect(fold.step.at, &accumulator, &step);
        self.scope.truncate(inside);
        let result = self.node(&mut fold.result);
        self.scope.truncate(outside);
        self.known.apply(&result, false)
    }

    fn expect(&mut self, at: usize, wanted: &Type, found: &Type) {
        if !self.known.assign(wanted, found) {
            let (wanted, found) = (self.known.apply(wanted, true).name(), self.known.apply(found, true).name());
            self.report(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }

    /// Constant arguments that can never work: durations, timestamps and patterns that do not parse.
    fn literals(&mut self, node: &Node) {
        node.children(&mut |child| self.literals(child));
        let Kind::Call { function, target, args } = &node.kind else { return };
        let place = match (function.as_str(), args.as_slice(), target) {
            ("duration" | "timestamp", [argument], None) => argument,
            ("matches", [argument], Some(_)) | ("matches", [_, argument], None) => argument,
            _ => return,
        };
        let Kind::Literal(Literal::String(text)) = &place.kind else { return };
        if !library::accepts_constant(function, text) {
            self.report(place.at, format!("invalid {function} argument"));
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// `a.b.c` as a name.
pub(super) fn qualified_name(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Ident(name) => Some(name.trim_start_matches('.').to_owned()),
        Kind::Select { of, field, test: false } => Some(format!("{}.{field}", qualified_name(of)?)),
        _ => None,
    }
}

fn field_type(declared: &Declared, field: &str) -> Option<Type> {
    match &declared.fields {
        Fields::Known(fields) => fields.get(field).cloned(),
        Fields::Any => Some(Type::Dyn),
    }
}

fn instantiate(kind: &Type, fresh: &[Type; 2]) -> Type {
    match kind {
        Type::Variable(number) => fresh[*number as usize].clone(),
        Type::List(of) => Type::list(instantiate(of, fresh)),
        Type::Optional(of) => Type::optional(instantiate(of, fresh)),
        Type::TypeOf(of) => Type::TypeOf(Arc::new(instantiate(of, fresh))),
        Type::Map(key, value) => Type::map(instantiate(key, fresh), instantiate(value, fresh)),
        other => other.clone(),
    }
}
