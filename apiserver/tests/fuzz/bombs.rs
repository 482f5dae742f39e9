//! Inputs that are made to cost much more than they weigh.

use apiserver::http::body::{json, protobuf, yaml};
use apiserver::http::query::Query;

use crate::harness::{measured, on_a_small_stack};
use crate::requests::Target;

/// As large as a body may be.
const BODY: usize = 3 * 1024 * 1024;

fn filled(head: &str, unit: &str) -> Vec<u8> {
    let mut text = head.to_owned();
    text.push_str(&unit.repeat((BODY - head.len()) / unit.len()));
    text.into_bytes()
}

/// Each level refers ten times to the one before it.
fn laughs() -> Vec<u8> {
    let mut text = "a0: &a0 lol\n".to_owned();
    for level in 1..12 {
        let refers = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{refers}]\n"));
    }
    text.into_bytes()
}

#[test]
fn json_that_is_nested_without_end() {
    on_a_small_stack("nested JSON", || {
        for unit in ["[", "{\"a\":", "[{\"\":"] {
            measured("nested JSON", &filled("", unit), |input| {
                assert_eq!(json::parse(input).map(drop), Err("exceeded max depth".to_owned()));
            });
        }
        let target = Target::new();
        let deep = format!("{{\"metadata\":{{\"name\":\"d\"}},\"data\":{}{}}}", "[".repeat(110), "]".repeat(110));
        measured("deep JSON", deep.as_bytes(), |input| {
            let answer = target.write("POST", "/api/v1/namespaces/default/configmaps", "application/json", input);
            assert_eq!(answer.status, 400, "{}", answer.body);
            assert!(answer.body.contains("exceeded max depth"), "{}", answer.body);
        });
    });
}

#[test]
fn yaml_that_grows() {
    on_a_small_stack("YAML", || {
        let text = "x".repeat(BODY / 2);
        let mut strings = format!("a: &a {text}\nb: [").into_bytes();
        strings.extend(filled("", "*a,").into_iter().take(BODY / 2));
        let anchors: String = (0..90).map(|i| format!("&a{i} [")).collect();
        let nested = format!("{anchors}{}{}", "1,".repeat(200_000), "]".repeat(90));
        let chained: String = (1..2_000).map(|i| format!("a{i}: &a{i} [[[[*a{}]]]]\n", i - 1)).collect();
        let cases = [
            ("laughs", laughs(), "excessive aliasing"),
            ("strings", strings, "excessive aliasing"),
            ("anchors", nested.into_bytes(), "excessive aliasing"),
            ("chain", format!("a0: &a0 1\n{chained}").into_bytes(), "exceeded max depth"),
            ("flow", filled("", "["), "exceeded max depth"),
            ("mappings", filled("", "{a: "), "exceeded max depth"),
            ("blocks", filled("", "- "), "exceeded max depth"),
        ];
        for (name, input, why) in cases {
            measured(name, &input, |input| {
                let error = yaml::parse(input).expect_err(name);
                assert!(error.contains(why), "{name}: {error}");
            });
        }
    });
}

#[test]
fn patches_that_grow() {
    on_a_small_stack("patches", || {
        let target = Target::new();
        let copies = r#"{"op":"copy","from":"/data","path":"/data/x"},"#.repeat(200);
        let copies = format!("[{}{}]", copies, r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#);
        let deeper: Vec<String> = (0..150)
            .map(|i| {
                let (path, value) = ("/a".repeat(60 * i), format!("{}{}", "{\"a\":".repeat(60), "1") + &"}".repeat(60));
                format!(r#"{{"op":"add","path":"/data{path}","value":{value}}}"#)
            })
            .collect();
        let many = format!("[{}]", vec![r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#; 10_001].join(","));
        let path = "/api/v1/namespaces/default/configmaps/a";
        for (name, patch, status) in
            [("copies", copies, 422), ("levels", format!("[{}]", deeper.join(",")), 422), ("operations", many, 413)]
        {
            measured(name, patch.as_bytes(), |input| {
                let answer = target.write("PATCH", path, "application/json-patch+json", input);
                assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.body);
            });
        }
    });
}

#[test]
fn protobuf_that_is_nested() {
    on_a_small_stack("protobuf", || {
        // Field 1 of a message in field 1, and so on: each level adds a tag and a length.
        let mut message = Vec::new();
        for _ in 0..20_000 {
            let mut outer = vec![0x0a];
            let mut length = message.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.append(&mut message);
            message = outer;
        }
        let mut input = b"k8s\0\x12".to_vec();
        input.extend_from_slice(&message[1..]);
        for kind in ["Pod", "ConfigMap", "Namespace"] {
            measured("nested protobuf", &input, |input| drop(protobuf::parse(input, "v1", kind)));
        }
    });
}

#[test]
fn queries_and_selectors_of_many_parts() {
    on_a_small_stack("queries", || {
        measured("query", &filled("", "a=b&"), |input| {
            assert!(!Query::parse(&String::from_utf8_lossy(input)).is_empty());
        });
        for unit in ["a,", "a in (b,c),", "!", "a=b,", "("] {
            let text = unit.repeat(64 * 1024 / unit.len());
            measured("selector", text.as_bytes(), |_| {
                drop(api::selector::LabelSelector::parse(&text));
                drop(api::selector::FieldSelector::parse(&text));
            });
        }
        for text in ["1e999999999", "1e-999999999", &"9".repeat(100_000), &format!("0.{}1", "0".repeat(100_000))] {
            measured("quantity", text.as_bytes(), |_| drop(api::quantity::Quantity::canonical(text)));
        }
    });
}
