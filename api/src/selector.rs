//! Label and field selectors: parse them as kube-apiserver does, with its error texts, and match them.
//!
//! Entry points: [`LabelSelector::parse`], [`LabelSelector::from_meta`], [`FieldSelector::parse`]. Invariant: the
//! Display of a selector parses to the same selector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;

use crate::field::{FieldError, FieldPath};
use crate::names;

mod lexer;
use lexer::{Lexer, Token};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Why a selector is none; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A label selector in a query is malformed.
    #[error("{0}")]
    Syntax(String),
    /// One requirement of a label selector in a query is malformed.
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    /// A matchExpressions entry has an operator that does not exist.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// A field selector is malformed.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Field {
        /// The whole selector.
        selector: String,
        /// The term that could not be read.
        term: String,
    },
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`.
    NotIn,
    /// `key=a`.
    Equals,
    /// `key==a`.
    DoubleEquals,
    /// `key!=a`.
    NotEquals,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>1`.
    GreaterThan,
    /// `key<1`.
    LessThan,
}

/// One comparison of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub values: BTreeSet<String>,
}

impl Requirement {
    fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, SelectorError> {
        let wrong = |error: FieldError| Err(SelectorError::Requirement(error.to_string()));
        check_key(key)?;
        let path = FieldPath::root("values");
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let detail = "for 'in', 'notin' operators, values set can't be empty";
                return wrong(FieldError::invalid(&path, Vec::<String>::new(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (i, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        return wrong(FieldError::invalid(&path.index(i), value, detail));
                    }
                }
            }
            Operator::In | Operator::NotIn | Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
            | Operator::Exists | Operator::DoesNotExist => {}
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                return wrong(FieldError::invalid(&path.index(i).key(key), value, messages.join("; ")));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether the labels fulfil it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|v| self.values.contains(v));
        let number = |text: Option<&String>| text.and_then(|t| t.parse::<i64>().ok());
        let compare = |test: fn(i64, i64) -> bool| {
            number(value).zip(number(self.values.first())).is_some_and(|(label, bound)| test(label, bound))
        };
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => listed(),
            Operator::NotIn | Operator::NotEquals => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(|label, bound| label > bound),
            Operator::LessThan => compare(|label, bound| label < bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.iter().cloned().collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// Requirements that all must hold; none at all selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object (an absent selector in a spec).
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Parses the labelSelector of a query.
    pub fn parse(query: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser { lexer: Lexer::new(query) }.requirements()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From the selector of a spec; an empty one selects everything.
    pub fn from_meta(selector: &MetaSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, BTreeSet::from([value.clone()]))?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            let values = expression.values.iter().flatten().cloned().collect();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From an optional selector of a spec; an absent one selects nothing.
    pub fn from_meta_option(selector: Option<&MetaSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::from_meta)
    }

    /// From the plain map of a Service or ReplicationController, taken as it is.
    pub fn from_map(labels: &Labels) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: BTreeSet::from([value.clone()]),
        };
        Self { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// The same for the optional labels of an object's metadata.
    pub fn matches_option(&self, labels: Option<&Labels>) -> bool {
        match labels {
            Some(labels) => self.matches(labels),
            None => self.matches(&Labels::new()),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let messages = names::qualified_name(key);
    if messages.is_empty() {
        return Ok(());
    }
    let error = FieldError::invalid(&FieldPath::nil(), key, messages.join("; "));
    Err(SelectorError::Requirement(error.to_string()))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
}

impl Parser<'_> {
    fn requirements(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let syntax = |found: &str, expected: &str| {
            Err(SelectorError::Syntax(format!("found '{found}', expected: {expected}")))
        };
        let mut requirements = Vec::new();
        loop {
            match self.lexer.peek() {
                (Token::Word | Token::In | Token::NotIn | Token::Not, _) => {}
                (Token::End, _) => return Ok(requirements),
                (_, found) => return syntax(found, "!, identifier, or 'end of string'"),
            }
            requirements.push(self.requirement()?);
            match self.lexer.next() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.lexer.peek() {
                    (Token::Word | Token::In | Token::NotIn | Token::Not, _) => {}
                    (_, found) => return syntax(found, "identifier after ','"),
                },
                (_, found) => return syntax(found, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.lexer.peek().0 == Token::Not;
        if absent {
            self.lexer.next();
        }
        let key = match self.lexer.next() {
            (Token::Word | Token::In | Token::NotIn, key) => key,
            (_, found) => return expected(found, ", expected: identifier"),
        };
        check_key(key)?;
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        if matches!(self.lexer.peek().0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.lexer.next() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return expected(found, ", expected: in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_list()?,
            _ => self.single_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn single_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.lexer.peek() {
            (Token::End | Token::Comma, _) => Ok(BTreeSet::from([String::new()])),
            (Token::Word | Token::In | Token::NotIn, value) => {
                self.lexer.next();
                Ok(BTreeSet::from([value.to_owned()]))
            }
            (_, found) => expected(found, ", expected: identifier"),
        }
    }

    /// `(a,b)`; nothing between two separators is the empty value.
    fn value_list(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.lexer.next() {
            (Token::Open, _) => {}
            (_, found) => return expected(found, " expected: '('"),
        }
        match self.lexer.peek() {
            (Token::Word | Token::In | Token::NotIn | Token::Comma | Token::Close, _) => {}
            (_, found) => return expected(found, ", expected: ',', ')' or identifier"),
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.lexer.peek() {
                (Token::Word | Token::In | Token::NotIn, value) => {
                    self.lexer.next();
                    value
                }
                (Token::Comma | Token::Close, _) => "",
                (_, found) => return expected(found, ", expected: ',', or identifier"),
            };
            values.insert(value.to_owned());
            match self.lexer.next() {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(values),
                (_, found) => return expected(found, ", expected: ',' or ')'"),
            }
        }
    }
}

fn expected<T>(found: &str, rest: &str) -> Result<T, SelectorError> {
    Err(SelectorError::Requirement(format!("found '{found}'{rest}")))
}

/// One comparison of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, as in `spec.nodeName`.
    pub field: String,
    /// Whether it must equal the value (or must differ from it).
    pub equal: bool,
    /// The value.
    pub value: String,
}

/// Comparisons of fields that all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the fieldSelector of a query: `a=b`, `a==b`, `a!=b`, joined by commas; `\` escapes.
    pub fn parse(query: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_unescaped(query, ',') {
            if term.is_empty() {
                continue;
            }
            let bad = || SelectorError::Field { selector: query.to_owned(), term: term.to_owned() };
            let (field, equal, value) = split_term(term).ok_or_else(bad)?;
            let value = unescape(value).ok_or_else(bad)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal, value });
        }
        Ok(Self { requirements })
    }

    /// The comparisons, in the order of the query.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these fields is selected; an absent field counts as empty.
    pub fn matches(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        self.requirements.iter().all(|r| (field(&r.field).unwrap_or_default() == r.value) == r.equal)
    }

    /// The value that the field must equal, if the selector pins it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let operator = if r.equal { "=" } else { "!=" };
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", r.field)?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == separator => {
                parts.push(&text[start..i]);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().find_map(|(i, _)| {
        let rest = &term[i..];
        let operators = [("!=", false), ("==", true), ("=", true)];
        operators.iter().find(|(op, _)| rest.starts_with(op)).map(|(op, equal)| (i, op.len(), *equal))
    });
    at.map(|(i, length, equal)| (&term[..i], equal, &term[i + length..]))
}

fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next()? {
                c @ ('\\' | ',' | '=') => plain.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn operators_match_as_upstreams() {
        let table = [
            ("", true), ("a=1", true), ("a==1", true), ("a!=1", false), ("b!=1", true), ("a", true), ("!a", false),
            ("!b", true), ("a in (1,2)", true), ("a in (2)", false), ("a notin (1)", false), ("b notin (1)", true),
            ("a>0", true), ("a<1", false), ("b>0", false), ("a=1,c=x", true), ("a=1,c=y", false), (" a = 1 , c ", true),
            ("c in (x,)", true), ("in=notin", false), ("a=", false), ("e=", true), ("a in ()", false),
        ];
        let object = labels(&[("a", "1"), ("c", "x"), ("e", "")]);
        for (query, expected) in table {
            let selector = LabelSelector::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
            assert_eq!(selector.matches(&object), expected, "{query}");
            assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector), "{query}");
        }
    }

    #[test]
    fn bad_queries_get_upstreams_words() {
        let table = [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in 1", "unable to parse requirement: found '1' expected: '('"),
            ("a in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=1,", "found '', expected: identifier after ','"),
            ("a=1 b", "found 'b', expected: ',' or 'end of string'"),
            ("=1", "found '=', expected: !, identifier, or 'end of string'"),
            ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ];
        for (query, message) in table {
            let error = LabelSelector::parse(query).expect_err(query);
            assert_eq!(error.to_string(), message, "{query}");
        }
        let long = "b".repeat(64);
        let error = LabelSelector::parse(&format!("a={long}")).expect_err("too long");
        assert!(error.to_string().starts_with("unable to parse requirement: values[0][a]: Invalid value: "));
    }

    #[test]
    fn selectors_of_specs() {
        let selector = MetaSelector { match_labels: Some(labels(&[("a", "1")])), ..MetaSelector::default() };
        let selector = LabelSelector::from_meta(&selector).expect("valid");
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "2")])));
        assert!(!LabelSelector::from_meta_option(None).expect("valid").matches(&labels(&[])));
        assert!(LabelSelector::from_map(&Labels::new()).is_everything());
        assert_eq!(LabelSelector::from_map(&labels(&[("a", "1"), ("b", "2")])).to_string(), "a=1,b=2");
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed,x==a\\,b").expect("valid");
        assert_eq!(selector.requirements().len(), 3);
        assert_eq!(selector.exact("spec.nodeName"), Some("n1"));
        assert_eq!(selector.exact("x"), Some("a,b"));
        let field = |name: &str| match name {
            "spec.nodeName" => Some("n1".to_owned()),
            "x" => Some("a,b".to_owned()),
            _ => None,
        };
        assert!(selector.matches(field));
        assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        let error = FieldSelector::parse("a").expect_err("no operator");
        assert_eq!(error.to_string(), "invalid selector: 'a'; can't understand 'a'");
    }
}
