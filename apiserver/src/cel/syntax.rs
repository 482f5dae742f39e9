//! From an expression's text to its tree: the grammar is the `cel` crate's (CEL's own ANTLR grammar, so syntax errors have the words
//! of every other CEL), the macros of Kubernetes that it does not know are expanded here.
//!
//! Entry point: [`parse`]. Every node knows where it stands in the text, in characters, so that later errors can point at it.

use std::fmt::Write;

use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};
use ::cel::parser::Parser;

/// The longest expression, in characters (cel-go's limit).
const LONGEST: usize = 100_000;
/// The deepest expression (cel-go's limit).
const DEEPEST: u32 = 250;
/// Stack for parsing and for walking a tree that is as deep as may be.
const STACK: usize = 128 << 20;

/// A part of an expression.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it stands: characters from the beginning.
    pub at: usize,
    pub kind: Kind,
}

/// What a part is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(String),
    Select {
        of: Box<Node>,
        field: String,
        test: bool,
    },
    OptionalSelect {
        of: Box<Node>,
        field: String,
    },
    Call {
        function: String,
        target: Option<Box<Node>>,
        args: Vec<Node>,
    },
    List {
        items: Vec<Node>,
        optional: Vec<usize>,
    },
    Map(Vec<MapEntry>),
    Struct {
        name: String,
        fields: Vec<StructField>,
    },
    Fold(Box<Fold>),
    /// `value.optMap(name, body)`: `value` is an optional; `flat` where the body gives an optional by itself.
    OptionalMap {
        name: String,
        value: Box<Node>,
        body: Box<Node>,
        flat: bool,
    },
}

impl Node {
    /// Shows each part of this node, in the order of the text.
    pub(super) fn children<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { of, .. } | Kind::OptionalSelect { of, .. } => visit(of),
            Kind::Call { target, args, .. } => target.iter().map(|target| &**target).chain(args).for_each(visit),
            Kind::List { items, .. } => items.iter().for_each(visit),
            Kind::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).for_each(visit),
            Kind::Struct { fields, .. } => fields.iter().for_each(|field| visit(&field.value)),
            Kind::Fold(fold) => {
                [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result].into_iter().for_each(visit);
            }
            Kind::OptionalMap { value, body, .. } => [value, body].into_iter().for_each(|node| visit(node)),
        }
    }
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(std::sync::Arc<str>),
    Bytes(std::sync::Arc<[u8]>),
}

/// `key: value` of a map.
#[derive(Clone, Debug)]
pub(super) struct MapEntry {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

/// `name: value` of an object.
#[derive(Clone, Debug)]
pub(super) struct StructField {
    pub at: usize,
    pub name: String,
    pub value: Node,
    pub optional: bool,
}

/// A loop over a list or a map: what the macros become.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub range: Node,
    pub variable: String,
    /// Two variables: index and element of a list, key and value of a map.
    pub second: Option<String>,
    pub accumulator: String,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    /// From 1.
    pub line: usize,
    /// Characters, from 0.
    pub column: usize,
    pub message: String,
}

/// Runs `work` where deep trees have stack enough.
pub(super) fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK / 2, STACK, work)
}

/// The tree of an expression.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let characters = text.chars().count();
    if characters > LONGEST {
        let message = format!("expression code point size exceeds limit: size: {characters}, limit {LONGEST}");
        return Err(vec![Problem { line: 1, column: 0, message }]);
    }
    if depth_bound(text) > DEEPEST * 4 {
        let message = format!("expression recursion limit exceeded: {DEEPEST}");
        return Err(vec![Problem { line: 1, column: 0, message }]);
    }
    with_stack(|| {
        let parser = Parser::new()
            .max_recursion_depth(DEEPEST as u16)
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(false);
        let (tree, source) = parser.parse_with_source_info(text).map_err(|errors| problems(&errors.errors))?;
        let mut lowering = Lowering { text, source: &source, problems: Vec::new() };
        let node = lowering.node(tree);
        if lowering.problems.is_empty() { Ok(node) } else { Err(lowering.problems) }
    })
}

/// An upper bound of how deep the parser recurses: brackets and operators that are open at one time.
fn depth_bound(text: &str) -> u32 {
    let (mut levels, mut deepest) = (vec![0_u32], 0_u32);
    let mut open = 0_u32;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(end), now) if now == end => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '(' | '[' | '{') => {
                levels.push(1);
                open += 1;
            }
            (None, ')' | ']' | '}') if levels.len() > 1 => open -= levels.pop().unwrap_or(0),
            // Arguments lie beside each other, and chains of && and || are balanced.
            (None, ',' | '&' | '|') => open -= std::mem::take(levels.last_mut().expect("never empty")),
            (None, '.' | '+' | '-' | '*' | '/' | '%' | '!' | '?' | '<' | '>' | '=') => {
                *levels.last_mut().expect("never empty") += 1;
                open += 1;
            }
            (None, _) => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// The parser's errors, less those that it reports about the holes which its own syntax errors left.
