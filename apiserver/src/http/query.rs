//! The query of a URL, read as Go reads it. Entry point: [`Query::parse`].

use std::num::IntErrorKind;

use api::ApiError;

/// Names and values in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`; parts that are malformed are left out.
    pub fn parse(query: &str) -> Self {
        let parts = query.split('&').filter(|part| !part.is_empty() && !part.contains(';'));
        Self(
            parts
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (percent_decode(name, true), percent_decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, or the empty string.
    pub fn text(&self, name: &str) -> &str {
        self.first(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    /// Names and values in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A boolean in the API machinery's reading: everything but `false` and `0` is true, also the empty value.
    pub fn boolean(&self, name: &str) -> bool {
        self.optional_boolean(name).unwrap_or(false)
    }

    /// As [`Self::boolean`], where absence has a meaning.
    pub fn optional_boolean(&self, name: &str) -> Option<bool> {
        self.first(name).map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.first(name) {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(number) => Ok(Some(number)),
                Err(error) => Err(ApiError::bad_request(format!(
                    "strconv.ParseInt: parsing {}: {}",
                    api::field::go_quote(text),
                    match error.kind() {
                        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                        _ => "invalid syntax",
                    }
                ))),
            },
        }
    }
}

/// Replaces `%xx`, and `+` by a space where asked; what is no escape stays.
pub fn percent_decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) if plus_is_space => decoded.push(b' '),
            (byte, _, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = Query::parse("a=1&b=x%3Dy+z&a=2&w&d=%7");
        assert_eq!(query.all("a"), ["1", "2"]);
        assert_eq!(query.first("b"), Some("x=y z"));
        assert_eq!(query.first("d"), Some("%7"));
        assert!(query.boolean("w"));
        assert!(!query.boolean("absent"));
    }

    #[test]
    fn booleans_and_numbers_follow_the_api_machinery() {
        for (text, value) in [("t=true", true), ("t=", true), ("t=maybe", true), ("t=0", false), ("t=False", false)] {
            assert_eq!(Query::parse(text).boolean("t"), value, "{text}");
        }
        assert_eq!(Query::parse("n=-1").integer("n").unwrap(), Some(-1));
        let error = Query::parse("n=two").integer("n").unwrap_err();
        assert_eq!(error.message, "strconv.ParseInt: parsing \"two\": invalid syntax");
        let error = Query::parse("limit=99999999999999999999").integer("limit").unwrap_err();
        assert_eq!(error.message, "strconv.ParseInt: parsing \"99999999999999999999\": value out of range");
    }
}
