//! Expressions: CEL, compiled and run within its limits.
use api_schema::cel::{CALL_LIMIT, Environment, Structs, Type, Value, admission};
use serde_json::json;
use std::collections::BTreeMap;

pub fn cel(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let object = json!({"a": 1, "b": "text", "list": [1, 2, 3], "map": {"x": 1.5, "y": null}, "nested": {"deep": {"name": "n"}}});
    for environment in [Environment::new([("object", Type::Dyn)]), admission::environment(true, true).with_structs(Structs::Mutations)] {
        let Ok(program) = environment.compile(source) else { continue };
        let variables = BTreeMap::from([("object", Value::of_json(&object))]);
        if let Ok(value) = program.run(&variables, CALL_LIMIT / 10).value {
            // Not everything can be told as JSON.
            let _ = value.to_json();
        }
    }
}

pub fn examples() -> Vec<Vec<u8>> {
    super::texts(&[
        "1 + 2 * 3 - 4 / 2 % 3 == -5",
        "object.list.all(x, x > 0) && object.list.exists(x, x == 2) || !object.list.exists_one(x, x == 3)",
        "object.list.map(x, x * 2).filter(x, x != 2).size() in [1, 2, 3] ? 'a' : \"b\"",
        "has(object.map.x) && object.?nothing.orValue('none') == 'none'",
        "{'a': [1], 'b': [2, dyn(true)]}['b'][0]",
        "'%s is %d or %.2f of %s %x %e'.format(['x', 3, 1.5, [1, dyn('a')], 255, 1.0])",
        "'a-b-c'.split('-', 2).join('+') + 'héllo'.substring(1, 3) + 'abc'.charAt(2).upperAscii().replace('a', 'b', 1)",
        "duration('1h30m') > duration('89m') && timestamp('2026-01-02T03:04:05Z').getMonth('UTC') == 0",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')).asInteger() == 1",
        "ip('192.168.0.1').family() == 4 && cidr('192.168.0.0/16').containsIP('192.168.0.1')",
        "url('https://a.b:80/c?d=e').getQuery()['d'][0]",
        "sets.contains([1, 2, 3], [2, 3]) && [3, 1, 2].max() + [1.5, 2.0].sum() > 0.0",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2",
        "b'abc' == bytes(\"abc\") && r'\\d' == '\\\\d' && '''a'b''' == \"a'b\" && '\\u00e9\\x41\\101' != ''",
        "0x10 == 16 && 5u + 1u == 6u && int('7') == 7 && double(1) == 1e0 && -9223372036854775808 < 0",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10)",
        "object.nested.deep.name.find('[a-z]+') + 'abcabc'.findAll('b')[1]",
        "cel.bind(x, object.a, x + x) + [[1], [2]].flatten()[0]",
        "authorizer.group('apps').resource('deployments').namespace('x').check('get').allowed()",
        "Object{metadata: Object.metadata{labels: {'a': 'b'}}}",
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'y'}]",
        "format.dns1123Label().validate('Not_A_Label').hasValue()",
        "((((((((((((object.a))))))))))))",
        "!!!!!!!!true == - - - -1 > 0",
    ])
}
