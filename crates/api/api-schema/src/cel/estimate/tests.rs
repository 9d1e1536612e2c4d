//! What expressions are estimated to cost at most: without limits in the schema, and with one.
use super::{Budget, Extent};
use crate::cel::{CompiledRules, Environment, Type, of_schema};
use crate::{Schema, SchemaRef};
use api_meta::FieldPath;
use serde_json::{Value, json};

/// The most a rule can cost; `null` in the schema is where a limit would be.
fn cost(schema: &Value, rule: &str) -> u64 {
    let schema = SchemaRef::new(Schema::from_open_api(schema).unwrap());
    let own = of_schema(&schema, "selfType", false).unwrap();
    let environment = Environment::new([("self", own.clone()), ("oldSelf", own)]);
    let program = environment.compile(rule).unwrap_or_else(|issues| panic!("{rule}: {issues}"));
    environment.most(&program, &Extent::of(&schema, false).unwrap())
}

/// The schema with a number at every place that is marked for a limit, or with none.
fn limited(schema: &Value, limit: Option<u64>) -> Value {
    match schema {
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(name, value)| match (value.is_null(), limit) {
                (true, None) => None,
                (true, Some(limit)) => Some((name.clone(), limit.into())),
                (false, _) => Some((name.clone(), limited(value, limit))),
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

fn kind(name: &str) -> Value {
    match name {
        "duration" | "date" | "date-time" => json!({"type": "string", "format": name}),
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        name => json!({"type": name}),
    }
}
fn list(of: &Value) -> Value {
    json!({"type": "array", "maxItems": null, "items": of})
}
fn map(of: &Value) -> Value {
    json!({"type": "object", "maxProperties": null, "additionalProperties": of})
}

#[test]
fn costs_are_what_upstream_estimates() {
    let number = json!({"type": "number"});
    let text = json!({"type": "string", "maxLength": null});
    let plain = json!({"type": "string"});
    let object = json!({"type": "object", "properties": {"required": plain, "optional": plain}, "required": ["required"]});
    let bytes = json!({"type": "string", "format": "byte", "maxLength": null});
    let choice = json!({"type": "string", "enum": ["A", "B", "C", "LongValue"], "maxLength": null});
    let all = "self.all(x, true)";
    let nested_limited = json!({"type": "array", "maxItems": null, "items": {"type": "object", "maxProperties": null, "additionalProperties": object}});
    let nested_open = json!({"type": "array", "items": {"type": "object", "maxProperties": null, "additionalProperties": object}});
    let replacing =
        json!({"type": "object", "properties": {"str": text, "before": {"type": "string", "maxLength": 2}, "after": {"type": "string", "maxLength": 4}}});
    let splitting = json!({"type": "object", "properties": {"str": text, "separator": text}});
    // A schema, a rule, its cost without limits, a limit, its cost with it.
    for (schema, rule, open, limit, set) in [
        (list(&number), all, 4_718_591, 10, 32),
        (list(&plain), all, 3_145_727, 20, 62),
        (list(&kind("boolean")), all, 1_887_437, 5, 17),
        (json!({"type": "array", "maxItems": null, "items": {"type": "array", "items": number}}), all, 3_145_727, 100, 302),
        (list(&object), all, 555_128, 50, 152),
        (map(&number), all, 1_348_169, 10, 32),
        (map(&plain), all, 1_179_647, 3, 11),
        (map(&kind("boolean")), all, 943_718, 100, 302),
        (map(&number), "has(self.x)", 1, 100, 1),
        (text.clone(), "self.contains('test')", 314_574, 10, 5),
        (text.clone(), "self.startsWith('test')", 2, 15, 2),
        (text.clone(), "self.endsWith('test')", 2, 30, 2),
        (text.clone(), "size(self + \"hello\") > size(\"hello\")", 314_578, 4, 7),
        (list(&number), "self[1] == 0.0", 2, 5000, 2),
        (list(&plain), "self[1] == self[1]", 314_577, 8, 314_577),
        (list(&number), "self.all(x, self.all(y, true))", 7_421_701_914_624, 10, 352),
        (list(&number), "self.all(x, self.all(y, self.all(z, true)))", 11_673_320_338_545_967_103, 10, 3552),
        (text.clone(), "self.matches(\"x\")", 314_574, 50, 22),
        (text.clone(), "\"\".matches(\"(((((((((())))))))))[0-9]\")", 7, 10, 7),
        (text.clone(), "self.matches(\"\")", 1, 100, 1),
        (map(&text), "self.all(x, x.contains(self[x]))", 2_752_507, 10, 72),
        (list(&number), "self[3] == 0.0", 2, 0, 2),
        (map(&number), "self[\"x\"] == 0.0", 2, 0, 2),
        (text.clone(), "self == \"x\"", 2, 0, 1),
        (bytes, "self == b\"x\"", 2, 0, 1),
        (list(&number), "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826),
        (nested_limited, "self.all(x, x[\"y\"].required == \"z\")", 7_340_027, 10, 72),
        (nested_open, "self.all(x, x[\"y\"].required == \"z\")", 7_340_027, 10, 7_340_027),
        (list(&kind("int-or-string")), all, 4_718_591, 10, 32),
        (list(&kind("int-or-string")), "self[0] == 5", 3, 10, 3),
        (list(&kind("boolean")), "self[0] == false", 2, 25, 2),
        (list(&object), "self[0] == null", 2, 422, 2),
        (list(&json!({"type": "array", "items": number})), "self[0][0] == -1.0", 3, 51, 3),
        (list(&json!({"type": "object", "additionalProperties": number})), "self.all(x, x.y == 25.2)", 6_291_452, 12, 74),
        (list(&json!({"type": "object", "additionalProperties": number})), "self[0].x > 2.0", 4, 3000, 4),
        (list(&kind("duration")), all, 2_359_295, 5, 17),
        (list(&kind("duration")), "self[0].getHours() == 2", 4, 525, 4),
        (list(&kind("date")), all, 725_936, 15, 47),
        (list(&kind("date")), "self[2].getDayOfMonth() == 13", 4, 42, 4),
        (list(&kind("date-time")), all, 428_963, 25, 77),
        (list(&kind("date-time")), "self[2].getMinutes() == 45", 4, 99, 4),
        (map(&kind("int-or-string")), all, 1_348_169, 15, 47),
        (map(&object), all, 428_963, 20, 62),
        (map(&json!({"type": "object", "additionalProperties": number})), all, 1_179_647, 10, 32),
        (map(&json!({"type": "array", "items": number})), all, 1_179_647, 25, 77),
        (map(&kind("duration")), all, 1_048_577, 5, 17),
        (map(&kind("date")), all, 524_288, 10, 32),
        (map(&kind("date-time")), all, 349_526, 25, 77),
        (text.clone(), "self.find('[0-9]+') == ''", 629_147, 10, 11),
        (list(&text), "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
        (list(&text), "self.isSorted() == true", 329_854_432_052, 10, 52),
        (replacing, "self.str.replace(self.before, self.after) == 'does not matter'", 629_154, 4, 12),
        (splitting, "self.str.split(self.separator) == []", 629_160, 10, 22),
        (text.clone(), "self.lowerAscii() == 'lower!'", 314_575, 10, 6),
        (map(&kind("integer")), "oldSelf.size() == self.size()", 5, 10, 5),
        (map(&kind("date-time")), "self[\"a\"] == self[\"b\"]", 8, 7, 8),
        (map(&kind("duration")), "self[\"c\"] == self[\"d\"]", 8, 42, 8),
        (choice, "self.contains('A')", 2, 1000, 401),
    ] {
        let (without, with) = (cost(&limited(&schema, None), rule), cost(&limited(&schema, Some(limit)), rule));
        assert_eq!((without, with), (open, set), "{rule} of {schema}");
    }
}

#[test]
fn functions_cost_by_the_sizes_they_are_given() {
    for (expression, want) in [
        ("[1, 2, 3, 4, 5].sum()", 15),
        ("'01234567890123456789012345678901234567890123456789'.indexOf('123')", 5),
        ("'abc 123 def 123'.replace('123', '456')", 3),
        ("'abc 123 def 123'.split(' ', 1)", 3),
        ("'abc 123 def 123'.substring(5, 8)", 2),
        ("'ABCDEFGHIJ abcdefghij'.upperAscii() == 'abcdefghij ABCDEFGHIJ'.upperAscii()", 9),
        ("strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')", 11),
        ("quantity('50k').add(20).sub(quantity('100k')).asInteger() > 0", 6),
        ("ip('2001:db8:3333:4444:5555:6666:7777:8888').family() == 6", 6),
        ("ip.isCanonical('2001:db8:3333:4444:5555:6666:7777:8888')", 8),
        ("cidr('192.168.0.0/16').containsCIDR('192.0.0.0/30')", 11),
        ("cidr('192.168.0.0/16').containsIP(ip('192.169.0.1'))", 8),
        ("sets.contains([1, 2, 3, 4], [2, 3])", 29),
        ("sets.equivalent([1, 2, 3], [3, 2, 1])", 39),
        ("sets.contains([[1], [2, 3]], [[2, 3]])", 53),
        // Nothing tells how long a number is when it is written.
        ("('attempts: ' + string(self)).size() > 0", u64::MAX / 10 + 1 + 3),
    ] {
        let estimated = cost(&json!({"type": "integer"}), expression);
        // Costs of this size are a float's.
        assert!(estimated.abs_diff(want) <= want >> 50, "{expression}: {estimated}");
    }
}

fn problems(schema: &Value) -> Vec<String> {
    let read = SchemaRef::new(Schema::of_custom_resource(schema).unwrap());
    CompiledRules::check(schema, &read, &FieldPath::new("spec.validation.openAPIV3Schema")).iter().map(ToString::to_string).collect()
}

const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

#[test]
fn a_definition_that_could_cost_too_much_is_told_where() {
    let contains = |limit: Option<u64>| match limit {
        None => json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.contains('keyword')"}]}),
        Some(limit) => json!({"type": "string", "maxLength": limit, "x-kubernetes-validations": [{"rule": "self.contains('keyword')"}]}),
    };
    let schema = json!({"type": "object", "properties": {
        "list": {"type": "array", "items": contains(Some(500_000))},
        "map": {"type": "object", "maxProperties": 10_000, "additionalProperties": contains(Some(2048))},
        "field": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 50 && self < 100"}]},
    }});
    let at = |place: &str| format!("spec.validation.openAPIV3Schema.properties{place}.x-kubernetes-validations[0].rule");
    let contributed = "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
    let total = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x";
    assert_eq!(
        problems(&schema),
        [
            format!("{}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {ADVICE}", at("[list].items")),
            format!("{}: {contributed}", at("[list].items")),
            format!("{}: {contributed}", at("[map].additionalProperties")),
            format!("spec.validation.openAPIV3Schema: Forbidden: {total} {ADVICE}"),
        ]
    );
    // Bounded lists of bounded texts are fine, and so is what can be there once.
    assert_eq!(problems(&json!({"type": "object", "properties": {"l": {"type": "array", "maxItems": 100, "items": contains(Some(100))}}})), [""; 0]);
    assert_eq!(problems(&json!({"type": "object", "properties": {"s": contains(None)}})), [""; 0]);
    assert_eq!(problems(&json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.contains('x')"}]})), [""; 0]);
}

#[test]
fn messages_count_too() {
    let schema = json!({"type": "object", "properties": {"attempts": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self >= 0", "messageExpression": "'invalid attempts: ' + string(self)"}]}}});
    let at = "spec.validation.openAPIV3Schema.properties[attempts].x-kubernetes-validations[0].messageExpression: Forbidden";
    let found = problems(&schema);
    assert_eq!(found[0], format!("{at}: estimated messageExpression cost exceeds budget by factor of more than 100x {ADVICE}"));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_budget_names_the_four_most_expensive() {
    let path = |name: &str| FieldPath::new(name);
    let mut budget = Budget::default();
    assert_eq!(budget.spend(path("small"), "estimated rule cost", 999_999), None);
    let close = budget.spend(path("close"), "estimated rule cost", 10_500_000).unwrap().to_string();
    assert_eq!(close, format!("close: Forbidden: estimated rule cost exceeds budget by factor of 1.050000x {ADVICE}"));
    for (name, cost) in [("a", 9_000_000), ("b", 95_000_000), ("c", 30_000_000), ("d", 40_000_000)] {
        budget.spend(path(name), "estimated rule cost", cost);
    }
    let told: Vec<String> = budget.settle(&path("root")).iter().map(|error| error.to_string().split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, ["b:", "d:", "c:", "close:", "root:"]);
    let kinds = Type::Optional(Type::Int.into());
    assert_eq!(super::size_of(&kinds), Some(super::Size::exactly(1)));
    let mut cheap = Budget::default();
    assert_eq!(cheap.spend(path("x"), "estimated rule cost", 100), None);
    assert!(cheap.settle(&path("root")).is_empty());
}
