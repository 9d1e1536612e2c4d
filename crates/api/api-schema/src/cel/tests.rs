//! CEL by tables: what expressions give, what is wrong with them, what rules say of objects.
use super::*;
use crate::{Schema, SchemaRef};
use api_meta::FieldPath;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

fn evaluated(source: &str) -> Result<Json, String> {
    let object = json!({"a": 1, "b": "text", "list": [1, 2, 3], "map": {"x": 1.5, "y": null}, "nested": {"deep": {"name": "n"}}});
    let program = Environment::new([("object", Type::Dyn)]).compile(source)?;
    let variables = BTreeMap::from([("object", Value::of_json(&object))]);
    let outcome = program.run(&variables, CALL_LIMIT);
    let value = outcome.value.map_err(|error| error.to_string())?;
    Ok(value.to_json().unwrap_or_else(|| value.type_name().into()))
}

#[test]
fn expressions_give_what_cel_gives() {
    for (source, want) in [
        ("1 + 2 * 3 - 4 / 2 % 3", json!(5)),
        ("-object.a", json!(-1)),
        ("object.list.all(x, x > 0) && object.list.exists(x, x == 2) && object.list.exists_one(x, x == 3)", json!(true)),
        ("object.list.map(x, x * 2)", json!([2, 4, 6])),
        ("object.list.filter(x, x != 2)", json!([1, 3])),
        ("object.list.map(x, x > 1, x + 1)", json!([3, 4])),
        ("has(object.map.x) && !has(object.map.z) && has(object.nested.deep)", json!(true)),
        ("'z' in object.map || 2 in object.list", json!(true)),
        ("object.nothing.here == 1 || true", json!(true)),
        ("true || object.nothing.here == 1", json!(true)),
        ("object.a == 1.0 && object.map.x > 1", json!(true)),
        ("object.?nothing.orValue('none')", json!("none")),
        ("object[?'b'].optMap(v, v + '!').orValue('')", json!("text!")),
        ("[1, 2] + [3] == [1, 2, 3]", json!(true)),
        ("{'a': [1], 'b': [2, dyn(true)]}", json!({"a": [1], "b": [2, true]})),
        ("object.b.startsWith('te') && object.b.matches('^t.x') ? 'yes' : 'no'", json!("yes")),
        ("'a-b-c'.split('-', 2).join('+') + 'héllo'.substring(1, 3) + 'abc'.charAt(2)", json!("a+b-célc")),
        ("'%s is %d or %.2f of %s'.format(['x', 3, 1.5, [1, dyn('a')]])", json!("x is 3 or 1.50 of [1, a]")),
        ("duration('1h30m') > duration('89m') && timestamp('2026-01-02T03:04:05Z').getMonth() == 0", json!(true)),
        ("string(timestamp('2026-01-02T03:04:05Z') + duration('1s'))", json!("2026-01-02T03:04:06Z")),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')).asInteger() == 1", json!(true)),
        ("ip('192.168.0.1').family() == 4 && cidr('192.168.0.0/16').containsIP('192.168.0.1') && isIP('::1')", json!(true)),
        ("url('https://a.b:80/c?d=e').getHost() + url('https://a/b?x=1').getQuery()['x'][0]", json!("a.b:801")),
        ("sets.contains([1, 2, 3], [2, 3]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])", json!(true)),
        ("[3, 1, 2].max() + [3, 1, 2].min() + [1, 2].sum()", json!(7)),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2", json!(true)),
        ("format.dns1123Label().validate('Not_A_Label').hasValue() && !format.dns1123Label().validate('ok').hasValue()", json!(true)),
        ("type(object.a) == int && type('') == string", json!(true)),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)", json!({"b": 20})),
        ("object.list.all(i, v, v == i + 1)", json!(true)),
        (r#"b'abc' == bytes("abc") && r'\d' == '\\d' && """a"b""" == 'a"b'"#, json!(true)),
        ("0x10 == 16 && 5u + 1u == 6u && int('7') == 7 && double(1) == 1.0", json!(true)),
        ("object.map.all(k, k.size() == 1) && size(object.map) == 2", json!(true)),
        ("dyn(1) == dyn('1')", json!(false)),
        ("object.nested.deep.name.find('[a-z]+') + 'abcabc'.findAll('b')[1]", json!("nb")),
    ] {
        assert_eq!(evaluated(source), Ok(want), "{source}");
    }
}

