//! Lifecycle hooks: postStart and preStop.
use super::action::ActionTarget;
use super::http;
use crate::pod::identity::pod_text;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use std::time::Duration;

/// Why a hook failed: the text of upstream's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HookError(String);

/// How long an HTTP hook may take when nothing else limits it.
const HTTP_LIMIT: Duration = Duration::from_secs(60);

/// Runs a hook to its end. `limit` is what of the grace is left, for preStop.
pub async fn run_hook(target: &ActionTarget, pod: &Pod, handler: &LifecycleHandler, limit: Option<Duration>) -> Result<(), HookError> {
    let name = &target.container.name;
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let text = command.join(" ");
        let answer = target.runtime.exec_sync(&target.container_id, command, limit).await;
        let error = match answer {
            Ok(answer) if answer.exit_code == 0 => return Ok(()),
            Ok(answer) => {
                let output = [answer.stdout, answer.stderr].concat();
                format!(
                    "command '{text}' exited with {}: {}, message: {:?}",
                    answer.exit_code,
                    String::from_utf8_lossy(&output),
                    String::from_utf8_lossy(&output)
                )
            }
            Err(error) => error.to_string(),
        };
        return Err(HookError(format!("Exec lifecycle hook ([{text}]) for Container \"{name}\" in Pod \"{}\" failed - error: {error}", pod_text(pod))));
    }
    if let Some(get) = &handler.http_get {
        let port = target.port(&get.port).map_err(HookError)?;
        let request = http::Get::new(get, &target.address, port);
        let limit = limit.unwrap_or(HTTP_LIMIT);
        let sent = match http::send(&request, limit).await {
            // A server that speaks plain HTTP on this port is asked so (upstream keeps old manifests working).
            Err(error) if get.scheme.as_deref() == Some("HTTPS") && !error.contains("dial tcp") => http::send(&request.plain(), limit).await,
            sent => sent,
        };
        return sent.map(|_| ()).map_err(|error| {
            HookError(format!(
                "HTTP lifecycle hook ({}) for Container \"{name}\" in Pod \"{}\" failed - error: {error}",
                get.path.as_deref().unwrap_or_default(),
                pod_text(pod)
            ))
        });
    }
    if let Some(sleep) = &handler.sleep {
        let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(limit.map_or(wanted, |limit| wanted.min(limit))).await;
        return Ok(());
    }
    Err(HookError(format!("invalid handler: {handler:?}")))
}
