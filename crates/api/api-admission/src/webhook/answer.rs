//! Answer: what a webhook sent back, read as Go's client reads it.
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

pub(crate) struct Answer {
    pub code: StatusCode,
    pub body: Bytes,
}

/// The review in an answer; the error says why there is none.
pub(super) fn decoded(answer: &Answer) -> Result<Value, String> {
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.code.is_success() {
        if let Ok(status) = serde_json::from_slice::<Value>(&answer.body)
            && status["kind"] == "Status"
            && let Some(message) = status["message"].as_str()
        {
            return Err(message.to_owned());
        }
        let shown: String = text.trim().chars().take(2048).collect();
        let shown = if shown.is_empty() { "unknown".to_owned() } else { shown };
        return Err(match answer.code.as_u16() {
            400 => "the server rejected our request for an unknown reason".into(),
            401 => "the server has asked for the client to provide credentials".into(),
            403 => shown,
            404 => "the server could not find the requested resource".into(),
            405 => "the server does not allow this method on the requested resource".into(),
            406 => format!("the server was unable to respond with a content type that the client supports ({shown})"),
            409 => "the server reported a conflict".into(),
            415 => "the body of the request was in an unknown format - accepted media types include: ".to_owned() + &shown,
            422 => "the server rejected our request due to an error in our request".into(),
            429 => "the server has received too many requests and has asked us to try again later".into(),
            503 => "the server is currently unable to handle the request".into(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
            code if code >= 500 => format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
            code => format!("the server responded with the status code {code} but did not return more information"),
        });
    }
    let failed = |why: String| format!("couldn't get version/kind; json parse error: {why}");
    let value: Value = serde_json::from_slice(&answer.body).map_err(|error| failed(go_json_error(&text, &error)))?;
    if !value.is_object() {
        return Err(failed("json: cannot unmarshal into Go value of type struct { APIVersion string; Kind string }".into()));
    }
    for (field, title) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if value[field].as_str().unwrap_or_default().is_empty() {
            return Err(format!("Object '{title}' is missing in '{}'", text.trim()));
        }
    }
    Ok(value)
}

fn go_json_error(text: &str, error: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        None => "unexpected end of JSON input".into(),
        _ if error.is_eof() => "unexpected end of JSON input".into(),
        Some(first) if !matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') => {
            format!("invalid character {:?} looking for beginning of value", first)
        }
        _ => error.to_string(),
    }
}
