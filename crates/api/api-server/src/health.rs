//! Health endpoints, the version document and the process's own metrics.
use crate::ApiServer;
use crate::body::{self, Answer};
use crate::query::Query;
use api_meta::{ClusterName, GroupResource};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// What anybody may ask without proving who they are.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz") || ["/healthz/", "/livez/", "/readyz/"].iter().any(|prefix| path.starts_with(prefix))
}

struct Check {
    name: &'static str,
    ok: bool,
}

impl ApiServer {
    /// Says that what must exist before anybody is served exists.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the store answers.
    pub(crate) async fn store_works(&self) -> bool {
        let probe = store::Key::new(&ClusterName::root(), &GroupResource::new("", "namespaces"), "", "default");
        self.store.get(&probe).await.is_ok()
    }

    async fn checks(&self, ready: bool) -> Vec<Check> {
        let mut checks = vec![Check { name: "ping", ok: true }, Check { name: "store", ok: self.store_works().await }];
        if ready {
            checks.push(Check { name: "poststarthook/bootstrap", ok: self.ready.load(Ordering::Acquire) });
            checks.push(Check { name: "shutdown", ok: !self.shutdown.is_cancelled() });
        }
        checks
    }
}

pub async fn answer(server: &ApiServer, path: &str, query: &Query) -> Option<Answer> {
    let (base, single) = match path.trim_start_matches('/').split_once('/') {
        Some((base, single)) => (base, Some(single)),
        None => (path.trim_start_matches('/'), None),
    };
    if !matches!(base, "healthz" | "livez" | "readyz") {
        return None;
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut checks = server.checks(base == "readyz").await;
    if let Some(single) = single.filter(|s| !s.is_empty()) {
        checks.retain(|check| check.name == single);
        if checks.is_empty() {
            return Some(body::failure(&api_meta::Status::no_such_resource()));
        }
    }
    checks.retain(|check| !excluded.contains(&check.name));
    let all_ok = checks.iter().all(|check| check.ok);
    if all_ok && !query.flag("verbose") {
        return Some(body::text(StatusCode::OK, "ok"));
    }
    let mut text: String =
        checks.iter().map(|check| if check.ok { format!("[+]{} ok\n", check.name) } else { format!("[-]{} failed: reason withheld\n", check.name) }).collect();
    text.push_str(&format!("{base} check {}\n", if all_ok { "passed" } else { "failed" }));
    Some(body::text(if all_ok { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text))
}

pub fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37", "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": concat!("v1.37.0+k8shost.", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": concat!("linux/", "amd64"),
    })
}
