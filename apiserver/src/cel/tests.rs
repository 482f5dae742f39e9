//! Tables: what compiles and what is wrong, what expressions give, what they cost.

use serde_json::json;

use super::*;

fn environment() -> Environment {
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "size": {"type": "integer"}, "ratio": {"type": "number"}, "on": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true},
        "nested": {"type": "object", "properties": {"a-b": {"type": "string"}}},
    }});
    Environment::new().with("self", Shape::of_schema(&schema, false).cel_type()).with("any", Type::Dyn)
}

#[test]
fn problems_have_the_words_of_cel_go() {
    let cases = [
        ("self.foo", "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^"),
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
        (
            "self.size + 'a' > 1",
            "ERROR: <input>:1:11: found no matching overload for '_+_' applied to '(int, string)'\n | self.size + 'a' > 1\n | \
             ..........^",
        ),
        (
            "self.name.startsWith(1)",
            "ERROR: <input>:1:21: found no matching overload for 'startsWith' applied to 'string.(int)'\n | \
             self.name.startsWith(1)\n | ....................^",
        ),
        (
            "self.name.foo",
            "ERROR: <input>:1:10: type 'string' does not support field selection\n | self.name.foo\n | .........^",
        ),
        (
            "self.name.frob()",
            "ERROR: <input>:1:15: undeclared reference to 'frob' (in container '')\n | self.name.frob()\n | ..............^",
        ),
        (
            "self.size.all(x, true)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | \
             self.size.all(x, true)\n | ....^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        (
            "self.size == 'a'",
            "ERROR: <input>:1:11: found no matching overload for '_==_' applied to '(int, string)'\n | self.size == 'a'\n | ..........^",
        ),
        (
            "duration('x') == duration('1s')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('x') == duration('1s')\n | .........^",
        ),
        (
            "self.name.matches('(')",
            "ERROR: <input>:1:19: invalid matches argument\n | self.name.matches('(')\n | ..................^",
        ),
        (
            "foo && bar",
            "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo && bar\n | ^\nERROR: <input>:1:8: \
             undeclared reference to 'bar' (in container '')\n | foo && bar\n | .......^",
        ),
        (
            "self.tags.map(t, t + 1)",
            "ERROR: <input>:1:20: found no matching overload for '_+_' applied to '(string, int)'\n | self.tags.map(t, t + 1)\n | \
             ...................^",
        ),
    ];
    for (text, expected) in cases {
        let error = compile(text, &environment()).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn results_have_types() {
    let cases = [
        ("self.size", "int"),
        ("self.tags", "list(string)"),
        ("self.labels", "map(string, string)"),
        ("self.port", "dyn"),
        ("self.tags.map(t, size(t))", "list(int)"),
        ("self.tags.filter(t, t != '')", "list(string)"),
        ("any.x", "dyn"),
        ("[]", "list(dyn)"),
        ("{'a': 1}", "map(string, int)"),
        ("self.?name", "optional_type(string)"),
        ("self.?name.orValue('x')", "string"),
        ("type(self.size)", "type(int)"),
        ("self.nested.a__dash__b", "string"),
        ("duration('1h')", "google.protobuf.Duration"),
        ("quantity('1')", "kubernetes.Quantity"),
        ("any.x > 1 && self.on", "bool"),
        ("self.tags.transformMap(i, t, i)", "map(int, int)"),
    ];
    for (text, expected) in cases {
        let program = compile(text, &environment()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(program.result().to_string(), expected, "{text}");
    }
}

fn run(text: &str) -> Result<String, String> {
    let any =
        json!({"a": {"b": [1, 2, 3], "s": "text"}, "n": null, "f": 1.5, "names": ["x", "y"], "big": 5_000_000_000_i64});
    let program = compile(text, &Environment::new().with("any", Type::Dyn)).map_err(|error| error.to_string())?;
    let value = program.evaluate(&Variables::new().with("any", Value::json(&any)), &mut Budget::default());
    value.map(|value| show(&value)).map_err(|error| error.to_string())
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::List(list) => format!("[{}]", list.iter().map(|item| show(&item)).collect::<Vec<_>>().join(", ")),
        Value::Optional(Some(inner)) => format!("optional({})", show(inner)),
        Value::Optional(None) => "none".to_owned(),
        Value::Type(name) => name.to_string(),
        Value::Map(_) | Value::Struct(_) => {
            let entries = value.entries().into_iter().map(|(key, value)| format!("{}: {}", key.value(), show(&value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn expressions_give_values() {
    let cases = [
        // The language.
        ("any.a.b[1] + 1", "3"),
        ("any.a.b.all(x, x > 0)", "true"),
        ("any.a.b.exists(x, x > 2)", "true"),
        ("any.a.b.exists_one(x, x > 2)", "true"),
        ("any.a.b.map(x, x * 2)", "[2, 4, 6]"),
        ("any.a.b.map(x, x > 1, x * 2)", "[4, 6]"),
        ("any.a.b.filter(x, x > 1)", "[2, 3]"),
        ("any.a.exists(k, k == 's')", "true"),
        ("has(any.a.s) && !has(any.a.t)", "true"),
        ("'s' in any.a && 2 in any.a.b", "true"),
        ("any.n == null", "true"),
        ("any.f == 1.5 && 1.0 == any.a.b[0]", "true"),
        ("any.a.b[0] == 1.0 || any.x", "true"),
        ("any.x == 1 || true", "true"),
        ("any.a.x == 1 && false", "false"),
        ("[1, 2] + [3]", "[1, 2, 3]"),
        ("size('héllo') + size([1]) + size({'a': 1}) + 'ab'.size()", "9"),
        ("true ? 1 : 2", "1"),
        ("type(1) == int && type('') == string && type([]) == list", "true"),
        ("int('7') + int(2.9) + int(3u)", "12"),
        ("string(1.5) + string(true) + string(2)", "1.5true2"),
        ("dyn(1) == 1u", "true"),
        ("1 < 2.5 && 3u > 2", "true"),
        ("b'abc' == bytes('abc')", "true"),
        ("timestamp('2024-02-03T04:05:06Z').getFullYear()", "2024"),
        ("timestamp('2024-02-03T04:05:06Z').getMonth()", "1"),
        ("timestamp('2024-02-03T04:05:06Z').getHours('+02:00')", "6"),
        ("string(timestamp('2024-02-03T04:05:06Z') + duration('1h'))", "2024-02-03T05:05:06Z"),
        ("duration('90m').getHours()", "1"),
        ("string(duration('1.5s'))", "1.5s"),
        // Optionals.
        ("any.?x", "none"),
        ("any.?a.?s", "optional(text)"),
        ("any.?a.s.orValue('')", "text"),
        ("any.a.?b[?7].orValue(9)", "9"),
        ("any.a.b[?0]", "optional(1)"),
        ("optional.of(1).optMap(x, x + 1)", "optional(2)"),
        ("optional.none().hasValue()", "false"),
        ("any.?x.or(any.?f).value()", "1.5"),
        ("[?any.?x, 1]", "[1]"),
        ("{?'a': any.?x, 'b': 1}", "{b: 1}"),
        ("optional.ofNonZeroValue('')", "none"),
        // Two variables.
        ("any.a.b.all(i, v, v == i + 1)", "true"),
        ("any.a.b.transformList(i, v, i * v)", "[0, 2, 6]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v + 1)", "{b: 3}"),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", "{x: a}"),
        ("any.a.b.exists_one(i, v, v == 3 && i == 2)", "true"),
        // Strings.
        ("'tacocat'.charAt(3)", "o"),
        ("'hello mellow'.indexOf('ello', 2)", "7"),
        ("'hello mellow'.lastIndexOf('ello')", "7"),
        ("['x', 'y'].join('-')", "x-y"),
        ("'TacoCat'.lowerAscii() + 'a'.upperAscii()", "tacocatA"),
        ("'hello hello'.replace('he', 'we', 1)", "wello hello"),
        ("'a,b,c'.split(',', 2)", "[a, b,c]"),
        ("'tacocat'.substring(1, 4)", "aco"),
        ("'  t '.trim()", "t"),
        ("'%s is %d, %.2f, %x, %e'.format([dyn('a'), 5, 1.0, 255, 1500.0])", "a is 5, 1.00, ff, 1.500000e+03"),
        ("'%s'.format([[dyn(1), 'a', null]])", "[1, a, null]"),
        ("strings.quote('a\"b')", "\"a\\\"b\""),
        ("'abc 123'.find('[0-9]+')", "123"),
        ("'1 2 3'.findAll('[0-9]', 2)", "[1, 2]"),
        ("'foo'.matches('^f.o$')", "true"),
        // Lists and sets.
        ("[1, 2, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("[1, 2].sum() + [3, 1].min() + [3, 1].max()", "7"),
        ("['a', 'b', 'a'].lastIndexOf('a')", "2"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])", "true"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
        ("any.a.b.slice(1, 3) + lists.range(2).reverse()", "[2, 3, 1, 0]"),
        ("[[1], [2, 3]].flatten() + [[[4], [5]]].flatten(2)", "[1, 2, 3, 4, 5]"),
        ("[2, 1, 2].distinct().sort()", "[1, 2]"),
        ("['bb', 'a', 'ccc'].sortBy(x, -size(x))", "[ccc, bb, a]"),
        ("any.a.b.sortBy(x, x * -1)", "[3, 2, 1]"),
        // Kubernetes.
        ("url('https://example.com:80/p?a=1&a=2').getHostname()", "example.com"),
        ("url('https://example.com:80/p?a=1&a=2').getQuery()['a']", "[1, 2]"),
        ("isURL('x y') || isURL('example')", "false"),
        ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", "true"),
        ("quantity('50k').add(20).asInteger()", "50020"),
        ("quantity('500m').isInteger() || isQuantity('x')", "false"),
        ("quantity('-1').sign()", "-1"),
        ("quantity('1500m').asApproximateFloat()", "1.5"),
        ("ip('192.168.0.1').family() == 4 && ip('::1').isLoopback()", "true"),
        ("isIP('1.2.3') || isCIDR('10.0.0.0/33')", "false"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR(cidr('10.0.0.0/9'))", "true"),
        ("string(cidr('10.1.2.3/8').masked())", "10.0.0.0/8"),
        ("ip.isCanonical('::ffff') && !ip.isCanonical('2001:DB8::1')", "true"),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2", "true"),
        ("format.dns1123Label().validate('ok')", "none"),
        ("format.named('dns1123Label').value().validate('No').hasValue()", "true"),
    ];
    let wrong = cases.iter().map(|(text, expected)| (text, expected, run(text)));
    let wrong: Vec<_> = wrong.filter(|(_, expected, found)| found.as_deref() != Ok(**expected)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn failures_have_the_words_of_cel_go() {
    let cases = [
        ("any.x", "no such key: x"),
        ("any.n.x", "no such key: x"),
        ("any.a.x.y", "no such key: x"),
        ("any.a.b[7]", "index out of bounds: 7"),
        ("[1].slice(0, 2)", "cannot slice(0, 2), list is length 1"),
        ("[1].slice(1, 0)", "cannot slice(1, 0), start index must be less than or equal to end index"),
        ("[1].flatten(-1)", "level must be non-negative"),
        ("any['x']", "no such key: x"),
        ("any.a.s + 1", "no such overload"),
        ("any.a.s > 1", "no such overload"),
        ("1 / any.a.b.filter(x, x > 5).size()", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("any.a.s ? 1 : 2", "no such overload"),
        (
            "ip('1.2.3')",
            "IP Address \"1.2.3\" parse error during conversion from string: ParseAddr(\"1.2.3\"): IPv4 address too short",
        ),
        ("ip('::ffff:1.2.3.4')", "IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed"),
        (
            "cidr('1.2.3.4/300')",
            "network address parse error during conversion from string: netip.ParsePrefix(\"1.2.3.4/300\"): prefix length out of range",
        ),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("uint('+1')", "type conversion error from 'string' to 'uint'"),
        ("bool('x')", "type conversion error from 'string' to 'bool'"),
        ("duration('x' + '')", "type conversion error from 'string' to 'google.protobuf.Duration'"),
        ("timestamp('x' + '')", "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
        ("'a'.matches('[' + '')", "error parsing regexp: missing closing ]: `[`"),
        ("'a'.find('[')", "Illegal regex: error parsing regexp: missing closing ]: `[`"),
        ("optional.none().value()", "optional.none() dereference"),
        ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
        ("'abc'.charAt(9)", "index out of range: 9"),
        ("any.a.b.all(x, any.y)", "no such key: y"),
    ];
    let wrong = cases.iter().map(|(text, expected)| (text, expected, run(text)));
    let wrong: Vec<_> =
        wrong.filter(|(_, expected, found)| found.as_ref().err() != Some(&(**expected).to_owned())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn costs_are_bounded() {
    let many: Vec<i64> = (0..1000).collect();
    let any = json!(many);
    let environment = Environment::new().with("any", Type::Dyn);
    let program = compile("any.all(x, any.all(y, any.all(z, x + y + z >= 0)))", &environment).expect("compiles");
    let variables = Variables::new().with("any", Value::json(&any));
    let mut budget = Budget::default();
    assert_eq!(program.evaluate(&variables, &mut budget).err(), Some(EvaluationError::CallLimit));
    let cheap = compile("any.all(x, x >= 0)", &environment).expect("compiles");
    let mut small = Budget::new(PER_CALL_LIMIT, 100);
    assert_eq!(cheap.evaluate(&variables, &mut small).err(), Some(EvaluationError::OutOfBudget));
    assert!(cheap.evaluate(&variables, &mut budget).expect("cheap enough").as_bool().expect("bool"));
}

#[test]
fn estimates_follow_declared_limits() {
    let schema = |limit: bool| {
        let mut tags = json!({"type": "array", "items": {"type": "string", "maxLength": 10}});
        if limit {
            tags["maxItems"] = json!(10);
        }
        Shape::of_schema(&json!({"type": "object", "properties": {"tags": tags}}), false)
    };
    let (bounded, unbounded) = (schema(true), schema(false));
    let environment = Environment::new().with("self", bounded.cel_type());
    let program = compile("self.tags.all(x, self.tags.all(y, x == y))", &environment).expect("compiles");
    assert!(program.estimated_cost(&[("self", &bounded)]) < 10_000);
    assert!(program.estimated_cost(&[("self", &unbounded)]) > 10_000_000);
}

#[test]
fn programs_know_what_they_use() {
    let environment =
        Environment::new().with("self", Type::Int).with("oldSelf", Type::Int).with("variables", Type::Dyn);
    let program = compile("self >= oldSelf && variables.limit > 1", &environment).expect("compiles");
    assert!(program.uses("oldSelf") && program.uses("variables.limit") && !program.uses("limit"));
}
