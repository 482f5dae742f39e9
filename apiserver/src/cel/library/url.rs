//! URLs: <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-url-library>. Read as Go's `url.ParseRequestURI` does: absolute,
//! or an absolute path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::opaque::Opaque;
use super::{Answer, failed};
use crate::cel::value::{Key, Map, Value};

/// A URL in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Answer<'a> {
    match args {
        [Value::String(text)] if function == "isURL" => Some(Ok(Value::Bool(parse(text).is_ok()))),
        [Value::String(text)] if function == "url" => match parse(text) {
            Ok(url) => Some(Ok(Value::Opaque(Arc::new(Opaque::Url(url))))),
            Err(why) => failed(format!("URL parse error during conversion from string: parse {:?}: {why}", &**text)),
        },
        [Value::Opaque(opaque)] => match &**opaque {
            Opaque::Url(url) => part(function, url),
            _ => None,
        },
        _ => None,
    }
}

fn part<'a>(function: &str, url: &Url) -> Answer<'a> {
    let (hostname, port) = host_and_port(&url.host);
    Some(Ok(match function {
        "getScheme" => Value::text(url.scheme.as_str()),
        "getHost" => Value::text(url.host.as_str()),
        "getHostname" => Value::text(hostname),
        "getPort" => Value::text(port),
        "getEscapedPath" => Value::text(url.path.as_str()),
        "getQuery" => query(&url.query),
        _ => return None,
    }))
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.is_empty() {
        return Err("empty url");
    }
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("net/url: invalid control character in URL");
    }
    let (rest, query) = text.split_once('?').unwrap_or((text, ""));
    let scheme_end = rest.find(':').filter(|end| {
        let mut characters = rest[..*end].chars();
        characters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    let (scheme, rest) = match scheme_end {
        Some(end) => (rest[..end].to_ascii_lowercase(), &rest[end + 1..]),
        None if rest.starts_with(':') => return Err("missing protocol scheme"),
        None => (String::new(), rest),
    };
    if !rest.starts_with('/') && scheme.is_empty() {
        return Err("invalid URI for request");
    }
    let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(authority) => {
            let end = authority.find('/').unwrap_or(authority.len());
            let (authority, path) = authority.split_at(end);
            (authority.rsplit_once('@').map_or(authority, |(_, host)| host), path)
        }
        None => ("", rest),
    };
    if host.contains(' ') {
        return Err("invalid character \" \" in host name");
    }
    let (_, port) = host_and_port(host);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid port after host");
    }
    Ok(Url { scheme, host: host.to_owned(), path: escape(path), query: query.to_owned() })
}

/// A path with what may not stand in one escaped.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*%[]".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn host_and_port(host: &str) -> (&str, &str) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').unwrap_or(""));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn query<'a>(text: &str) -> Value<'a> {
    let mut values: BTreeMap<Key, Vec<Value<'a>>> = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        values.entry(Key::String(plain(name).into())).or_default().push(Value::text(plain(value)));
    }
    Value::Map(Map::Made(Arc::new(values.into_iter().map(|(name, values)| (name, Value::list(values))).collect())))
}