#[test]
fn evaluation_errors_read_as_cel_go_words_them() {
    for (source, want) in [
        ("object.nothing", "no such key: nothing"),
        ("object.list[5]", "index out of bounds: 5"),
        ("1 / (object.a - 1)", "division by zero"),
        ("9223372036854775807 + object.a", "integer overflow"),
        ("object.a + object.b", "no such overload"),
        ("int(object.b)", "strconv.ParseInt: parsing \"text\": invalid syntax"),
        ("object.?nothing.value()", "optional.none() dereference"),
    ] {
        assert_eq!(evaluated(source), Err(want.into()), "{source}");
    }
}

#[test]
fn nobody_can_make_an_expression_run_for_long() {
    let long = "[1,2,3,4,5,6,7,8,9,10]".to_owned();
    let mut source = "x == 0".to_owned();
    for _ in 0..12 {
        source = format!("{long}.all(x, {source})");
    }
    let worst = source.replace("x == 0", "x > 0");
    assert_eq!(evaluated(&worst), Err("operation cancelled: actual cost limit exceeded".into()));
    // Each step doubles a value that is shared: small to hold, endless to walk through.
    let doubled = format!("[0]{}", ".map(x, [x, x])".repeat(40));
    for source in [format!("{doubled} == {doubled}"), format!("'%s'.format([{doubled}])"), format!("{doubled} in [{doubled}]")] {
        assert_eq!(evaluated(&source), Err("operation cancelled: actual cost limit exceeded".into()));
    }
    assert_eq!(evaluated(&doubled), Ok(json!("list")), "too much to become JSON");
    let copies = format!("[{}].map(x, [{}])", "0,".repeat(3000), "0,".repeat(3000)) + ".map(l, l + l + l + l).size() > 0";
    assert_eq!(evaluated(&copies), Err("operation cancelled: actual cost limit exceeded".into()));
    assert_eq!(evaluated("'aaaaaaaaaaaaaaaaaaaa'.replace('', 'b').size() > 0"), Ok(json!(true)));
}

fn issue(source: &str) -> String {
    let schema = json!({"type": "object", "properties": {
        "x": {"type": "integer"}, "s": {"type": "string"}, "namespace": {"type": "string"}, "when": {"type": "string", "format": "date-time"},
        "list": {"type": "array", "items": {"type": "string"}}, "any": {"x-kubernetes-int-or-string": true},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}}, "unknown": {"x-kubernetes-preserve-unknown-fields": true},
    }});
    let schema = SchemaRef::new(Schema::from_open_api(&schema).unwrap());
    let own = of_schema(&schema, "selfType", true).unwrap();
    let environment = Environment::new([("self", own)]);
    environment.compile(source).map_or_else(|issues| issues, |program| program.result().to_string())
}

#[test]
fn what_does_not_fit_the_schema_is_told_before_it_runs() {
    for (source, want) in [
        ("self.x > 1", "bool"),
        ("self.any == 1 || self.any == 'a'", "bool"),
        ("self.when < timestamp('2026-01-02T03:04:05Z') && self.__namespace__ == 'x' && self.metadata.name == 'a'", "bool"),
        ("self.list", "list(string)"),
        ("self.map.map(k, k)", "list(string)"),
        ("self.y > 1", "ERROR: <input>:1:5: undefined field 'y'\n | self.y > 1\n | ....^"),
        ("other", "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other\n | ^"),
        ("self.x + 'a'", "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n | self.x + 'a'\n | .......^"),
        ("self.x.size()", "ERROR: <input>:1:12: found no matching overload for 'size' applied to 'int.()'\n | self.x.size()\n | ...........^"),
        ("self.s.foo(1)", "ERROR: <input>:1:11: undeclared reference to 'foo' (in container '')\n | self.s.foo(1)\n | ..........^"),
        ("self.x.y", "ERROR: <input>:1:7: type 'int' does not support field selection\n | self.x.y\n | ......^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("self.unknown.a", "ERROR: <input>:1:5: undefined field 'unknown'\n | self.unknown.a\n | ....^"),
        ("self.metadata.labels.size() > 0", "ERROR: <input>:1:14: undefined field 'labels'\n | self.metadata.labels.size() > 0\n | .............^"),
    ] {
        assert_eq!(issue(source), want, "{source}");
    }
}

fn schema() -> Json {
    json!({
        "type": "object",
        "x-kubernetes-validations": [{"rule": "self.metadata.name != 'forbidden'", "message": "the name is forbidden"}],
        "properties": {
            "spec": {
                "type": "object",
                "x-kubernetes-validations": [
                    {"rule": "self.min <= self.max", "messageExpression": "'min %d is above max %d'.format([self.min, self.max])", "fieldPath": ".min", "reason": "FieldValueForbidden"},
                    {"rule": "!has(oldSelf.fixed) || self.fixed == oldSelf.fixed", "message": "fixed is immutable"},
                    {"rule": "oldSelf.hasValue() || self.max < 100", "optionalOldSelf": true},
                ],
                "properties": {
                    "min": {"type": "integer"}, "max": {"type": "integer"}, "fixed": {"type": "string"},
                    "ports": {
                        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "x-kubernetes-validations": [{"rule": "self.port >= oldSelf.port", "message": "ports only rise"}],
                            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}
                    },
                    "tags": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self.size() < 4"}]}}
                }
            }
        }
    })
}

