//! How much an expression can cost at most, before it runs: from the limits that schemas declare (`maxItems`, `maxLength`, …).
//! What has no limit can be as large as a request. Saturating: `u64::MAX` is without bound.
//!
//! Entry point: [`most`]. See <https://kubernetes.io/docs/reference/using-api/cel/#estimated-limit>.

use super::shape::{Form, Format, Shape};
use super::syntax::{Fold, Kind, Literal, Node};

/// What is known of a part of an expression.
#[derive(Clone, Copy)]
struct Estimate<'s> {
    cost: u64,
    size: u64,
    shape: Option<&'s Shape>,
}

struct Estimator<'s> {
    scope: Vec<(&'s str, Estimate<'s>)>,
}

/// The most that the tree can cost.
pub(super) fn most(tree: &Node, variables: &[(&str, &Shape)]) -> u64 {
    let scope = variables.iter().map(|(name, shape)| (*name, of_shape(Some(shape)))).collect();
    Estimator { scope }.node(tree).cost
}

fn of_shape(shape: Option<&Shape>) -> Estimate<'_> {
    let size = shape.map_or(u64::MAX, |shape| match &shape.form {
        Form::Bool | Form::Int | Form::Double | Form::Text(Format::Date | Format::DateTime | Format::Duration) => 1,
        _ => shape.largest,
    });
    Estimate { cost: 1, size, shape }
}

/// A tenth, or another part, of a size.
fn part(size: u64, numerator: u64, denominator: u64) -> u64 {
    if size == u64::MAX { u64::MAX } else { size.saturating_mul(numerator).div_ceil(denominator) }
}

fn traversal(size: u64) -> u64 {
    part(size, 1, 10)
}

impl<'s> Estimator<'s> {
    fn node<'n: 's>(&mut self, node: &'n Node) -> Estimate<'s> {
        let plain = |cost: u64, size: u64| Estimate { cost, size, shape: None };
        match &node.kind {
            Kind::Literal(Literal::String(text)) => plain(0, text.chars().count() as u64),
            Kind::Literal(Literal::Bytes(bytes)) => plain(0, bytes.len() as u64),
            Kind::Literal(_) => plain(0, 1),
            Kind::Ident(name) => {
                let known = self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, known)| *known);
                Estimate { cost: 1, ..known.unwrap_or(of_shape(None)) }
            }
            Kind::Select { of, field, test } => {
                let of = self.node(of);
                if *test {
                    return plain(of.cost, 1);
                }
                let found = of_shape(of.shape.and_then(|shape| shape.child(field)));
                Estimate { cost: of.cost.saturating_add(1), ..found }
            }
            Kind::OptionalSelect { of, field } => {
                let of = self.node(of);
                let found = of_shape(of.shape.and_then(|shape| shape.child(field)));
                Estimate { cost: of.cost.saturating_add(1), ..found }
            }
            Kind::List { items, .. } => {
                let cost = items.iter().fold(10_u64, |sum, item| sum.saturating_add(self.node(item).cost));
                plain(cost, items.len() as u64)
            }
            Kind::Map(entries) => {
                let parts = entries.iter().flat_map(|entry| [&entry.key, &entry.value]);
                let cost = parts.fold(30_u64, |sum, part| sum.saturating_add(self.node(part).cost));
                plain(cost, entries.len() as u64)
            }
            Kind::Struct { fields, .. } => {
                plain(fields.iter().fold(40_u64, |sum, field| sum.saturating_add(self.node(&field.value).cost)), 1)
            }
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptionalMap { name, value, body, .. } => {
                let value = self.node(value);
                self.scope.push((name, value));
                let body = self.node(body);
                self.scope.pop();
                Estimate { cost: value.cost.saturating_add(body.cost), ..body }
            }
            Kind::Call { function, target, args } => self.call(function, target.as_deref(), args),
        }
    }

    fn fold<'n: 's>(&mut self, fold: &'n Fold) -> Estimate<'s> {
        let range = self.node(&fold.range);
        let init = self.node(&fold.init);
        let depth = self.scope.len();
        self.scope.push((&fold.accumulator, Estimate { cost: 1, size: range.size, shape: None }));
        let item = of_shape(range.shape.and_then(|shape| match &shape.form {
            Form::List { .. } => shape.child(""),
            _ => None,
        }));
        // The keys of a map are names of unknown length.
        self.scope.push((&fold.variable, item));
        if let Some(second) = &fold.second {
            self.scope.push((second, of_shape(range.shape.and_then(|shape| shape.child("")))));
        }
        let round = self.node(&fold.condition).cost.saturating_add(self.node(&fold.step).cost);
        self.scope.truncate(depth + 1);
        let result = self.node(&fold.result);
        self.scope.truncate(depth);
        let rounds = range.size.saturating_mul(round);
        let cost = range.cost.saturating_add(init.cost).saturating_add(rounds).saturating_add(result.cost);
        Estimate { cost, size: result.size, shape: None }
    }

    fn call<'n: 's>(&mut self, function: &str, target: Option<&'n Node>, args: &'n [Node]) -> Estimate<'s> {
        let args: Vec<Estimate<'s>> = target.into_iter().chain(args).map(|argument| self.node(argument)).collect();
        let sum = args.iter().fold(0_u64, |sum, argument| sum.saturating_add(argument.cost));
        let size = |index: usize| args.get(index).map_or(1, |argument| argument.size);
        if function == "_?_:_" {
            let branches = args[1].cost.max(args[2].cost);
            let (cost, size) = (args[0].cost.saturating_add(branches), size(1).max(size(2)));
            return Estimate { cost, size, shape: args[1].shape };
        }
        let own = own_cost(function, &size, args.first().and_then(|argument| argument.shape));
        let (result, shape) = match function {
            "_[_]" | "_[?_]" => {
                let found = of_shape(args[0].shape.and_then(|shape| shape.child("")));
                (found.size, found.shape)
            }
            _ => (result_size(function, &size), None),
        };
        Estimate { cost: sum.saturating_add(own), size: result, shape }
    }
}

