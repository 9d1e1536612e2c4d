//! Strings and regular expressions. Positions count characters, not bytes.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, LARGEST, NO_OVERLOAD, list, printing, text};
use regex::Regex;

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let first = arguments.first()?;
    if let ("join", Some(elements)) = (function, first.elements()) {
        return Some(join(&elements, arguments.get(1)));
    }
    let subject = first.as_text()?;
    let string = |index: usize| arguments.get(index).and_then(Value::as_text);
    let int = |index: usize| match arguments.get(index) {
        Some(Value::Int(int)) => Some(*int),
        _ => None,
    };
    Some(match (function, string(1), string(2)) {
        ("contains", Some(part), _) => Ok(subject.contains(part).into()),
        ("startsWith", Some(part), _) => Ok(subject.starts_with(part).into()),
        ("endsWith", Some(part), _) => Ok(subject.ends_with(part).into()),
        ("matches", Some(pattern), _) => regex(pattern).map_or_else(failed, |regex| Ok(regex.is_match(subject).into())),
        ("find", Some(pattern), _) => regex(pattern).map_or_else(failed, |regex| Ok(Value::string(regex.find(subject).map_or("", |found| found.as_str())))),
        ("findAll", Some(pattern), _) => {
            let most = int(2).and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            regex(pattern).map_or_else(failed, |regex| list(regex.find_iter(subject).take(most).map(|found| Value::string(found.as_str())).collect()))
        }
        ("charAt", ..) => match int(1) {
            Some(at) => char_at(subject, at),
            None => failed(NO_OVERLOAD),
        },
        ("indexOf", Some(part), _) => index_of(subject, part, int(2).unwrap_or(0), false),
        ("lastIndexOf", Some(part), _) => index_of(subject, part, int(2).unwrap_or(i64::MAX), true),
        ("lowerAscii", ..) => Ok(Value::string(subject.to_ascii_lowercase())),
        ("upperAscii", ..) => Ok(Value::string(subject.to_ascii_uppercase())),
        ("trim", ..) => Ok(Value::string(subject.trim())),
        ("replace", Some(old), Some(new)) => replace(subject, old, new, int(3)),
        ("split", Some(separator), _) => split(subject, separator, int(2)),
        ("substring", ..) => match int(1) {
            Some(start) => substring(subject, start, int(2)),
            None => failed(NO_OVERLOAD),
        },
        ("strings.quote", ..) => Ok(Value::string(format!("{subject:?}"))),
        ("jsonpatch.escapeKey", ..) => Ok(Value::string(subject.replace('~', "~0").replace('/', "~1"))),
        ("format", ..) => match arguments.get(1).and_then(Value::elements) {
            Some(elements) => printing::format(subject, &elements).map(Value::string),
            None => failed(NO_OVERLOAD),
        },
        _ => return None,
    })
}

fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|_| format!("error parsing regexp: invalid pattern: `{pattern}`"))
}

fn out_of_range<'a>(index: i64) -> Called<'a> {
    failed(format!("index out of range: {index}"))
}

fn char_at<'a>(subject: &str, at: i64) -> Called<'a> {
    let length = subject.chars().count() as i64;
    match at {
        at if at < 0 || at > length => out_of_range(at),
        at if at == length => Ok(Value::string("")),
        at => Ok(Value::string(subject.chars().nth(at as usize).map(String::from).unwrap_or_default())),
    }
}

fn index_of<'a>(subject: &str, part: &str, from: i64, last: bool) -> Called<'a> {
    let (characters, wanted): (Vec<char>, Vec<char>) = (subject.chars().collect(), part.chars().collect());
    let length = characters.len() as i64;
    let from = if last && from == i64::MAX { length } else { from };
    if from < 0 || from > length {
        return out_of_range(from);
    }
    let fits = |at: &usize| characters[*at..].starts_with(&wanted);
    let end = (characters.len() + 1).saturating_sub(wanted.len());
    let found = if last { (0..end.min(from as usize + 1)).rev().find(fits) } else { (from as usize..end).find(fits) };
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn substring<'a>(subject: &str, start: i64, end: Option<i64>) -> Called<'a> {
    let length = subject.chars().count() as i64;
    let end = end.unwrap_or(length);
    if start < 0 || start > length {
        return out_of_range(start);
    }
    if end < 0 || end > length {
        return out_of_range(end);
    }
    if start > end {
        return failed(format!("invalid substring range. start: {start}, end: {end}"));
    }
    Ok(Value::string(subject.chars().skip(start as usize).take((end - start) as usize).collect::<String>()))
}

fn replace<'a>(subject: &str, old: &str, new: &str, most: Option<i64>) -> Called<'a> {
    let places = if old.is_empty() { subject.chars().count() + 1 } else { subject.matches(old).count() };
    if subject.len().saturating_add(places.saturating_mul(new.len())) > LARGEST {
        return failed("string exceeds the largest size");
    }
    Ok(Value::string(match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => subject.replacen(old, new, most),
        None => subject.replace(old, new),
    }))
}

fn split<'a>(subject: &str, separator: &str, most: Option<i64>) -> Called<'a> {
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    if most == 0 {
        return list(Vec::new());
    }
    let parts: Vec<String> = if separator.is_empty() {
        let characters: Vec<char> = subject.chars().collect();
        let (single, rest) = characters.split_at(characters.len().min(most.saturating_sub(1)));
        let mut parts: Vec<String> = single.iter().map(|c| c.to_string()).collect();
        if !rest.is_empty() {
            parts.push(rest.iter().collect());
        }
        parts
    } else {
        subject.splitn(most, separator).map(str::to_owned).collect()
    };
    list(parts.into_iter().map(Value::string).collect())
}

fn join<'a>(elements: &[Value<'a>], separator: Option<&Value<'a>>) -> Called<'a> {
    let separator = separator.and_then(Value::as_text).unwrap_or_default();
    let Some(parts) = elements.iter().map(Value::as_text).collect::<Option<Vec<_>>>() else { return failed(NO_OVERLOAD) };
    if parts.iter().map(|part| part.len() + separator.len()).sum::<usize>() > LARGEST {
        return failed("string exceeds the largest size");
    }
    text(parts.join(separator))
}
