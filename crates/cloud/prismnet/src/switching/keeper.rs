//! Keeper: the records on disk, and the kernel led to what they mean before anybody is answered.
use super::plan::{SwitchingSettings, namespace_of, port, rules};
use super::records::{INTERFACE, Records};
use crate::netlink::Netlink;
use crate::plan::host_interface;
use crate::program::run;
use crate::{Engine, Error, NativeEngine, NetworkNamespace, nft, node};
use cloud_api::Refusal;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Status;

pub struct Keeper {
    pub settings: SwitchingSettings,
    file: PathBuf,
    mtu: u32,
    /// INVARIANT: what is in here is on disk.
    records: Mutex<Records>,
}

impl Keeper {
    /// With the records of an earlier run, and the kernel as they want it. Acts in the network namespace of the calling
    /// thread, and blocks.
    ///
    /// # Errors
    /// When the records can't be read, or the kernel refuses.
    pub fn open(settings: SwitchingSettings) -> Result<Arc<Self>, Error> {
        std::fs::create_dir_all(&settings.data_dir).map_err(Error::file(&settings.data_dir))?;
        let file = settings.data_dir.join("network.json");
        let mut records: Records = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Records { path: file.clone(), why: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(error) => return Err(Error::file(&file)(error)),
        };
        let network = settings.network();
        node::router(&network)?;
        let mtu = node::mtu(&network, &mut Netlink::open()?)?;
        lead(&settings, mtu, &Records::default(), &records)?;
        if !records.leaving.is_empty() {
            records.leaving.clear();
            write(&file, &records)?;
        }
        Ok(Arc::new(Self { settings, file, mtu, records: Mutex::new(records) }))
    }

    /// The records as they are.
    pub async fn read(&self) -> Records {
        self.records.lock().await.clone()
    }

    /// Changes the records: kept first, then made so, then answered. What is refused changes nothing.
    pub async fn change<T>(self: &Arc<Self>, decide: impl FnOnce(&mut Records) -> Result<T, Refusal>) -> Result<T, Status> {
        let mut records = self.records.lock().await;
        let mut next = records.clone();
        let outcome = decide(&mut next)?;
        if next == *records {
            return Ok(outcome);
        }
        let (this, before) = (self.clone(), records.clone());
        let done = tokio::task::spawn_blocking(move || this.put(&before, next)).await;
        let (now, failed) = done.map_err(|error| Status::internal(error.to_string()))?;
        *records = now;
        match failed {
            None => Ok(outcome),
            Some(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a change of the network could not be made");
                Err(Status::unavailable("the network can't be changed now"))
            }
        }
    }

    /// Gives what is on disk then, and what went wrong.
    fn put(&self, before: &Records, mut next: Records) -> (Records, Option<Error>) {
        if let Err(error) = write(&self.file, &next) {
            return (before.clone(), Some(error));
        }
        match lead(&self.settings, self.mtu, before, &next) {
            Ok(()) if next.leaving.is_empty() => (next, None),
            // A crash before this has it done again at the next start.
            Ok(()) => {
                let left = std::mem::take(&mut next.leaving);
                match write(&self.file, &next) {
                    Ok(()) => (next, None),
                    Err(_) => (Records { leaving: left, ..next }, None),
                }
            }
            Err(error) => {
                // Whoever asked is told that it was not done: it must not come by the next change or start.
                let back = Records { leaving: next.leaving.union(&made(before, &next)).cloned().collect(), ..before.clone() };
                // The first error tells why; where the way back fails too, the next start makes what is on disk.
                let _ = lead(&self.settings, self.mtu, before, &back);
                match write(&self.file, &back) {
                    Ok(()) => (back, Some(error)),
                    Err(_) => (next, Some(error)),
                }
            }
        }
    }
}

/// Node ends of ports that are new.
fn made(before: &Records, next: &Records) -> BTreeSet<String> {
    let is_new = |id: &&String| !before.ports.get(*id).is_some_and(|port| port.attached);
    let attached = next.ports.iter().filter(|(_, port)| port.attached).map(|(id, _)| id);
    attached.filter(is_new).map(|id| host_interface(id, INTERFACE)).collect()
}

fn write(file: &Path, records: &Records) -> Result<(), Error> {
    let text = serde_json::to_vec(records).expect("records always encode");
    pki::write_atomically(file, &text, 0o600).map_err(|error| Error::Records { path: file.to_owned(), why: error.to_string() })
}

/// Makes the kernel as `next` wants it. First what goes, as its address may be another's at once; then the rules, so that
/// a port's first packet is judged right; then what comes. May be repeated.
fn lead(settings: &SwitchingSettings, mtu: u32, before: &Records, next: &Records) -> Result<(), Error> {
    for host_interface in &next.leaving {
        NativeEngine.detach(host_interface)?;
        delete_namespace(host_interface)?;
    }
    nft::run(&rules(settings, next))?;
    for (id, record) in next.ports.iter().filter(|(_, record)| record.attached) {
        if before.ports.get(id).is_some_and(|before| before == record) {
            continue;
        }
        let plan = port(settings, mtu, next, id, record);
        if let Err(first) = attach(id, &plan) {
            tracing::warn!(error = &first as &dyn std::error::Error, port = plan.alias(), "a port is made anew");
            // Half of a namespace is what a death in the middle leaves.
            delete_namespace(&plan.host_interface)?;
            attach(id, &plan)?;
        }
    }
    Ok(())
}

fn attach(id: &str, plan: &crate::PortPlan) -> Result<(), Error> {
    let path = namespace_of(id);
    if !Path::new(&path).exists() {
        ip(&["netns", "add", &plan.host_interface])?;
    }
    NativeEngine.attach(plan, &NetworkNamespace::open(path)?).map(drop)
}

fn delete_namespace(name: &str) -> Result<(), Error> {
    if Path::new("/run/netns").join(name).exists() { ip(&["netns", "delete", name]) } else { Ok(()) }
}

fn ip(arguments: &[&str]) -> Result<(), Error> {
    run("ip", &arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())
}
