//! CEL, the language of validation rules, match conditions and admission policies, as Kubernetes has it:
//! <https://kubernetes.io/docs/reference/using-api/cel/>.
//!
//! [`compile`] checks an expression against an [`Environment`] (which variables exist, of which types) and gives a [`Program`];
//! [`Program::evaluate`] runs it on [`Variables`], on JSON in place. What is wrong is said in the words of cel-go, which clients show
//! to people. The grammar is the `cel` crate's; types, libraries and costs are Kubernetes', so checker and evaluation are ours.

mod check;
mod cost;
mod declarations;
mod estimate;
mod evaluate;
mod library;
mod shape;
mod syntax;
mod types;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use self::library::time::parse_duration;
pub use self::library::{Authorize, Check, ResourceCheck, Verdict};
pub use self::shape::{Shape, escape};
pub use self::types::{Declared, Fields, Type};
pub use self::value::{Key, List, Map, Struct, Text, Value};

use self::syntax::{Kind, Node};

/// The most one expression may cost when it runs.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The most all expressions about one object may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// A tree deeper than this is walked on a stack of its own.
const SHALLOW: usize = 48;

/// Which variables and object types an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    patches: bool,
}

impl Environment {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// One variable more.
    #[must_use]
    pub fn with(mut self, name: &str, kind: Type) -> Self {
        self.variables.insert(name.to_owned(), kind);
        self
    }

    /// The objects and functions of mutations: `Object{…}`, `Object.spec{…}`, `JSONPatch{…}`, `jsonpatch.escapeKey(…)`.
    #[must_use]
    pub fn with_patches(mut self) -> Self {
        self.patches = true;
        self
    }

    fn variable(&self, name: &str) -> Option<Type> {
        self.variables.get(name).cloned()
    }

    fn object(&self, name: &str) -> Option<Type> {
        if !self.patches {
            return None;
        }
        match name {
            "JSONPatch" => Some(Declared::known(
                "JSONPatch",
                [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)],
            )),
            name if name == "Object" || name.starts_with("Object.") => {
                Some(Type::Object(Arc::new(Declared { name: name.to_owned(), fields: Fields::Any })))
            }
            _ => None,
        }
    }
}

/// Why an expression does not compile: one or more problems, each with its place in the text.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{rendered}")]
pub struct CompileError {
    rendered: String,
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    /// The expression failed on these values.
    #[error("{0}")]
    Failed(String),
    /// The expression costs more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallLimit,
    /// All expressions together cost more than they may.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    OutOfBudget,
}

impl EvaluationError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    fn is_final(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// Whether the budget of all expressions is used up.
    pub fn is_out_of_budget(&self) -> bool {
        matches!(self, Self::OutOfBudget)
    }

    /// Whether this one expression cost too much.
    pub fn is_call_limit(&self) -> bool {
        matches!(self, Self::CallLimit)
    }
}

/// What evaluations may still cost.
#[derive(Clone, Debug)]
pub struct Budget {
    per_call: u64,
    left: u64,
}

impl Budget {
    /// Limits of each expression and of all together: see [`PER_CALL_LIMIT`], [`RUNTIME_BUDGET`].
    pub fn new(per_call: u64, all: u64) -> Self {
        Self { per_call, left: all }
    }

    fn take(&mut self, spent: u64) -> Result<(), EvaluationError> {
        let left = self.left.checked_sub(spent);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(EvaluationError::OutOfBudget)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(PER_CALL_LIMIT, RUNTIME_BUDGET)
    }
}

/// The values of variables.
#[derive(Clone, Debug, Default)]
pub struct Variables<'a> {
    values: Vec<(&'static str, Value<'a>)>,
}

impl<'a> Variables<'a> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// One value more; a later one of the same name replaces an earlier one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    /// As [`Variables::with`].
    pub fn set(&mut self, name: &'static str, value: Value<'a>) {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    /// `authorizer`, and `authorizer.requestResource` for [group, resource, subresource, namespace, name].
    #[must_use]
    pub fn with_authorizer(self, judge: &Arc<dyn Authorize>, request: [&str; 5]) -> Self {
        self.with("authorizer", library::authorizer(judge))
            .with("authorizer.requestResource", library::request_resource(judge, request))
    }

    fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// A checked expression.
pub struct Program {
    text: String,
    tree: Node,
    result: Type,
    depth: usize,
    uses: BTreeSet<String>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("text", &self.text).field("result", &self.result).finish_non_exhaustive()
    }
}

/// Checks an expression.
pub fn compile(text: &str, environment: &Environment) -> Result<Program, CompileError> {
    let failed = |problems: Vec<syntax::Problem>| CompileError { rendered: syntax::render(text, &problems) };
    let mut tree = syntax::parse(text).map_err(failed)?;
    let result = syntax::with_stack(|| check::check(text, &mut tree, environment)).map_err(failed)?;
    let (mut uses, depth) = (BTreeSet::new(), syntax::with_stack(|| depth(&tree)));
    syntax::with_stack(|| names(&tree, &mut uses));
    Ok(Program { text: text.to_owned(), tree, result, depth, uses })
}

impl Program {
    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its value.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// Whether it names a variable, or a member of one (`variables.replicas`).
    pub fn uses(&self, name: &str) -> bool {
        self.uses.contains(name)
    }

    /// The most it can cost, given what the variables can be; `u64::MAX` is without bound.
    pub fn estimated_cost(&self, variables: &[(&str, &Shape)]) -> u64 {
        syntax::with_stack(|| estimate::most(&self.tree, variables))
    }

    /// Its value.
    pub fn evaluate<'a>(
        &'a self,
        variables: &Variables<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        let run = || evaluate::evaluate(&self.tree, variables, budget.per_call);
        let (result, spent) = if self.depth > SHALLOW { syntax::with_stack(run) } else { run() };
        budget.take(spent)?;
        result
    }
}

fn depth(node: &Node) -> usize {
    let mut deepest = 0;
    node.children(&mut |child| deepest = deepest.max(depth(child)));
    deepest + 1
}

/// All names, and all `name.member`.
fn names(node: &Node, found: &mut BTreeSet<String>) {
    match &node.kind {
        Kind::Ident(name) => {
            found.insert(name.clone());
        }
        Kind::Select { of, field, .. } | Kind::OptionalSelect { of, field } => {
            if let Kind::Ident(name) = &of.kind {
                found.insert(format!("{name}.{field}"));
            }
        }
        _ => {}
    }
    node.children(&mut |child| names(child, found));
}

#[cfg(test)]
mod tests;
