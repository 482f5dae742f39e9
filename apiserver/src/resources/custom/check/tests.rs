//! Values, their schemas, and what is said of them.

use super::*;
use serde_json::json;

fn errors(schema: Value, value: Value, old: Option<Value>) -> Vec<String> {
    let schema = Schema::parse(&schema).unwrap();
    check(&schema, &value, old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_refused_in_upstreams_words() {
    let field = |schema: Value| json!({"type": "object", "properties": {"f": schema}});
    let table = [
        (
            json!({"type": "integer"}),
            json!("x"),
            "f: Invalid value: \"string\": f in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            "f: Invalid value: \"number\": f in body must be of type integer: \"number\"",
        ),
        (json!({"type": "integer"}), json!(2.0), ""),
        (
            json!({"type": "integer", "format": "int64"}),
            json!(9_223_372_036_854_775_808_u64),
            "f: Invalid value: \"number\": f in body must be of type integer: \"number\"",
        ),
        (
            json!({"type": "string"}),
            json!(null),
            "f: Invalid value: \"null\": f in body must be of type string: \"null\"",
        ),
        (json!({"type": "string", "nullable": true}), json!(null), ""),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "f: Invalid value: \"boolean\": f in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "f: Invalid value: 0: f in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            "f: Invalid value: 1.5: f in body should be less than 1.5",
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(4),
            "f: Invalid value: 4: f in body should be a multiple of 3",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            "f: Invalid value: \"a\": f in body should be at least 2 chars long",
        ),
        (json!({"type": "string", "maxLength": 1}), json!("äö"), "f: Too long: may not be more than 1 bytes"),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            "f: Invalid value: \"b\": f in body should match '^a+$'",
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("b"),
            "f: Invalid value: \"b\": f in body must be of type ipv4: \"b\"",
        ),
        (json!({"type": "string", "format": "strange"}), json!("b"), ""),
        (
            json!({"type": "string", "enum": ["y", "x"]}),
            json!("b"),
            "f: Unsupported value: \"b\": supported values: \"y\", \"x\"",
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            "f: Invalid value: 0: f in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", 1]),
            "f[1]: Invalid value: \"integer\": f[1] in body must be of type string: \"integer\"|f: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "object", "maxProperties": 1}),
            json!({"a": 1, "b": 1}),
            "f: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            "f: Invalid value: 0: f in body should have at least 1 properties",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            "f.a: Invalid value: \"integer\": f.a in body must be of type string: \"integer\"",
        ),
        (json!({"type": "object", "required": ["a"]}), json!({}), "f.a: Required value"),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": 1, "b": 1}),
            "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}]}),
            json!({}),
            "<nil>: Invalid value: \"\": \"f\" must validate one and only one schema (oneOf). Found none valid|f.a: Required value",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            "<nil>: Invalid value: \"\": \"f\" must validate at least one schema (anyOf)|f: Invalid value: 3: f in body should be greater than or equal to 5",
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 5}]}),
            json!(3),
            "f: Invalid value: 3: f in body should be greater than or equal to 5|<nil>: Invalid value: \"\": \"f\" must validate all the schemas (allOf). None validated",
        ),
        (
            json!({"type": "integer", "not": {"minimum": 5}}),
            json!(6),
            "<nil>: Invalid value: \"\": \"f\" must not validate the schema (not)",
        ),
    ];
    for (schema, value, expected) in table {
        assert_eq!(errors(field(schema.clone()), json!({"f": value}), None).join("|"), expected, "{schema} {value}");
    }
    assert_eq!(errors(json!({"type": "object", "required": ["spec"]}), json!({}), None), ["spec: Required value"]);
}

#[test]
fn what_did_not_change_may_stay_wrong() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 5}, "b": {"type": "integer", "minimum": 5},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}},
        "p": {"type": "array", "items": {"type": "integer", "minimum": 5}}}});
    let old = json!({"a": 1, "b": 1, "l": [{"k": "x", "v": 1}, {"k": "y", "v": 1}], "p": [1]});
    let new = json!({"a": 1, "b": 2, "l": [{"k": "z", "v": 1}, {"k": "x", "v": 1}], "p": [1, 7]});
    assert_eq!(
        errors(schema, new, Some(old)),
        [
            "b: Invalid value: 2: b in body should be greater than or equal to 5",
            "l[0].v: Invalid value: 1: l[0].v in body should be greater than or equal to 5",
            "p[0]: Invalid value: 1: p[0] in body should be greater than or equal to 5"
        ]
    );
}
