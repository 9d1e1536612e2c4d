//! Selectors of devices (KEP 4381): expressions over one device, as DeviceClasses and ResourceClaims have them.
use super::semver::Semver;
use super::types::{ObjectType, Type};
use super::value::{Key, Value};
use super::{CALL_LIMIT, Environment, Program};
use api_meta::Quantity;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Bytes an expression may have.
pub const LONGEST: usize = 10 << 10;

/// Names of attributes without a domain are the driver's own.
fn by_domain<'a, V>(driver: &'a str, entries: impl Iterator<Item = (&'a String, V)>) -> BTreeMap<&'a str, BTreeMap<Key<'a>, V>> {
    let mut domains: BTreeMap<&str, BTreeMap<Key<'_>, V>> = BTreeMap::new();
    for (name, value) in entries {
        let (domain, identifier) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().insert(Key::String(identifier.into()), value);
    }
    domains
}

/// A domain nobody has anything in is an empty one.
fn nested<'a>(domains: BTreeMap<&'a str, BTreeMap<Key<'a>, Value<'a>>>) -> Value<'a> {
    let domains = domains.into_iter().map(|(domain, entries)| (Key::String(domain.into()), Value::Map(Rc::new(entries)))).collect();
    Value::MapOr(Rc::new((domains, Value::Map(Rc::default()))))
}

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let map = |of: Type| Type::Map(Arc::new(Type::String), Arc::new(Type::Map(Arc::new(Type::String), Arc::new(of))));
    let fields = [
        ("driver", Type::String),
        ("attributes", map(Type::Dyn)),
        ("capacity", map(Type::Opaque("kubernetes.Quantity"))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let device = ObjectType::of_fields("kubernetes.DRADevice", fields.map(|(name, of)| (name.to_owned(), of)));
    Environment::new([("device", Type::Object(device))])
});

/// A selector, ready to be asked of any number of devices.
#[derive(Debug)]
pub struct DeviceSelector(Program);

impl DeviceSelector {
    /// # Errors
    /// What is wrong with the expression.
    pub fn compile(expression: &str) -> Result<Self, String> {
        let program = ENVIRONMENT.compile(expression).map_err(|issues| format!("compilation failed: {issues}"))?;
        match program.result() {
            Type::Bool | Type::Dyn => Ok(Self(program)),
            other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
        }
    }

    /// Whether it takes a device as a ResourceSlice has it.
    ///
    /// # Errors
    /// Why the expression has no answer for it.
    pub fn matches(&self, driver: &str, device: &Json) -> Result<bool, String> {
        let entries = |field: &str| device[field].as_object().into_iter().flatten();
        let attributes = entries("attributes").filter_map(|(name, attribute)| Some((name, of_attribute(attribute)?)));
        let capacity = entries("capacity").filter_map(|(name, capacity)| {
            let value = capacity["value"].as_str().and_then(|text| Quantity::parse(text).ok())?;
            Some((name, Value::Quantity(Rc::new(value))))
        });
        let fields = [
            ("driver", Value::String(driver.into())),
            ("attributes", nested(by_domain(driver, attributes))),
            ("capacity", nested(by_domain(driver, capacity))),
            ("allowMultipleAllocations", Value::Bool(device["allowMultipleAllocations"] == true)),
        ];
        let seen = fields.into_iter().map(|(name, value)| (Key::String(name.into()), value)).collect();
        let variables = BTreeMap::from([("device", Value::Map(Rc::new(seen)))]);
        match self.0.run(&variables, CALL_LIMIT).value {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(format!("CEL expression result type was {}, expected bool", other.type_name())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Selectors, each compiled once.
#[derive(Debug, Default)]
pub struct DeviceSelectors(Mutex<HashMap<String, Compiled>>);

type Compiled = Arc<Result<DeviceSelector, String>>;

/// Expressions that are kept compiled; more than these are hardly in use at once.
const KEPT: usize = 1024;

impl DeviceSelectors {
    /// # Errors
    /// What is wrong with the expression, or why it has no answer for this device.
    pub fn matches(&self, expression: &str, driver: &str, device: &Json) -> Result<bool, String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(expression).cloned();
        let compiled = known.unwrap_or_else(|| {
            let compiled = Arc::new(DeviceSelector::compile(expression));
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= KEPT {
                all.clear();
            }
            all.insert(expression.to_owned(), compiled.clone());
            compiled
        });
        match &*compiled {
            Ok(selector) => selector.matches(driver, device),
            Err(why) => Err(why.clone()),
        }
    }
}

fn of_attribute(attribute: &Json) -> Option<Value<'_>> {
    let (kind, value) = attribute.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "bool" => Value::Bool(value.as_bool()?),
        "int" => Value::Int(value.as_i64()?),
        "string" => Value::String(value.as_str()?.into()),
        "version" => Value::Semver(Rc::new(Semver::parse(value.as_str()?, false).ok()?)),
        "bools" | "ints" | "strings" => Value::of_json(value),
        "versions" => {
            let versions = value.as_array()?.iter().map(|version| Some(Value::Semver(Rc::new(Semver::parse(version.as_str()?, false).ok()?))));
            Value::List(Rc::new(versions.collect::<Option<_>>()?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(expression: &str) -> Result<bool, String> {
        let device = json!({
            "name": "gpu-0",
            "attributes": {"model": {"string": "a100"}, "cores": {"int": 8}, "driverVersion": {"version": "1.2.3"}, "example.org/numa": {"int": 1}},
            "capacity": {"memory": {"value": "40Gi"}},
        });
        DeviceSelector::compile(expression)?.matches("gpu.example.com", &device)
    }

    #[test]
    fn devices_are_chosen_by_driver_attributes_and_capacity() {
        for (expression, answer) in [
            (r#"device.driver == "gpu.example.com""#, true),
            (r#"device.attributes["gpu.example.com"].model == "a100""#, true),
            (r#"device.attributes["gpu.example.com"].cores > 8"#, false),
            (r#"device.attributes["example.org"].numa == 1"#, true),
            (r#"device.attributes["gpu.example.com"].driverVersion.isGreaterThan(semver("1.2.0"))"#, true),
            (r#"device.capacity["gpu.example.com"].memory.compareTo(quantity("40Gi")) >= 0"#, true),
            (r#"has(device.attributes["nobody.example.com"].model)"#, false),
            (r#""nobody.example.com" in device.attributes"#, false),
            (r#"device.attributes["nobody.example.com"].?model.orValue("none") == "none""#, true),
            ("device.allowMultipleAllocations", false),
        ] {
            assert_eq!(ask(expression), Ok(answer), "{expression}");
        }
    }

    #[test]
    fn what_has_no_answer_says_why() {
        assert_eq!(ask(r#"device.attributes["gpu.example.com"].speed > 1"#), Err("no such key: speed".into()));
        assert_eq!(ask("device.driver"), Err("must evaluate to bool or the unknown type, not string".into()));
        assert!(ask("device.weight > 1").unwrap_err().contains("undefined field 'weight'"));
        assert!(ask("1 +").unwrap_err().starts_with("compilation failed: ERROR: <input>"));
    }
}
