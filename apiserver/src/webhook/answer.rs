//! What a webhook's HTTP answer means. Entry point: [`read`].

use api::ApiError;
use axum::http::header::CONTENT_TYPE;
use axum::http::response::Parts;
use serde_json::Value;

use super::CallError;

/// How much of a plain text becomes part of a message.
const TEXT_LIMIT: usize = 2048;

/// The document of an answer, or what its code says.
pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Value, CallError> {
    let code = head.status.as_u16();
    if (200..=206).contains(&code) {
        return decode(body).map_err(CallError::Malformed);
    }
    if let Ok(status) = serde_json::from_slice::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>(body)
        && status.status.as_deref() == Some("Failure")
    {
        return Err(CallError::Refused(Box::new(ApiError::from_status(&status))));
    }
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_text = content_type.is_none_or(|content_type| content_type.starts_with("text/"));
    Err(CallError::Refused(Box::new(refusal(code, is_text.then_some(body)))))
}

/// The document, which must say what it is.
fn decode(body: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {}", in_gos_words(&error, body)))?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    for (field, shown) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if text(field).is_empty() {
            return Err(format!("Object '{shown}' is missing in '{}'", String::from_utf8_lossy(body).trim_end()));
        }
    }
    Ok(value)
}

fn in_gos_words(error: &serde_json::Error, body: &[u8]) -> String {
    if body.is_empty() || error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = body.trim_ascii_start();
    let Some(first) = text.first() else { return "unexpected end of JSON input".to_owned() };
    let literal = ["true", "false", "null"].into_iter().find(|literal| literal.as_bytes().first() == Some(first));
    if let Some(literal) = literal
        && let Some((found, expected)) = text.iter().zip(literal.bytes()).find(|(found, expected)| *found != expected)
    {
        let (found, expected) = (char::from(*found), char::from(expected));
        return format!("invalid character '{found}' in literal {literal} (expecting '{expected}')");
    }
    if b"{[\"-0123456789tfn".contains(first) {
        return error.to_string();
    }
    format!("invalid character '{}' looking for beginning of value", char::from(*first))
}

/// What upstream's REST client makes of a code without a Status.
fn refusal(code: u16, text: Option<&[u8]>) -> ApiError {
    let said = text.map(|text| String::from_utf8_lossy(&text[..text.len().min(TEXT_LIMIT)]).trim().to_owned());
    let said = said.unwrap_or_else(|| "unknown".to_owned());
    let (reason, message) = match code {
        409 => ("Conflict", "the server reported a conflict".to_owned()),
        404 => ("NotFound", "the server could not find the requested resource".to_owned()),
        400 => ("BadRequest", "the server rejected our request for an unknown reason".to_owned()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".to_owned()),
        403 => ("Forbidden", said.clone()),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".to_owned()),
        406 => ("NotAcceptable", said.clone()),
        413 => ("RequestEntityTooLarge", said.clone()),
        415 => ("UnsupportedMediaType", said.clone()),
        422 => ("Invalid", "the server rejected our request due to an error in our request".to_owned()),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later".to_owned(),
        ),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".to_owned()),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned(),
        ),
        code if code >= 500 => (
            "InternalError",
            format!(
                "an error on the server ({}) has prevented the request from succeeding",
                api::field::go_quote(&said)
            ),
        ),
        code => ("", format!("the server responded with the status code {code} but did not return more information")),
    };
    let mut error = ApiError::unclassified(message);
    error.code = code;
    error.reason = reason.to_owned();
    error.with_cause("UnexpectedServerResponse", &said, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(code: u16, content_type: &str) -> Parts {
        let answer = axum::http::Response::builder().status(code).header(CONTENT_TYPE, content_type);
        answer.body(()).expect("an answer").into_parts().0
    }

    #[test]
    fn answers_that_are_none() {
        let table = [
            (200, "application/json", "", "couldn't get version/kind; json parse error: unexpected end of JSON input"),
            (
                200,
                "text/plain",
                "hello",
                "couldn't get version/kind; json parse error: invalid character 'h' looking for beginning of value",
            ),
            (200, "application/json", "{}\n", "Object 'Kind' is missing in '{}'"),
            (200, "application/json", r#"{"kind":"A"}"#, r#"Object 'apiVersion' is missing in '{"kind":"A"}'"#),
            (
                500,
                "text/plain; charset=utf-8",
                "no \"luck\"\n",
                r#"an error on the server ("no \"luck\"") has prevented the request from succeeding"#,
            ),
            (
                502,
                "application/octet-stream",
                "x",
                r#"an error on the server ("unknown") has prevented the request from succeeding"#,
            ),
            (404, "text/plain", "404 page not found", "the server could not find the requested resource"),
            (302, "text/html", "", "the server responded with the status code 302 but did not return more information"),
            (
                403,
                "application/json",
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not you","code":403}"#,
                "not you",
            ),
        ];
        for (code, content_type, body, expected) in table {
            let error = read(&head(code, content_type), body.as_bytes()).expect_err("it is no answer");
            assert_eq!(error.to_string(), expected);
        }
        let answered = read(&head(200, "text/plain"), br#"{"kind":"A","apiVersion":"v1"}"#);
        assert_eq!(answered, Ok(serde_json::json!({"kind": "A", "apiVersion": "v1"})));
    }
}