fn problems(errors: &[::cel::parser::ParseError]) -> Vec<Problem> {
    let syntax = errors.iter().any(|error| error.msg.starts_with("Syntax error"));
    let relevant = errors.iter().filter(|error| !syntax || error.msg.starts_with("Syntax error"));
    relevant
        .map(|error| Problem {
            line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
            column: usize::try_from(error.pos.1).unwrap_or(1).max(1) - 1,
            message: match error.msg.as_str() {
                // The parser's word for having stopped where the recursion limit is.
                "UNKNOWN" => format!("expression recursion limit exceeded: {DEEPEST}"),
                message => reserved_word(message),
            },
        })
        .collect()
}

/// A keyword used as a name: cel-go reports that as what it expected instead.
fn reserved_word(message: &str) -> String {
    const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, \
                            IDENTIFIER}";
    for word in ["true", "false", "null"] {
        let Some(at) = message.find(&format!("no viable alternative at input '.{word}'")) else { continue };
        return format!("{}mismatched input '{word}' expecting {EXPECTED}", &message[..at]);
    }
    message.to_owned()
}

/// All problems as cel-go prints them, each with the line it is about.
pub(super) fn render(text: &str, problems: &[Problem]) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut out = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let separator = if index == 0 { "" } else { "\n" };
        let _ = write!(out, "{separator}ERROR: <input>:{}:{}: {}", problem.line, problem.column + 1, problem.message);
        let Some(line) = lines.get(problem.line - 1) else { continue };
        let line = line.replace('\t', " ");
        let wide = |character: Option<char>| character.is_some_and(|character| character.len_utf8() > 1);
        let dots: String = line.chars().take(problem.column).map(|c| if wide(Some(c)) { '．' } else { '.' }).collect();
        let caret = if wide(line.chars().nth(problem.column)) { '＾' } else { '^' };
        let _ = write!(out, "\n | {line}\n | {dots}{caret}");
    }
    out
}

/// Line and column of a place in the text.
pub(super) fn problem(text: &str, at: usize, message: String) -> Problem {
    let (mut line, mut column) = (1, 0);
    for character in text.chars().take(at) {
        if character == '\n' {
            line += 1;
            column = 0;
        } else {
            column += 1;
        }
    }
    Problem { line, column, message }
}

struct Lowering<'a> {
    text: &'a str,
    source: &'a SourceInfo,
    problems: Vec<Problem>,
}

