//! How the address of a webhook is checked, wherever one is named: [`url`] and [`service`].

use api::field::{FieldError, FieldErrors, FieldPath, go_quote};
use api::names;

const FORM: &str = "; desired format: https://host[/path]";

/// The parts of a URL that decide whether it may be a webhook's.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// A URL: https, a host, and no more than a path.
pub fn url(errors: &mut FieldErrors, path: &FieldPath, url: &str) {
    let parts = match parse(url) {
        Ok(parts) => parts,
        Err(why) => {
            let detail = format!("url must be a valid URL: parse {}: {why}{FORM}", go_quote(url));
            errors.push(FieldError::required(path, detail));
            return;
        }
    };
    if !parts.scheme.eq_ignore_ascii_case("https") {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, parts.scheme.to_lowercase(), detail));
    }
    if parts.host.is_empty() {
        errors.push(FieldError::invalid(path, "", format!("host must be provided{FORM}")));
    }
    if let Some(user) = parts.user {
        errors.push(FieldError::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !parts.fragment.is_empty() {
        errors.push(FieldError::invalid(path, parts.fragment, "fragments are not permitted in the URL"));
    }
    if !parts.query.is_empty() {
        errors.push(FieldError::invalid(path, parts.query, "query parameters are not permitted in the URL"));
    }
}

/// As Go's `url.Parse` takes a URL apart, and what it says of one that it can't.
fn parse(url: &str) -> Result<Parts<'_>, String> {
    if url.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = split_scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parts = Parts { scheme, query, fragment, ..Parts::default() };
    let Some(after) = rest.strip_prefix("//") else {
        let first = rest.split('/').next().unwrap_or_default();
        if scheme.is_empty() && first.contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        check_escapes(rest)?;
        return Ok(parts);
    };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            parts.user = Some(user);
            host
        }
        None => authority,
    };
    let after_host = host.rfind(']').map_or(host, |end| &host[end + 1..]);
    if host.starts_with('[') && !host.contains(']') {
        return Err("missing ']' in host".to_owned());
    }
    if let Some(at) = after_host.rfind(':') {
        let port = &after_host[at..];
        if !port[1..].bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("invalid port {} after host", go_quote(port)));
        }
    }
    if let Some(bad) = host.chars().find(|c| matches!(c, ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        return Err(format!("invalid character {} in host name", go_quote(&bad.to_string())));
    }
    check_escapes(path)?;
    parts.host = host;
    Ok(parts)
}

fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    for (at, c) in url.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    Ok(("", url))
}

fn check_escapes(path: &str) -> Result<(), String> {
    for (at, _) in path.match_indices('%') {
        let escape: String = path[at..].chars().take(3).collect();
        let digits = escape.bytes().skip(1).filter(u8::is_ascii_hexdigit).count();
        if digits < 2 {
            return Err(format!("invalid URL escape {}", go_quote(&escape)));
        }
    }
    Ok(())
}

/// A Service of the cluster. Upstream's callers hand name and namespace over in the wrong order, so that the error for a missing
/// one names the other; clients see it so.
pub fn service(
    errors: &mut FieldErrors,
    path: &FieldPath,
    namespace: &str,
    name: &str,
    url_path: Option<&str>,
    port: i32,
) {
    if namespace.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "service name is required"));
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("namespace"), "service namespace is required"));
    }
    let wrong = names::port_number(i64::from(port));
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    let url_path = url_path.unwrap_or_default();
    let at = path.child("path");
    match url_path {
        "" | "/" => return,
        "//" => {
            errors.push(FieldError::invalid(&at, url_path, "segment[0] may not be empty"));
            return;
        }
        _ => {}
    }
    if !url_path.starts_with('/') {
        errors.push(FieldError::invalid(&at, url_path, "must start with a '/'"));
    }
    // Upstream cuts the first character off, whatever it is.
    let mut chars = url_path.chars();
    chars.next();
    let steps = chars.as_str();
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(&at, url_path, format!("segment[{i}] may not be empty")));
            continue;
        }
        for failure in names::is_dns1123_subdomain(step) {
            errors.push(FieldError::invalid(&at, url_path, format!("segment[{i}]: {failure}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let scheme = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
        let host = "host must be provided; desired format: https://host[/path]";
        let table = [
            ("https://example.org", "[]".to_owned()),
            ("HTTPS://[::1]:8443/a%20b", "[]".to_owned()),
            ("http://example.org/x", format!("u: Invalid value: \"http\": {scheme}")),
            ("example.org/x", format!("[u: Invalid value: \"\": {scheme}, u: Invalid value: \"\": {host}]")),
            ("https:///x", format!("u: Invalid value: \"\": {host}")),
            ("https://me@a.b/", "u: Invalid value: \"me\": user information is not permitted in the URL".to_owned()),
            (
                "https://a.b/x?y=z#f",
                "[u: Invalid value: \"f\": fragments are not permitted in the URL, \
                 u: Invalid value: \"y=z\": query parameters are not permitted in the URL]"
                    .to_owned(),
            ),
            (
                "https://a:b/",
                "u: Required value: url must be a valid URL: parse \"https://a:b/\": invalid port \":b\" after host; \
                 desired format: https://host[/path]"
                    .to_owned(),
            ),
            (
                "a.b:1/x",
                format!("[u: Invalid value: \"a.b\": {scheme}, u: Invalid value: \"\": {host}]"),
            ),
            (
                "1a:1/x",
                "u: Required value: url must be a valid URL: parse \"1a:1/x\": first path segment in URL cannot contain colon; \
                 desired format: https://host[/path]"
                    .to_owned(),
            ),
        ];
        for (text, expected) in table {
            let mut errors = FieldErrors::new();
            url(&mut errors, &FieldPath::root("u"), text);
            assert_eq!(errors.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn services() {
        let table = [
            (("ns", "n", Some("/a/b/"), 443), "[]"),
            (("", "n", None, 443), "s.name: Required value: service name is required"),
            (
                ("ns", "", None, 0),
                "[s.namespace: Required value: service namespace is required, \
                 s.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive]",
            ),
            (("ns", "n", Some("/a//b"), 1), "s.path: Invalid value: \"/a//b\": segment[1] may not be empty"),
            (("ns", "n", Some("//"), 1), "s.path: Invalid value: \"//\": segment[0] may not be empty"),
            (("ns", "n", Some("aa"), 1), "s.path: Invalid value: \"aa\": must start with a '/'"),
        ];
        for ((namespace, name, url_path, port), expected) in table {
            let mut errors = FieldErrors::new();
            service(&mut errors, &FieldPath::root("s"), namespace, name, url_path, port);
            assert_eq!(errors.to_string(), expected);
        }
    }
}
