//! JSONPath as kubectl and printer columns use it: text with `{…}` expressions, `{range}…{end}`, filters, slices, recursive descent, quoted text.
//!
//! Entry points: [`Template::parse`] for texts, [`Path::parse`] for one path. Reference: <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.

use serde_json::Value;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

/// A parsed path, `.a.b[0]`.
#[derive(Debug, Default, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Every,
    Descend,
    Slice(Option<i64>, Option<i64>, i64),
    Index(Vec<Index>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Debug, PartialEq)]
enum Index {
    At(i64),
    Key(String),
}

#[derive(Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

type Parsed<T> = Result<T, String>;

impl Template {
    /// Parses `text{.path}text`.
    pub fn parse(text: &str) -> Parsed<Self> {
        let mut rest = text;
        let (nodes, ended) = parse_nodes(&mut rest, false)?;
        if ended {
            return Err("not in range, nothing to end".into());
        }
        Ok(Self(nodes))
    }

    /// The output for a document. A field that is missing prints nothing.
    /// What the paths find; ranges and texts are no values.
    pub fn values(&self, root: &Value) -> Vec<Value> {
        let paths = self.0.iter().filter_map(|node| if let Node::Path(path) = node { Some(path) } else { None });
        paths.flat_map(|path| path.find(root, root)).cloned().collect()
    }

    pub fn render(&self, root: &Value) -> String {
        let mut out = String::new();
        render(&self.0, root, root, &mut out);
        out
    }
}

fn render(nodes: &[Node], root: &Value, current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let found: Vec<String> = path.find(root, current).into_iter().map(print).collect();
                out.push_str(&found.join(" "));
            }
            Node::Range(path, body) => {
                path.find(root, current).into_iter().for_each(|item| render(body, root, item, out))
            }
        }
    }
}

/// A value as templates and columns print it: strings bare, the rest as JSON.
pub fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Parses up to the end, or up to `{end}`; the answer's second part tells which.
fn parse_nodes(rest: &mut &str, in_range: bool) -> Parsed<(Vec<Node>, bool)> {
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let Some(open) = rest.find('{') else {
            nodes.push(Node::Text(std::mem::take(rest).to_owned()));
            break;
        };
        if open > 0 {
            nodes.push(Node::Text(rest[..open].to_owned()));
        }
        let close = closing(&rest[open..]).ok_or("unclosed action")? + open;
        let inside = rest[open + 1..close].trim();
        *rest = &rest[close + 1..];
        if inside == "end" {
            return Ok((nodes, true));
        } else if let Some(path) = inside.strip_prefix("range ") {
            let (body, ended) = parse_nodes(rest, true)?;
            if !ended {
                return Err("unclosed range, missing {end}".into());
            }
            nodes.push(Node::Range(Path::parse(path.trim())?, body));
        } else if inside.starts_with(['"', '\'']) {
            nodes.push(Node::Text(unquote(inside)?));
        } else {
            nodes.push(Node::Path(Path::parse(inside)?));
        }
    }
    if in_range { Err("unclosed range, missing {end}".into()) } else { Ok((nodes, false)) }
}

/// Index of the `}` that closes the text's first `{`.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

fn unquote(text: &str) -> Parsed<String> {
    let quote = text.chars().next().unwrap_or_default();
    let inner =
        text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).ok_or("unterminated quoted string")?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
            c => out.push(c),
        }
    }
    Ok(out)
}

impl Path {
    /// Parses `.a.b[*].c`, `$.a`, `@.a`, `a.b`.
    pub fn parse(text: &str) -> Parsed<Self> {
        let mut rest = text.trim();
        rest = rest.strip_prefix(['$', '@']).unwrap_or(rest);
        let mut steps = Vec::new();
        if !rest.is_empty() && !rest.starts_with(['.', '[']) {
            steps.push(Step::Field(take_field(&mut rest)));
        }
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Descend);
                rest = after;
                if !rest.starts_with('[') {
                    steps.push(field_or_every(&mut rest)?);
                }
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                if !rest.is_empty() && !rest.starts_with('[') {
                    steps.push(field_or_every(&mut rest)?);
                }
            } else if rest.starts_with('[') {
                let close = bracket_end(rest).ok_or("unterminated array")?;
                steps.push(parse_bracket(&rest[1..close])?);
                rest = &rest[close + 1..];
            } else {
                return Err(format!("unrecognized character in action: {:?}", rest.chars().next().unwrap_or_default()));
            }
        }
        Ok(Self(steps))
    }

    /// All values the path leads to.
    pub fn find<'a>(&self, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
        self.0
            .iter()
            .fold(vec![current], |values, step| values.into_iter().flat_map(|value| step.apply(root, value)).collect())
    }
}

fn field_or_every(rest: &mut &str) -> Parsed<Step> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        return Ok(Step::Every);
    }
    match take_field(rest) {
        field if field.is_empty() => Err("a field name is expected".into()),
        field => Ok(Step::Field(field)),
    }
}

/// A field name up to the next `.` or `[`; a backslash takes the next character as it is.
fn take_field(rest: &mut &str) -> String {
    let mut field = String::new();
    let mut chars = rest.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => field.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                *rest = &rest[index..];
                return field;
            }
            c => field.push(c),
        }
    }
    *rest = "";
    field
}