/// What the call itself costs.
fn own_cost(function: &str, size: &dyn Fn(usize) -> u64, first: Option<&Shape>) -> u64 {
    match function {
        "_&&_" | "_||_" | "@not_strictly_false" => 0,
        "check" => 350_000,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => match first.map(|shape| &shape.form) {
            Some(Form::Text(_)) => traversal(size(0)),
            Some(Form::List { items, .. }) if matches!(items.form, Form::Text(_)) => {
                size(0).saturating_mul(1_u64.saturating_add(traversal(items.largest)))
            }
            _ => size(0),
        },
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "quantity" | "isQuantity" | "ip"
        | "isIP" | "cidr" | "isCIDR" | "semver" | "isSemver" => traversal(size(0)),
        "replace" | "split" | "join" | "ip.isCanonical" | "format" => part(size(0), 2, 10),
        "find" | "findAll" | "matches" => traversal(size(0).saturating_add(1)).saturating_mul(part(size(1), 1, 4)),
        "contains" => traversal(size(0)).saturating_mul(traversal(size(1))),
        "startsWith" | "endsWith" => traversal(size(1)),
        "@in" => size(1),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => traversal(size(0).min(size(1))).max(1),
        "_+_" => traversal(size(0).saturating_add(size(1))).max(1),
        "slice" | "flatten" | "reverse" | "sort" | "@sortByAssociatedKeys" => size(0),
        "distinct" => size(0).saturating_mul(size(0)),
        "lists.range" => u64::MAX,
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2),
        _ => 1,
    }
}

/// How large the result can be.
fn result_size(function: &str, size: &dyn Fn(usize) -> u64) -> u64 {
    match function {
        "_+_" => size(0).saturating_add(size(1)),
        "lowerAscii" | "upperAscii" | "substring" | "trim" | "find" | "findAll" | "split" | "charAt" | "dyn"
        | "string" => size(0),
        "replace" => size(0).saturating_add(1).saturating_mul(size(2)).saturating_add(size(0)),
        "slice" | "reverse" | "sort" | "@sortByAssociatedKeys" | "distinct" => size(0),
        "flatten" | "lists.range" | "join" | "format" | "value" | "orValue" | "or" | "getQuery" | "validate" => {
            u64::MAX
        }
        _ => 1,
    }
}
