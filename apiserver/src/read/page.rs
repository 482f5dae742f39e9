//! The token that a list of pages goes on with: upstream's form, so that clients that look inside find what they know.

use api::ApiError;
use api::names::Revision;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use crate::http::body::json;
use crate::write::patch::json::cannot_unmarshal;

/// What upstream says when the token's revision is gone.
pub(super) const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a \
new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the \
time the first chunk was returned and now may show up in the list.";
const VERSION: &str = "meta.k8s.io/v1";
/// As Go's RawURLEncoding: bits after the last whole byte do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The place behind which a page begins, and the state that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// None goes on at the newest state.
    pub(super) revision: Option<Revision>,
    /// Key below the list's prefix of the first object that may follow.
    start: String,
}

impl PageToken {
    /// The token behind the object of this key.
    pub(super) fn new(revision: Revision, key: &str, prefix: &str) -> Self {
        let start = format!("{}\0", key.strip_prefix(prefix).unwrap_or(key));
        Self { revision: Some(revision), start }
    }

    /// The same place at the newest state.
    pub(super) fn inconsistent(&self) -> Self {
        Self { revision: None, start: self.start.clone() }
    }

    /// The last key that the pages so far have shown.
    pub(super) fn after(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.start.strip_suffix('\0').unwrap_or(&self.start))
    }

    /// As text.
    pub(super) fn encode(&self) -> String {
        let revision = self.revision.map_or(Value::from(-1), |revision| Value::from(revision.0));
        BASE64.encode(json!({"v": VERSION, "rv": revision, "start": self.start}).to_string())
    }

    /// From text; the error is upstream's.
    pub(super) fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = |why: String| ApiError::bad_request(format!("invalid continue token: {why}"));
        let bytes = BASE64.decode(text).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol { 0: at, .. } => at,
                _ => text.len(),
            };
            invalid(format!("continue key is not valid: illegal base64 data at input byte {at}"))
        })?;
        let token = json::parse(&bytes).map_err(|why| invalid(format!("continue key is not valid: {why}")))?.value;
        mistyped(&token).map_or(Ok(()), |why| Err(invalid(format!("continue key is not valid: {why}"))))?;
        let version = token["v"].as_str().unwrap_or_default();
        if version != VERSION {
            return Err(invalid(format!(
                "continue key is not valid: server does not recognize this encoded version {}",
                api::field::go_quote(version)
            )));
        }
        let revision = match token["rv"].as_i64().unwrap_or(0) {
            0 => {
                let why = "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
                return Err(invalid(why.to_owned()));
            }
            number => u64::try_from(number).ok().map(Revision),
        };
        let start = token["start"].as_str().unwrap_or_default().to_owned();
        if start.is_empty() {
            return Err(invalid(
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)".to_owned(),
            ));
        }
        if start.split('/').any(|part| part == "..") {
            return Err(invalid("continue key is not valid: invalid start key".to_owned()));
        }
        Ok(Self { revision, start })
    }
}

/// What Go's decoder says of a token that does not have the types of its fields.
fn mistyped(token: &Value) -> Option<String> {
    let wrong = |value: &Value, name: &str, ty: &str| {
        Some(cannot_unmarshal(value, &format!("struct field continueToken.{name} of type {ty}")))
    };
    let Value::Object(fields) = token else {
        return (!token.is_null()).then(|| cannot_unmarshal(token, "value of type storage.continueToken"));
    };
    fields.iter().find_map(|(name, value)| match name.as_str() {
        _ if value.is_null() => None,
        "v" | "start" if !value.is_string() => wrong(value, name, "string"),
        "rv" if !value.is_i64() => wrong(value, name, "int64"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        let token = PageToken::new(Revision(7), "/registry/configmaps/ns/a", "/registry/configmaps/ns/");
        assert_eq!(PageToken::decode(&token.encode()).unwrap(), token);
        assert_eq!(token.after("/registry/configmaps/ns/"), "/registry/configmaps/ns/a");
        assert_eq!(PageToken::decode(&token.inconsistent().encode()).unwrap().revision, None);
    }

    #[test]
    fn rubbish_is_refused_in_upstreams_words() {
        for (token, why) in [
            ("[]", "json: cannot unmarshal array into Go value of type storage.continueToken"),
            (r#"{"rv":"x"}"#, "json: cannot unmarshal string into Go struct field continueToken.rv of type int64"),
        ] {
            let error = PageToken::decode(&BASE64.encode(token)).unwrap_err();
            assert_eq!(error.message, format!("invalid continue token: continue key is not valid: {why}"));
        }
        let error = PageToken::decode("rubbish").unwrap_err();
        assert_eq!(
            error.message,
            "invalid continue token: continue key is not valid: invalid character '\\xae' looking for beginning of value"
        );
    }
}
