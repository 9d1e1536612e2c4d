//! `k8shost lightningstor`: volumes alone, by the gRPC API and by CSI.
use crate::service_alone::{ServiceArgs, until_told_to_end};
use anyhow::{Context, Result};
use clock::{Clock, SystemClock};
use lightningstor::{Driver, Engine, FileEngine, LightningStorSettings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(clap::Args)]
pub struct LightningstorArgs {
    /// Where volumes and, unless given, certificates are kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/k8shost/lightningstor")]
    data_dir: PathBuf,
    /// Address and port of the gRPC API
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8000")]
    listen: SocketAddr,
    /// This node's name, in topologies and attachments [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where volumes of type ssd lie [default: ssd in the data directory]
    #[arg(long, value_name = "DIRECTORY")]
    ssd_dir: Option<PathBuf>,
    /// Where volumes of type hdd lie [default: hdd in the data directory]
    #[arg(long, value_name = "DIRECTORY")]
    hdd_dir: Option<PathBuf>,
    /// Serve CSI at this socket too
    #[arg(long, value_name = "SOCKET")]
    csi_endpoint: Option<String>,
    /// Tell the kubelet of the driver in its directory of plugin registrations
    #[arg(long, value_name = "DIRECTORY", requires = "csi_endpoint")]
    kubelet_registration: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArgs,
}

pub fn main(args: LightningstorArgs) -> Result<()> {
    telemetry::init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: LightningstorArgs) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let node_name = match args.node_name {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname").context("asking for the machine's name")?.trim().to_lowercase(),
    };
    let verifier = args.service.verifier(clock.clone())?;
    let tls = args.service.tls("lightningstor", &args.data_dir, clock.clone())?;
    let mut settings = LightningStorSettings::under(&args.data_dir, &node_name);
    let chosen = [("ssd", args.ssd_dir), ("hdd", args.hdd_dir)];
    settings.directories.extend(chosen.into_iter().filter_map(|(kind, directory)| Some((kind.to_owned(), directory?))));
    let engine: Arc<dyn Engine> = tokio::task::spawn_blocking(move || FileEngine::open(settings, clock)).await?.map(Arc::new).context("opening the volumes")?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let stop = until_told_to_end()?;
    let volumes = lightningstor::serve_volumes(engine.clone(), listener, Arc::new(tls), Arc::new(verifier), stop.clone());
    tracing::info!(address = %args.listen, "lightningstor is ready");
    match &args.csi_endpoint {
        Some(endpoint) => {
            let socket = PathBuf::from(endpoint.trim_start_matches("unix://"));
            let driver = lightningstor::serve(Driver::new(engine, &node_name), &socket, args.kubelet_registration.as_deref(), stop.clone());
            let ends = async {
                let served = driver.await;
                // Without the one nobody is served right by the other.
                stop.cancel();
                served
            };
            let (served, ()) = tokio::join!(ends, volumes);
            served.with_context(|| format!("serving CSI at {}", socket.display()))?;
        }
        None => volumes.await,
    }
    tracing::info!("lightningstor has stopped");
    Ok(())
}