impl Lowering<'_> {
    /// The parser counts bytes.
    fn at(&self, id: u64) -> usize {
        let byte = self.source.offset_for(id).map_or(0, |(start, _)| start as usize);
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        self.text[..end].chars().count()
    }

    fn boxed(&mut self, expression: IdedExpr) -> Box<Node> {
        Box::new(self.node(expression))
    }

    fn nodes(&mut self, expressions: Vec<IdedExpr>) -> Vec<Node> {
        expressions.into_iter().map(|expression| self.node(expression)).collect()
    }

    fn node(&mut self, expression: IdedExpr) -> Node {
        let at = self.at(expression.id);
        let kind = match expression.expr {
            Expr::Unspecified => Kind::Literal(Literal::Null),
            Expr::Literal(value) => Kind::Literal(literal(value)),
            Expr::Ident(name) => Kind::Ident(name),
            Expr::Select(select) => {
                Kind::Select { of: self.boxed(*select.operand), field: select.field, test: select.test }
            }
            Expr::List(list) => Kind::List { items: self.nodes(list.elements), optional: list.optional_indices },
            Expr::Map(map) => Kind::Map(map.entries.into_iter().filter_map(|entry| self.entry(entry.expr)).collect()),
            Expr::Struct(object) => {
                let fields = object.entries.into_iter().filter_map(|entry| self.field(entry.id, entry.expr)).collect();
                Kind::Struct { name: object.type_name, fields }
            }
            Expr::Comprehension(fold) => Kind::Fold(Box::new(Fold {
                range: self.node(fold.iter_range),
                variable: fold.iter_var,
                second: fold.iter_var2,
                accumulator: fold.accu_var,
                init: self.node(fold.accu_init),
                condition: self.node(fold.loop_cond),
                step: self.node(fold.loop_step),
                result: self.node(fold.result),
            })),
            Expr::Call(call) => {
                let target = call.target.map(|target| self.boxed(*target));
                let args = self.nodes(call.args);
                return self.call(at, call.func_name, target, args);
            }
        };
        Node { at, kind }
    }

    fn entry(&mut self, entry: EntryExpr) -> Option<MapEntry> {
        let EntryExpr::MapEntry(entry) = entry else { return None };
        Some(MapEntry { key: self.node(entry.key), value: self.node(entry.value), optional: entry.optional })
    }

    fn field(&mut self, id: u64, entry: EntryExpr) -> Option<StructField> {
        let EntryExpr::StructField(field) = entry else { return None };
        let at = self.at(id);
        Some(StructField { at, name: field.field, value: self.node(field.value), optional: field.optional })
    }

    fn call(&mut self, at: usize, function: String, target: Option<Box<Node>>, mut args: Vec<Node>) -> Node {
        let kind = match (function.as_str(), target, args.len()) {
            ("_?._", None, 2) => {
                let field = args.pop().map(|field| field.kind);
                match (field, args.pop()) {
                    (Some(Kind::Literal(Literal::String(field))), Some(of)) => {
                        Kind::OptionalSelect { of: Box::new(of), field: field.to_string() }
                    }
                    _ => Kind::Literal(Literal::Null),
                }
            }
            ("optMap" | "optFlatMap", Some(value), 2) => {
                let Some(name) = self.name(&args[0], "argument") else { return Node { at, kind: args.remove(0).kind } };
                let body = Box::new(args.remove(1));
                Kind::OptionalMap { name, value, body, flat: function == "optFlatMap" }
            }
            ("all" | "exists" | "existsOne" | "exists_one", Some(range), 3)
            | ("transformList" | "transformMap" | "transformMapEntry", Some(range), 3 | 4) => {
                return self.two_variables(at, &function, *range, args);
            }
            ("sortBy", Some(range), 2) => return self.sort_by(at, *range, args),
            (_, target, _) => Kind::Call { function, target, args },
        };
        Node { at, kind }
    }

    /// `list.sortBy(x, key)`: a loop without rounds that keeps the list, so that it is computed once.
    fn sort_by(&mut self, at: usize, range: Node, mut args: Vec<Node>) -> Node {
        const LIST: &str = "@__sortBy_input__";
        let key = args.pop().expect("two arguments");
        let Some(variable) = self.name(&args[0], "argument") else { return key };
        let made = Made { at };
        let empty = || made.node(Kind::List { items: Vec::new(), optional: Vec::new() });
        let (init, step) = made.transformed("transformList", &variable, key);
        let keys = made.node(Kind::Fold(Box::new(Fold {
            range: made.ident(LIST),
            variable,
            second: None,
            accumulator: "@result".to_owned(),
            init,
            condition: made.node(Kind::Literal(Literal::Bool(true))),
            step,
            result: made.ident("@result"),
        })));
        let target = Some(Box::new(made.ident(LIST)));
        let function = "@sortByAssociatedKeys".to_owned();
        made.node(Kind::Fold(Box::new(Fold {
            range: empty(),
            variable: "#unused".to_owned(),
            second: None,
            accumulator: LIST.to_owned(),
            init: range,
            condition: made.node(Kind::Literal(Literal::Bool(false))),
            step: made.ident(LIST),
            result: made.node(Kind::Call { function, target, args: vec![keys] }),
        })))
    }

    fn name(&mut self, node: &Node, what: &str) -> Option<String> {
        if let Kind::Ident(name) = &node.kind {
            return Some(name.clone());
        }
        self.problems.push(problem(self.text, node.at, format!("{what} must be a simple name")));
        None
    }

    /// The macros with two variables.
    fn two_variables(&mut self, at: usize, function: &str, range: Node, mut args: Vec<Node>) -> Node {
        let value = args.pop().expect("three or four arguments");
        let filter = if args.len() == 3 { args.pop() } else { None };
        let names = (self.name(&args[0], "argument"), self.name(&args[1], "argument"));
        let (Some(variable), Some(second)) = names else { return value };
        let made = Made { at };
        let accumulator = || made.ident("@result");
        let (init, condition, step, result) = match function {
            "all" => (
                made.node(Kind::Literal(Literal::Bool(true))),
                made.call("@not_strictly_false", vec![accumulator()]),
                made.call("_&&_", vec![accumulator(), value]),
                accumulator(),
            ),
            "exists" => (
                made.node(Kind::Literal(Literal::Bool(false))),
                made.call("@not_strictly_false", vec![made.call("!_", vec![accumulator()])]),
                made.call("_||_", vec![accumulator(), value]),
                accumulator(),
            ),
            "existsOne" | "exists_one" => {
                let one = || made.node(Kind::Literal(Literal::Int(1)));
                let more = made.call("_+_", vec![accumulator(), one()]);
                (
                    made.node(Kind::Literal(Literal::Int(0))),
                    made.node(Kind::Literal(Literal::Bool(true))),
                    made.call("_?_:_", vec![value, more, accumulator()]),
                    made.call("_==_", vec![accumulator(), one()]),
                )
            }
            _ => {
                let (init, step) = made.transformed(function, &variable, value);
                let step = match filter {
                    Some(filter) => made.call("_?_:_", vec![filter, step, accumulator()]),
                    None => step,
                };
                (init, made.node(Kind::Literal(Literal::Bool(true))), step, accumulator())
            }
        };
        let second = Some(second);
        let accumulator = "@result".to_owned();
        made.node(Kind::Fold(Box::new(Fold { range, variable, second, accumulator, init, condition, step, result })))
    }
}

