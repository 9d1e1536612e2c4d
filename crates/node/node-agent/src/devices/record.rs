//! Records: the claims that are or may be prepared on this node, in memory and on the disk.
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pods that use it, by uid.
    pub pods: BTreeSet<String>,
    /// Those that were or will be asked.
    pub drivers: BTreeSet<String>,
    pub devices: Vec<Device>,
    /// Whether the drivers were asked in this run of the agent: what they made may not outlive the machine's.
    #[serde(skip)]
    pub is_ready: bool,
}

/// A prepared device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The requests it is for; all where there are none.
    pub requests: Vec<String>,
    /// In CDI.
    pub names: Vec<String>,
}

impl Device {
    /// Whether a container that names this request, or none, gets it. A request stands for its alternatives.
    pub fn is_for(&self, request: Option<&str>) -> bool {
        let is_it = |own: &String, wanted: &str| own == wanted || own.split('/').next() == Some(wanted);
        self.requests.is_empty() || request.is_none_or(|wanted| self.requests.iter().any(|own| is_it(own, wanted)))
    }
}

/// By the claims' uids, a file each.
pub struct Records {
    directory: PathBuf,
    all: Mutex<BTreeMap<String, Record>>,
}

impl Records {
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let record: Record = serde_json::from_slice(&fs::read(&path)?)?;
                all.insert(record.uid.clone(), record);
            }
        }
        Ok(Self { directory: directory.to_owned(), all: Mutex::new(all) })
    }

    pub fn get(&self, uid: &str) -> Option<Record> {
        self.all.lock().get(uid).cloned()
    }

    pub fn named(&self, namespace: &str, name: &str) -> Option<Record> {
        self.all.lock().values().find(|record| record.namespace == namespace && record.name == name).cloned()
    }

    /// The claims a pod uses.
    pub fn of_pod(&self, uid: &str) -> Vec<String> {
        self.all.lock().values().filter(|record| record.pods.contains(uid)).map(|record| record.uid.clone()).collect()
    }

    /// All pods that use claims.
    pub fn pods(&self) -> BTreeSet<String> {
        self.all.lock().values().flat_map(|record| record.pods.iter().cloned()).collect()
    }

    /// On the disk first, as a whole.
    pub fn write(&self, record: Record) -> io::Result<()> {
        let (path, new) = (self.path(&record.uid)?, self.directory.join(format!("{}.new", record.uid)));
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&self.directory)?.sync_all()?;
        self.all.lock().insert(record.uid.clone(), record);
        Ok(())
    }

    pub fn remove(&self, uid: &str) -> io::Result<()> {
        match fs::remove_file(self.path(uid)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.all.lock().remove(uid);
        Ok(())
    }

    fn path(&self, uid: &str) -> io::Result<PathBuf> {
        let is_single = !uid.is_empty() && !uid.starts_with('.') && !uid.contains(['/', '\0']);
        if is_single { Ok(self.directory.join(format!("{uid}.json"))) } else { Err(io::Error::other("a claim's uid can't name a file")) }
    }
}
