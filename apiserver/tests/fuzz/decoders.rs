//! The decoders on their own.

use api::quantity::Quantity;
use api::selector::{FieldSelector, LabelSelector};
use apiserver::http::body::{bounds, json, protobuf, yaml};
use apiserver::http::query::Query;
use apiserver::http::request_info::RequestInfo;
use http::Method;
use serde_json::Value;

use crate::harness::fuzz;
use crate::seeds;

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

#[test]
fn request_paths() {
    fuzz("request paths", seeds::PATHS, || {
        |input: &[u8]| {
            let text = text(input);
            let (method, rest) = text.split_once(' ').unwrap_or(("GET", &text));
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let Ok(method) = method.parse::<Method>() else { return };
            let query = Query::parse(query);
            let info = RequestInfo::parse(&method, path, &query);
            // What is authorized is what was read: the same request is read the same way again.
            assert_eq!(info, RequestInfo::parse(&method, path, &query));
            if let Some(at) = &info.resource {
                assert!(!at.version.contains('/') && !at.resource.contains('/') && !at.subresource.contains('/'));
            }
        }
    });
}

#[test]
fn label_selectors() {
    fuzz("label selectors", seeds::LABELS, || {
        |input: &[u8]| {
            if let Ok(selector) = LabelSelector::parse(&text(input)) {
                let again = LabelSelector::parse(&selector.to_string()).expect("what is written can be read");
                assert_eq!(again.to_string(), selector.to_string());
                selector.matches(&[("a".to_owned(), "b".to_owned())].into());
            }
        }
    });
}

#[test]
fn field_selectors() {
    fuzz("field selectors", seeds::FIELDS, || {
        |input: &[u8]| {
            if let Ok(selector) = FieldSelector::parse(&text(input)) {
                let again = FieldSelector::parse(&selector.to_string()).expect("what is written can be read");
                assert_eq!(again.to_string(), selector.to_string());
                selector.matches(|_| Some("a".to_owned()));
            }
        }
    });
}

#[test]
fn quantities() {
    fuzz("quantities", seeds::QUANTITIES, || {
        |input: &[u8]| {
            if let Ok(canonical) = Quantity::canonical(&text(input)) {
                assert_eq!(Quantity::canonical(&canonical).as_deref(), Ok(canonical.as_str()));
                let quantity = Quantity::parse(&canonical).expect("what is written can be read");
                let _ = (quantity.value(), quantity.milli_value(), quantity + quantity, quantity - quantity);
            }
        }
    });
}

#[test]
fn json_bodies() {
    fuzz("JSON bodies", seeds::JSON, || {
        |input: &[u8]| {
            let read = json::parse(input);
            let plain = serde_json::from_slice::<Value>(input);
            assert!(read.is_ok() || plain.is_err(), "what others read is read");
            if let Ok(read) = read {
                let written = read.value.to_string();
                let again = json::parse(written.as_bytes()).expect("what is written can be read");
                assert_eq!(again.value, read.value, "{written}");
                assert_eq!(json::Ordered::parse(input).is_some(), plain.is_ok());
            }
        }
    });
}

#[test]
fn yaml_bodies() {
    fuzz("YAML bodies", seeds::YAML, || {
        |input: &[u8]| {
            if let Ok(read) = yaml::parse(input) {
                assert!(!bounds::is_too_deep(&read.value, bounds::MAX_DEPTH + 1));
                let written = read.value.to_string();
                assert!(json::parse(written.as_bytes()).is_ok(), "as JSON it can be read");
            }
        }
    });
}

#[test]
fn protobuf_bodies() {
    fuzz("protobuf bodies", seeds::PROTOBUF, || {
        |input: &[u8]| {
            for (api_version, kind) in [("v1", "Pod"), ("apps/v1", "Deployment"), ("v1", "DeleteOptions")] {
                if let Ok(value) = protobuf::parse(input, api_version, kind) {
                    assert!(json::parse(value.to_string().as_bytes()).is_ok());
                }
            }
        }
    });
}