/// Index of the `]` that closes the text's first `[`.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn parse_bracket(text: &str) -> Parsed<Step> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::Every);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return parse_filter(filter);
    }
    if text.contains(':') && !text.contains(['\'', '"']) {
        let mut parts = text.splitn(3, ':').map(|part| match part.trim() {
            "" => Ok(None),
            part => part.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
        });
        let mut next = || parts.next().transpose().map(Option::flatten);
        return Ok(Step::Slice(next()?, next()?, next()?.unwrap_or(1)));
    }
    let index = |part: &str| match part.trim() {
        part if part.starts_with(['\'', '"']) => unquote(part).map(Index::Key),
        part => part.parse().map(Index::At).map_err(|_| format!("invalid array index {part}")),
    };
    Ok(Step::Index(text.split(',').map(index).collect::<Parsed<_>>()?))
}

fn parse_filter(text: &str) -> Parsed<Step> {
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found = comparisons.iter().filter_map(|(sign, comparison)| text.find(sign).map(|at| (at, *sign, *comparison)));
    match found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len()))) {
        None => Ok(Step::Filter(operand(text)?, None)),
        Some((at, sign, comparison)) => {
            Ok(Step::Filter(operand(&text[..at])?, Some((comparison, operand(&text[at + sign.len()..])?))))
        }
    }
}

fn operand(text: &str) -> Parsed<Operand> {
    match text.trim() {
        text if text.starts_with(['@', '$', '.']) => Path::parse(text).map(Operand::Path),
        text if text.starts_with(['\'', '"']) => unquote(text).map(|text| Operand::Literal(text.into())),
        text => serde_json::from_str(text).map(Operand::Literal).map_err(|_| format!("unrecognized operand {text}")),
    }
}

impl Step {
    fn apply<'a>(&self, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Every => children(value),
            Self::Descend => descendants(value),
            Self::Index(indexes) => indexes.iter().filter_map(|index| index.of(value)).collect(),
            Self::Slice(from, to, step) => slice(value, *from, *to, *step),
            Self::Filter(left, right) => {
                children(value).into_iter().filter(|item| passes(root, item, left, right.as_ref())).collect()
            }
        }
    }
}

impl Index {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Key(key) => value.get(key),
            Self::At(at) => {
                let items = value.as_array()?;
                let at = if *at < 0 {
                    items.len().checked_sub(usize::try_from(-at).ok()?)?
                } else {
                    usize::try_from(*at).ok()?
                };
                items.get(at)
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    }
}

fn descendants(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    children(value).into_iter().for_each(|child| all.extend(descendants(child)));
    all
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>, step: i64) -> Vec<&Value> {
    let Some(items) = value.as_array() else { return vec![] };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let bound = |at: i64| usize::try_from(if at < 0 { at + length } else { at }.clamp(0, length)).unwrap_or_default();
    let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(length)));
    let step = usize::try_from(step).unwrap_or(1).max(1);
    items.get(from..to.max(from)).unwrap_or_default().iter().step_by(step).collect()
}

fn passes(root: &Value, item: &Value, left: &Operand, right: Option<&(Comparison, Operand)>) -> bool {
    let Some((comparison, right)) = right else {
        return match left {
            Operand::Path(path) => !path.find(root, item).is_empty(),
            Operand::Literal(literal) => literal.as_bool().unwrap_or(true),
        };
    };
    let (Some(left), Some(right)) = (evaluate(root, item, left), evaluate(root, item, right)) else { return false };
    let order = match (&left, &right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (left, right) => print(left).partial_cmp(&print(right)),
    };
    match comparison {
        Comparison::Equal => order == Some(std::cmp::Ordering::Equal),
        Comparison::NotEqual => order != Some(std::cmp::Ordering::Equal),
        Comparison::Less => order == Some(std::cmp::Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order == Some(std::cmp::Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn evaluate(root: &Value, item: &Value, operand: &Operand) -> Option<Value> {
    match operand {
        Operand::Literal(literal) => Some(literal.clone()),
        Operand::Path(path) => path.find(root, item).first().copied().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_render_as_kubectls_do() {
        let document = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "status": {"c": [{"type": "Ready", "status": "True"}], "n": 3}},
            {"metadata": {"name": "b"}, "status": {"c": [{"type": "Ready", "status": "False"}], "n": 10}},
        ]});
        for (template, wanted) in [
            ("{.kind}", "List"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}-{.items[-1:].metadata.name}", "a-b"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{end}", "a\tb\t"),
            ("{range .items[*]}{.metadata.name}{'\\n'}{end}", "a\nb\n"),
            ("{.items[?(@.status.n>5)].metadata.name}", "b"),
            ("{.items[*].status.c[?(@.type==\"Ready\")].status}", "True False"),
            ("{.items[0].metadata.labels.x\\.y/z}", "1"),
            ("{.items[0].metadata.labels['x.y/z']}", "1"),
            ("{..name}", "a b"),
            ("{.items[0,1].status.n}", "3 10"),
            ("{.missing}", ""),
            ("{.items[0].status}", "{\"c\":[{\"status\":\"True\",\"type\":\"Ready\"}],\"n\":3}"),
            ("{$.kind} {@.kind}", "List List"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&document), wanted, "{template}");
        }
    }

    #[test]
    fn broken_templates_are_refused() {
        for template in ["{.a", "{range .a}x", "{.a[}", "{end}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
