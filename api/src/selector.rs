//! Label and field selectors: parse them as kube-apiserver does, with its error texts, and match them.
//!
//! Entry points: [`LabelSelector::parse`], [`LabelSelector::from_meta`], [`FieldSelector::parse`]. Invariant: the
//! Display of a selector parses to the same selector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;

use crate::field::{FieldError, FieldErrors, FieldPath};
use crate::names;

mod fields;
mod lexer;
mod parser;

pub use fields::{FieldRequirement, FieldSelector};

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
    /// A backslash stands before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A value has a character that needs a backslash; upstream shows its number.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
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
        let mut wrong = FieldErrors::new();
        check_key(key)?;
        let path = FieldPath::root("values");
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let detail = "for 'in', 'notin' operators, values set can't be empty";
                wrong.push(FieldError::invalid(&path, Vec::<String>::new(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                for (i, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        wrong.push(FieldError::invalid(&path.index(i), value, detail));
                    }
                }
            }
            Operator::In
            | Operator::NotIn
            | Operator::Equals
            | Operator::DoubleEquals
            | Operator::NotEquals
            | Operator::Exists
            | Operator::DoesNotExist => {}
        }
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                wrong.push(FieldError::invalid(&path.index(i).key(key), value, messages.join("; ")));
            }
        }
        if !wrong.is_empty() {
            return Err(SelectorError::Requirement(wrong.to_string()));
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether a label with this value, or none, fulfils it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|v| self.values.contains(v));
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
        let compare = |test: fn(i64, i64) -> bool| {
            let bound = number(self.values.first().map(String::as_str));
            number(value).zip(bound).is_some_and(|(label, bound)| test(label, bound))
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
        let mut requirements = parser::parse(query)?;
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
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object is selected whose labels this looks up.
    pub fn matches_by<'a>(&self, labels: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels(&requirement.key)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn operators_match_as_upstreams() {
        let table = [
            ("", true),
            ("a=1", true),
            ("a==1", true),
            ("a!=1", false),
            ("b!=1", true),
            ("a", true),
            ("!a", false),
            ("!b", true),
            ("a in (1,2)", true),
            ("a in (2)", false),
            ("a notin (1)", false),
            ("b notin (1)", true),
            ("a>0", true),
            ("a<1", false),
            ("b>0", false),
            ("a=1,c=x", true),
            ("a=1,c=y", false),
            (" a = 1 , c ", true),
            ("c in (x,)", true),
            ("in=notin", false),
            ("a=", false),
            ("e=", true),
            ("a in ()", false),
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
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ];
        for (query, message) in table {
            let error = LabelSelector::parse(query).expect_err(query);
            assert_eq!(error.to_string(), message, "{query}");
        }
        let both = LabelSelector::parse("a in (-b, -c)").expect_err("neither is a label").to_string();
        assert!(
            both.starts_with("unable to parse requirement: [values[0][a]: Invalid value: \"-b\": a valid"),
            "{both}"
        );
        assert!(both.contains(", values[1][a]: Invalid value: \"-c\": a valid") && both.ends_with(']'), "{both}");
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
}
