//! Connections are admitted by the options they come with: exec, attach, port-forward and proxy.
use crate::ApiServer;
use crate::context::Context;
use api_admission::Operation;
use api_meta::Status;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

impl ApiServer {
    /// Asks admission about a connection; gives the query it is made with. Whatever is no connection goes on as it is.
    pub(super) async fn connecting(&self, context: &Context<'_>, query: &str) -> Result<String, Status> {
        let Some((kind_name, options)) = options(context) else { return Ok(query.to_owned()) };
        let route = context.route;
        let kind = self.kinds.find(context.cluster, &route.group, &route.version, &route.resource).ok_or_else(Status::no_such_resource)?;
        let admitted = self.admit(context, &kind, ("", "v1", kind_name), Operation::Connect, &route.name, options.clone(), &Value::Null, false).await?;
        // What admission changed is what the node is asked for.
        Ok(if admitted == options { query.to_owned() } else { to_query(&admitted) })
    }
}

/// The options a connection is opened with, and their kind.
fn options(context: &Context<'_>) -> Option<(&'static str, Value)> {
    let query = context.query;
    let (kind, flags): (_, &[&str]) = match (context.route.resource.as_str(), context.route.subresource.as_str()) {
        ("pods", "exec") => ("PodExecOptions", &["stdin", "stdout", "stderr", "tty"]),
        ("pods", "attach") => ("PodAttachOptions", &["stdin", "stdout", "stderr", "tty"]),
        ("pods", "portforward") => ("PodPortForwardOptions", &[]),
        ("pods", "proxy") => ("PodProxyOptions", &[]),
        ("services", "proxy") => ("ServiceProxyOptions", &[]),
        ("nodes", "proxy") => ("NodeProxyOptions", &[]),
        _ => return None,
    };
    let mut options = json!({ "kind": kind, "apiVersion": "v1" });
    for flag in flags.iter().filter(|flag| query.flag(flag)) {
        options[*flag] = true.into();
    }
    let command: Vec<&str> = query.all("command").collect();
    match kind {
        "PodExecOptions" => options["command"] = command.into(),
        "PodPortForwardOptions" => {
            let ports: Vec<i64> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
            if !ports.is_empty() {
                options["ports"] = ports.into();
            }
        }
        "PodProxyOptions" | "ServiceProxyOptions" | "NodeProxyOptions" => options["path"] = format!("/{}", context.route.rest).into(),
        _ => {}
    }
    if let Some(container) = query.get("container").filter(|_| !flags.is_empty()) {
        options["container"] = container.into();
    }
    Some((kind, options))
}

fn to_query(options: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut parts = Vec::new();
    for (name, value) in options.as_object().into_iter().flatten().filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion")) {
        let values = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        parts.extend(values.iter().map(|value| format!("{name}={}", utf8_percent_encode(&text(value), NON_ALPHANUMERIC))));
    }
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_a_query_again() {
        let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh", "-c a"], "stdin": true});
        assert_eq!(to_query(&options), "command=sh&command=%2Dc%20a&stdin=true");
    }
}
