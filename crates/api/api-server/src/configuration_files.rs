//! Configuration files that are followed: read again when they change, and in force from then on if nothing is wrong with them.
use crate::ApiServer;
use crate::server_options::ConfigurationFile;
use clock::Clock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sha2::{Digest, Sha256};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How often a file is looked at. It is as small as a page, and there only where somebody asked for it.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    status: &'static str,
    apiserver_id_hash: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InfoLabels {
    apiserver_id_hash: String,
    hash: String,
}

/// What is counted about one file, by upstream's names.
struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    last: Family<ReloadLabels, Gauge<f64, AtomicU64>>,
    info: Family<InfoLabels, Gauge>,
}

impl Metrics {
    fn registered(prefix: &str, what: &str) -> Self {
        let all = Self { reloads: Family::default(), last: Family::default(), info: Family::default() };
        let register = |name: &str, help: String, metric: &dyn Fn(&str, &str)| metric(&format!("{prefix}_{name}"), &help);
        register(
            "automatic_reloads",
            format!("Total number of automatic reloads of {what} configuration split by status and apiserver identity"),
            &|name, help| {
                telemetry::metrics::register(name, help, all.reloads.clone());
            },
        );
        let help = format!("Timestamp of the last automatic reload of {what} configuration split by status and apiserver identity");
        register("automatic_reload_last_timestamp_seconds", help, &|name, help| telemetry::metrics::register(name, help, all.last.clone()));
        let help = format!("Information about the last applied {what} configuration with hash as label, split by apiserver identity");
        register("last_config_info", help, &|name, help| telemetry::metrics::register(name, help, all.info.clone()));
        all
    }

    fn reloaded(&self, status: &'static str, server: &str, clock: &dyn Clock) {
        let labels = ReloadLabels { status, apiserver_id_hash: server.to_owned() };
        self.reloads.get_or_create(&labels).inc();
        self.last.get_or_create(&labels).set(clock.now().as_millisecond() as f64 / 1000.0);
    }

    fn in_force(&self, server: &str, text: &str) {
        self.info.clear();
        self.info.get_or_create(&InfoLabels { apiserver_id_hash: server.to_owned(), hash: hashed(text) }).set(1);
    }
}

static AUTHENTICATION: LazyLock<Metrics> = LazyLock::new(|| Metrics::registered("apiserver_authentication_config_controller", "authentication"));
static AUTHORIZATION: LazyLock<Metrics> = LazyLock::new(|| Metrics::registered("apiserver_authorization_config_controller", "authorization"));

#[derive(Clone, Copy)]
enum Which {
    Authentication,
    Authorization,
}

/// Follows the files that the server was told of, until it stops.
pub fn follow(server: &Arc<ApiServer>) {
    let of_server = |which, file: &Option<ConfigurationFile>| {
        let Some(file) = file.clone() else { return };
        let server = server.clone();
        tokio::spawn(async move {
            let shutdown = server.shutdown.clone();
            shutdown.run_until_cancelled(server.follow_file(which, file)).await;
        });
    };
    of_server(Which::Authentication, &server.options.authentication_config);
    of_server(Which::Authorization, &server.options.authorization_config);
}

impl ApiServer {
    async fn follow_file(&self, which: Which, file: ConfigurationFile) {
        let ConfigurationFile { path, text: mut last } = file;
        let metrics = match which {
            Which::Authentication => &*AUTHENTICATION,
            Which::Authorization => &*AUTHORIZATION,
        };
        let id = hashed(&self.advertised);
        metrics.in_force(&id, &last);
        self.fetch_keys(which).await;
        let mut unreadable = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let text = match tokio::fs::read_to_string(&path).await {
                Ok(text) => text,
                Err(error) => {
                    // Told once, not every second.
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::error!(file = %path.display(), %error, "the configuration file can't be read; what it said before holds on");
                        metrics.reloaded("failure", &id, &*self.clock);
                    }
                    continue;
                }
            };
            unreadable = false;
            if text == last {
                continue;
            }
            let replaced = match which {
                Which::Authentication => self.authentication.jwt().map_or(Ok(()), |jwt| jwt.replace(&text)),
                Which::Authorization => self.authorizer.replace(&text).await,
            };
            match replaced {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "the configuration file has changed and is in force");
                    metrics.reloaded("success", &id, &*self.clock);
                    metrics.in_force(&id, &text);
                    self.fetch_keys(which).await;
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), error, "the configuration file is not usable; what it said before holds on");
                    metrics.reloaded("failure", &id, &*self.clock);
                }
            }
            last = text;
        }
    }

    async fn fetch_keys(&self, which: Which) {
        if let (Which::Authentication, Some(jwt)) = (which, self.authentication.jwt()) {
            jwt.fetch_keys().await;
        }
    }
}

fn hashed(text: &str) -> String {
    let hex: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
