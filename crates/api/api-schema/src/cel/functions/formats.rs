//! Named formats: `format.dns1123Label().validate(x)`.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, NO_OVERLOAD};
use api_meta::names;
use std::rc::Rc;

const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let named = |name: &str| FORMATS.iter().find(|known| **known == name).copied();
    if function == "format.named" {
        let name = arguments.first()?.as_text()?;
        return Some(Ok(Value::Optional(named(name).map(|format| Rc::new(Value::Format(format))))));
    }
    if let Some(name) = function.strip_prefix("format.") {
        return named(name).map(|format| Ok(Value::Format(format)));
    }
    if function != "validate" {
        return None;
    }
    let (Value::Format(format), Some(Value::String(text))) = (arguments.first()?, arguments.get(1)) else { return Some(failed(NO_OVERLOAD)) };
    let errors = errors(format, text);
    let listed = || Value::List(Rc::new(errors.iter().map(|error| Value::string(error.as_str())).collect()));
    Some(Ok(Value::Optional(if errors.is_empty() { None } else { Some(Rc::new(listed())) })))
}

fn errors(format: &str, text: &str) -> Vec<String> {
    // The prefix of a generated name may end in a dash.
    let prefix = || text.strip_suffix('-').map_or_else(|| text.to_owned(), |stem| format!("{stem}a"));
    let says = |good: bool, why: &str| if good { Vec::new() } else { vec![why.to_owned()] };
    match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1035Label" => names::dns1035_label(text),
        "qualifiedName" => names::qualified_name(text),
        "dns1123LabelPrefix" => names::dns1123_label(&prefix()),
        "dns1123SubdomainPrefix" => names::dns1123_subdomain(&prefix()),
        "dns1035LabelPrefix" => names::dns1035_label(&prefix()),
        "labelValue" => names::label_value(text),
        "uri" => says(super::super::url::Url::parse(text).is_ok(), "invalid URI"),
        "uuid" => says(is_uuid(text), "does not match the UUID format"),
        "byte" => says(is_base64(text), "invalid base64"),
        "date" => says(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date"),
        _ => says(text.parse::<jiff::Timestamp>().is_ok(), "invalid datetime"),
    }
}

fn is_uuid(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    plain.len() == 32 && plain.iter().all(char::is_ascii_hexdigit)
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}