fn rules(schema: &Json) -> CompiledRules {
    let read = SchemaRef::new(Schema::from_open_api(schema).unwrap());
    CompiledRules::compile(schema, &read, &FieldPath::new("spec.validation.openAPIV3Schema"))
}

fn broken(new: &Json, old: Option<&Json>) -> (Vec<String>, Vec<String>) {
    let rules = rules(&schema());
    assert_eq!(rules.problems(), &vec![]);
    let broken = rules.validate(new, old);
    (broken.errors.iter().map(ToString::to_string).collect(), broken.warnings)
}

#[test]
fn rules_speak_where_they_stand() {
    let object = |name: &str, spec: Json| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": name}, "spec": spec});
    let good = object("a", json!({"min": 1, "max": 2, "fixed": "f", "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 5}]}));
    assert_eq!(broken(&good, None), (vec![], vec![]));
    let (errors, _) = broken(&object("forbidden", json!({"min": 3, "max": 200, "tags": {"k": "long text"}})), None);
    assert_eq!(
        errors,
        [
            "<nil>: Invalid value: \"object\": the name is forbidden",
            "spec: Invalid value: \"object\": failed rule: oldSelf.hasValue() || self.max < 100",
            "spec.tags[k]: Invalid value: \"string\": failed rule: self.size() < 4",
        ]
    );
    let (errors, _) = broken(&object("a", json!({"min": 3, "max": 2})), None);
    assert_eq!(errors, ["spec.min: Forbidden: min 3 is above max 2"]);
    // Reordered elements are still themselves.
    let changed =
        object("a", json!({"min": 1, "max": 2, "fixed": "g", "ports": [{"name": "b", "port": 4}, {"name": "c", "port": 0}, {"name": "a", "port": 1}]}));
    let (errors, _) = broken(&changed, Some(&good));
    assert_eq!(errors, ["spec: Invalid value: \"object\": fixed is immutable", "spec.ports[0]: Invalid value: \"object\": ports only rise"]);
    // What was broken before and is as it was only warns.
    let bad = object("a", json!({"min": 3, "max": 2}));
    assert_eq!(broken(&bad, Some(&bad)), (vec![], vec!["spec.min: Forbidden: min 3 is above max 2".to_owned()]));
}

#[test]
fn bad_rules_are_problems_of_their_definition() {
    let bad = json!({"type": "object", "properties": {
        "x": {"type": "integer", "x-kubernetes-validations": [{"rule": "self.y == 1"}, {"rule": "self + 1"}, {"rule": " "}, {"rule": "self > 1", "reason": "Nope"}]},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}},
    }});
    let problems: Vec<String> = rules(&bad).problems().iter().map(ToString::to_string).collect();
    let at = |what: &str| format!("spec.validation.openAPIV3Schema.properties[{what}");
    assert_eq!(
        problems,
        [
            at(
                "list].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[list]"
            ),
            at(
                "x].x-kubernetes-validations[0].rule: Invalid value: {\"rule\":\"self.y == 1\"}: compilation failed: ERROR: <input>:1:5: type 'int' does not support field selection\n | self.y == 1\n | ....^"
            ),
            at("x].x-kubernetes-validations[1].rule: Invalid value: {\"rule\":\"self + 1\"}: cel expression must evaluate to a bool"),
            at("x].x-kubernetes-validations[2].rule: Required value: rule is not specified"),
            at(
                "x].x-kubernetes-validations[3].reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
            ),
        ]
    );
}