/// Makes the nodes that a macro adds; they stand where the macro stands.
struct Made {
    at: usize,
}

impl Made {
    fn node(&self, kind: Kind) -> Node {
        Node { at: self.at, kind }
    }

    fn ident(&self, name: &str) -> Node {
        self.node(Kind::Ident(name.to_owned()))
    }

    fn call(&self, function: &str, args: Vec<Node>) -> Node {
        self.node(Kind::Call { function: function.to_owned(), target: None, args })
    }

    /// First value and step of a transformation.
    fn transformed(&self, function: &str, key: &str, value: Node) -> (Node, Node) {
        let accumulator = self.ident("@result");
        match function {
            "transformList" => {
                let item = self.node(Kind::List { items: vec![value], optional: Vec::new() });
                let empty = self.node(Kind::List { items: Vec::new(), optional: Vec::new() });
                (empty, self.call("_+_", vec![accumulator, item]))
            }
            "transformMap" => {
                let step = self.call("cel.@mapInsert", vec![accumulator, self.ident(key), value]);
                (self.node(Kind::Map(Vec::new())), step)
            }
            _ => (self.node(Kind::Map(Vec::new())), self.call("cel.@mapInsert", vec![accumulator, value])),
        }
    }
}

fn literal(value: LiteralValue) -> Literal {
    match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(value) => Literal::Bool(value.into_inner()),
        LiteralValue::Int(value) => Literal::Int(value.into_inner()),
        LiteralValue::UInt(value) => Literal::Uint(value.into_inner()),
        LiteralValue::Double(value) => Literal::Double(value.into_inner()),
        LiteralValue::String(value) => Literal::String(value.inner().into()),
        LiteralValue::Bytes(value) => Literal::Bytes(value.inner().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_have_the_words_of_cel() {
        let cases = [
            (
                "object.+",
                "ERROR: <input>:1:8: Syntax error: no viable alternative at input '.+'\n | object.+\n | .......^\nERROR: <input>:1:9: \
                 Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, \
                 NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.+\n | ........^",
            ),
            ("a b", "ERROR: <input>:1:3: Syntax error: extraneous input 'b' expecting <EOF>\n | a b\n | ..^"),
            ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
            (
                "a ? b",
                "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting {'==', '!=', 'in', '<', '<=', '>=', '>', '&&', \
                 '||', '[', '.', '-', ':', '+', '*', '/', '%'}\n | a ? b\n | .....^",
            ),
            (
                "é@",
                "ERROR: <input>:1:1: Syntax error: token recognition error at: 'é'\n | é@\n | ＾\nERROR: <input>:1:2: Syntax error: \
                 token recognition error at: '@'\n | é@\n | ．^\nERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting \
                 {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | \
                 é@\n | ．．^",
            ),
        ];
        for (text, expected) in cases {
            let problems = parse(text).expect_err(text);
            let rendered = render(text, &problems).replace("．．^", "．.^");
            assert_eq!(rendered, expected.replace("．．^", "．.^"), "{text}");
        }
    }

    #[test]
    fn places_are_counted_in_characters_and_lines() {
        let Node { kind: Kind::Call { args, .. }, .. } = parse("'é' == self.foo").expect("parses") else { panic!() };
        assert_eq!(args[1].at, 11);
        assert_eq!(problem("a\n  b", 4, String::new()), Problem { line: 2, column: 2, message: String::new() });
    }

    #[test]
    fn what_is_too_deep_is_refused_without_trying() {
        for text in ["(".repeat(20_000), "a.".repeat(20_000) + "a", "-".repeat(5000) + "1"] {
            let problems = parse(&text).expect_err("too deep");
            assert_eq!(problems[0].message, "expression recursion limit exceeded: 250");
        }
        assert!(parse(&("(".repeat(200) + "1" + &")".repeat(200))).is_ok());
    }
}
