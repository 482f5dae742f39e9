//! Field selectors: `spec.nodeName=a,status.phase!=Failed`.

use std::fmt;

use super::SelectorError;

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
            let value = unescape(value)?;
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

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                other => {
                    return Err(SelectorError::Escape(other.map_or_else(|| "\\".to_owned(), |c| format!("\\{c}"))));
                }
            },
            ',' | '=' => return Err(SelectorError::Unescaped(u32::from(c))),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let table = [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\b", "invalid field selector: invalid escape sequence: \\b"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ];
        for (query, message) in table {
            assert_eq!(FieldSelector::parse(query).expect_err(query).to_string(), message, "{query}");
        }
    }
}
