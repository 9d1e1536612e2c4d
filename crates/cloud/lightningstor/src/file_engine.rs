//! FileEngine: volumes as sparse files on this node's disks, given out through loop devices.
use crate::engine::AttachedTo;
use crate::turns::Turns;
use crate::{Allocation, Attachment, Attributes, Capacity, Engine, Error, Filesystem, LightningStorSettings, NewVolume, Snapshot, Source, Volume};
use crate::{filesystem, image, loop_device, mounts, plan};
use async_trait::async_trait;
use clock::Clock;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGE: &str = "image";
const METADATA: &str = "metadata.json";
/// What is being made or taken away; a start removes what it finds there.
const UNFINISHED: &str = "unfinished";

/// One directory a volume: `{type's directory}/volumes/{id}/{image, metadata.json}`, snapshots alike.
///
/// INVARIANT: what lies in `volumes` and `snapshots` is whole: it comes and goes by one rename.
pub struct FileEngine {
    inner: Arc<Inner>,
    turns: Turns,
}

struct Inner {
    settings: LightningStorSettings,
    clock: Arc<dyn Clock>,
    volumes: Mutex<BTreeMap<String, Volume>>,
    snapshots: Mutex<BTreeMap<String, Snapshot>>,
}

impl FileEngine {
    /// Reads what there is, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// When the directories can't be made or read.
    pub fn open(settings: LightningStorSettings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (mut volumes, mut snapshots) = (BTreeMap::new(), BTreeMap::new());
        let mut settings = settings;
        for directory in settings.directories.values_mut() {
            for part in ["volumes", "snapshots", UNFINISHED] {
                let path = directory.join(part);
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(Error::io("creating", &path))?;
            }
            // Loop devices and mounts show real paths only.
            *directory = directory.canonicalize().map_err(Error::io("resolving", &*directory))?;
            let unfinished = directory.join(UNFINISHED);
            for entry in entries(&unfinished)? {
                loop_device::release(&entry.join(IMAGE))?;
                fs::remove_dir_all(&entry).map_err(Error::io("removing", entry))?;
            }
            for entry in entries(&directory.join("volumes"))? {
                let volume: Volume = read(&entry.join(METADATA))?;
                if let Some(device) = loop_device::find(&entry.join(IMAGE))? {
                    // It was being copied when somebody died.
                    mounts::of_device(&device)?.iter().try_for_each(|point| filesystem::thaw(&device, point))?;
                }
                volumes.insert(volume.id.clone(), volume);
            }
            for entry in entries(&directory.join("snapshots"))? {
                let snapshot: Snapshot = read(&entry.join(METADATA))?;
                snapshots.insert(snapshot.id.clone(), snapshot);
            }
        }
        let inner = Inner { settings, clock, volumes: Mutex::new(volumes), snapshots: Mutex::new(snapshots) };
        Ok(Self { inner: Arc::new(inner), turns: Turns::default() })
    }

    async fn turn<T: Send + 'static>(&self, id: &str, work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        let inner = self.inner.clone();
        self.turns.take(id, move || work(&inner)).await
    }
}

#[async_trait]
impl Engine for FileEngine {
    async fn create(&self, new: NewVolume) -> Result<Volume, Error> {
        plan::check(&new)?;
        let (id, inner, source) = (plan::volume_id(&new.name), self.inner.clone(), new.source.clone());
        // What it is copied from must neither change nor go meanwhile.
        let source = source.iter().map(|(Source::Snapshot(id) | Source::Volume(id))| id.as_str());
        self.turns.take_all(source.chain([id.as_str()]).collect(), move || inner.create(new)).await
    }

    async fn delete(&self, id: &str) -> Result<(), Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.delete(&of)).await
    }

    async fn get(&self, id: &str) -> Result<Volume, Error> {
        self.inner.volume(id)
    }

    async fn list(&self) -> Vec<Volume> {
        self.inner.volumes.lock().values().cloned().collect()
    }

    async fn allocated(&self, id: &str) -> Result<u64, Error> {
        let path = self.inner.image(&self.inner.volume(id)?)?;
        Ok(fs::metadata(&path).map_err(Error::io("reading", path))?.blocks() * 512)
    }

    async fn attach(&self, id: &str, node: &str, read_only: bool) -> Result<Attachment, Error> {
        let (of, node) = (id.to_owned(), node.to_owned());
        self.turn(id, move |inner| inner.attach(&of, node, read_only)).await
    }

    async fn detach(&self, id: &str, node: &str) -> Result<(), Error> {
        let (of, node) = (id.to_owned(), node.to_owned());
        self.turn(id, move |inner| inner.detach(&of, &node)).await
    }

    async fn device(&self, id: &str) -> Result<PathBuf, Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.device(&inner.volume(&of)?)).await
    }

    async fn expand(&self, id: &str, size_bytes: u64) -> Result<Volume, Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.expand(&of, size_bytes)).await
    }

    async fn modify(&self, id: &str, attributes: Attributes) -> Result<Volume, Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.modify(&of, attributes)).await
    }

    async fn set_filesystem(&self, id: &str, filesystem: Filesystem) -> Result<(), Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.keep(Volume { filesystem: Some(filesystem), ..inner.volume(&of)? })).await
    }

    async fn create_snapshot(&self, name: &str, volume_id: &str) -> Result<Snapshot, Error> {
        if name.is_empty() {
            return Err(Error::Invalid("a snapshot needs a name".into()));
        }
        let (name, of) = (name.to_owned(), volume_id.to_owned());
        // The volume's turn: nothing else may change it, and a name leads to one volume only.
        self.turn(volume_id, move |inner| inner.create_snapshot(&name, &of)).await
    }

    async fn delete_snapshot(&self, id: &str) -> Result<(), Error> {
        let of = id.to_owned();
        self.turn(id, move |inner| inner.delete_snapshot(&of)).await
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        self.inner.snapshots.lock().values().cloned().collect()
    }

    async fn capacity(&self, volume_type: &str) -> Result<Capacity, Error> {
        self.inner.capacity(volume_type)
    }

    async fn release(&self) -> Result<(), Error> {
        for volume in self.list().await {
            let id = volume.id.clone();
            let released = self.turn(&id, move |inner| {
                let image = inner.image(&volume)?;
                let Some(device) = loop_device::find(&image)? else { return Ok(()) };
                if mounts::of_device(&device)?.is_empty() { loop_device::release(&image) } else { Ok(()) }
            });
            released.await?;
        }
        Ok(())
    }
}

impl Inner {
    fn directory(&self, volume_type: &str) -> Result<&Path, Error> {
        let directory = self.settings.directories.get(volume_type).map(PathBuf::as_path);
        directory.ok_or_else(|| Error::Invalid(format!("this node has no place for volumes of type {volume_type:?}")))
    }

    fn volume(&self, id: &str) -> Result<Volume, Error> {
        self.volumes.lock().get(id).cloned().ok_or_else(|| Error::volume(id))
    }

    fn place(&self, volume: &Volume) -> Result<PathBuf, Error> {
        Ok(self.directory(&volume.volume_type)?.join("volumes").join(&volume.id))
    }

    fn image(&self, volume: &Volume) -> Result<PathBuf, Error> {
        Ok(self.place(volume)?.join(IMAGE))
    }

    fn snapshot_place(&self, snapshot: &Snapshot) -> Result<PathBuf, Error> {
        Ok(self.directory(&snapshot.volume_type)?.join("snapshots").join(&snapshot.id))
    }

    /// Writes the metadata of a volume that exists.
    fn keep(&self, volume: Volume) -> Result<(), Error> {
        write(&self.place(&volume)?.join(METADATA), &volume)?;
        self.volumes.lock().insert(volume.id.clone(), volume);
        Ok(())
    }

    fn capacity(&self, volume_type: &str) -> Result<Capacity, Error> {
        let directory = self.directory(volume_type)?;
        let facts = nix::sys::statvfs::statvfs(directory).map_err(|errno| Error::io("measuring", directory)(errno.into()))?;
        let bytes = |blocks: u64| blocks * facts.fragment_size();
        let promised = self.volumes.lock().values().filter(|volume| volume.volume_type == volume_type).map(|volume| volume.size_bytes).sum();
        Ok(Capacity { total: bytes(facts.blocks()), available: bytes(facts.blocks_available()), promised })
    }

    /// The source's image, its size, and its file system.
    fn source(&self, source: &Source) -> Result<(PathBuf, u64, Option<Filesystem>), Error> {
        match source {
            Source::Volume(id) => {
                let volume = self.volume(id)?;
                Ok((self.image(&volume)?, volume.size_bytes, volume.filesystem))
            }
            Source::Snapshot(id) => {
                let snapshot = self.snapshots.lock().get(id).cloned();
                let snapshot = snapshot.ok_or_else(|| Error::NotFound { what: "snapshot", id: id.clone() })?;
                Ok((self.snapshot_place(&snapshot)?.join(IMAGE), snapshot.size_bytes, snapshot.filesystem))
            }
        }
    }

    fn create(&self, new: NewVolume) -> Result<Volume, Error> {
        let id = plan::volume_id(&new.name);
        if let Ok(volume) = self.volume(&id) {
            plan::same(&volume, &new)?;
            return Ok(volume);
        }
        let source = new.source.as_ref().map(|source| self.source(source)).transpose()?;
        let mut size = plan::size(new.size_bytes, new.limit_bytes)?;
        if let Some((_, of_source, _)) = &source {
            size = plan::of_source(size, new.limit_bytes, *of_source)?;
        }
        plan::fits(size, self.capacity(&new.volume_type)?, &new.volume_type)?;
        let volume = Volume {
            id,
            name: new.name,
            size_bytes: size,
            volume_type: new.volume_type,
            replication: new.replication,
            org_id: new.org_id,
            project_id: new.project_id,
            filesystem: source.as_ref().and_then(|(_, _, filesystem)| *filesystem),
            source: new.source,
            attributes: new.attributes,
            attached: None,
        };
        let directory = self.directory(&volume.volume_type)?;
        build(directory, "volumes", &volume.id, &volume, |image| {
            match &source {
                None => image::create(image, size)?,
                Some((from, _, _)) => {
                    self.copy(from, image)?;
                    image::grow(image, size)?;
                }
            }
            allocate(image, &volume)
        })?;
        self.volumes.lock().insert(volume.id.clone(), volume.clone());
        Ok(volume)
    }

    /// Copies an image as it is at one moment, also one that is in use.
    fn copy(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let device = loop_device::find(from)?;
        let mut frozen = None;
        if let Some(device) = &device {
            // What was written to a file system reaches its image before the image is copied.
            for point in mounts::of_device(device)? {
                frozen = filesystem::freeze(device, &point)?;
                if frozen.is_some() {
                    break;
                }
            }
            let file = fs::File::open(device).map_err(Error::io("opening", device))?;
            file.sync_all().map_err(Error::io("syncing", device))?;
        }
        if image::share(from, to)? {
            return Ok(());
        }
        if device.is_some() && frozen.is_none() {
            return Err(Error::FailedPrecondition(
                "a raw device in use can't be copied as it is at one moment here: the file system below shares no blocks; detach the volume first".into(),
            ));
        }
        image::copy(from, to)
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        let Ok(volume) = self.volume(id) else { return Ok(()) };
        if let Some(attached) = &volume.attached {
            return Err(Error::FailedPrecondition(format!("volume {id:?} is in use on node {:?}", attached.node)));
        }
        loop_device::release(&self.image(&volume)?)?;
        remove(self.directory(&volume.volume_type)?, "volumes", id)?;
        self.volumes.lock().remove(id);
        Ok(())
    }

    fn attach(&self, id: &str, node: String, read_only: bool) -> Result<Attachment, Error> {
        let mut volume = self.volume(id)?;
        if node != self.settings.node_id {
            return Err(Error::NotFound { what: "node", id: node });
        }
        match &volume.attached {
            Some(attached) if attached.node != node => {
                return Err(Error::FailedPrecondition(format!("volume {id:?} is attached to node {:?}", attached.node)));
            }
            Some(attached) if attached.read_only != read_only => {
                return Err(Error::AlreadyExists(format!("volume {id:?} is attached to node {node:?} in another mode")));
            }
            Some(_) => {}
            None => {
                volume.attached = Some(AttachedTo { node: node.clone(), read_only });
                self.keep(volume.clone())?;
            }
        }
        Ok(Attachment { volume_id: id.to_owned(), node, device: self.device(&volume)? })
    }

    fn device(&self, volume: &Volume) -> Result<PathBuf, Error> {
        let Some(attached) = &volume.attached else {
            return Err(Error::FailedPrecondition(format!("volume {:?} is not attached to node {:?}", volume.id, self.settings.node_id)));
        };
        let device = loop_device::ensure(&self.image(volume)?, attached.read_only)?;
        loop_device::tune(&device, &volume.attributes)?;
        Ok(device)
    }

    fn detach(&self, id: &str, node: &str) -> Result<(), Error> {
        let Ok(mut volume) = self.volume(id) else { return Ok(()) };
        let Some(attached) = &volume.attached else { return Ok(()) };
        if !node.is_empty() && attached.node != node {
            return Ok(());
        }
        let image = self.image(&volume)?;
        if let Some(device) = loop_device::find(&image)? {
            if let Some(point) = mounts::of_device(&device)?.first() {
                return Err(Error::FailedPrecondition(format!("volume {id:?} is still mounted at {}", point.display())));
            }
            loop_device::release(&image)?;
        }
        volume.attached = None;
        self.keep(volume)
    }

    fn expand(&self, id: &str, size_bytes: u64) -> Result<Volume, Error> {
        let mut volume = self.volume(id)?;
        let size = plan::size(size_bytes, 0)?;
        if size <= volume.size_bytes {
            return Ok(volume);
        }
        plan::fits(size - volume.size_bytes, self.capacity(&volume.volume_type)?, &volume.volume_type)?;
        let image = self.image(&volume)?;
        volume.size_bytes = size;
        // Before it is larger to anybody: what it is to keep must be there.
        allocate(&image, &volume)?;
        image::grow(&image, size)?;
        if let Some(device) = loop_device::find(&image)? {
            loop_device::grow(&device)?;
        }
        self.keep(volume.clone())?;
        Ok(volume)
    }

    fn modify(&self, id: &str, attributes: Attributes) -> Result<Volume, Error> {
        let volume = Volume { attributes, ..self.volume(id)? };
        let image = self.image(&volume)?;
        let taken = fs::metadata(&image).map_err(Error::io("reading", &image))?.blocks() * 512;
        if attributes.allocation == Allocation::Full {
            plan::fits(volume.size_bytes.saturating_sub(taken), self.capacity(&volume.volume_type)?, &volume.volume_type)?;
        }
        if let Some(device) = loop_device::find(&image)? {
            loop_device::tune(&device, &attributes)?;
            // Before all is taken, so that nothing of it goes back.
            filesystem::give_back(&mounts::of_device(&device)?, attributes.allocation == Allocation::Thin)?;
        }
        allocate(&image, &volume)?;
        self.keep(volume.clone())?;
        Ok(volume)
    }

    fn create_snapshot(&self, name: &str, volume_id: &str) -> Result<Snapshot, Error> {
        let id = plan::snapshot_id(name);
        if let Some(snapshot) = self.snapshots.lock().get(&id) {
            plan::same_snapshot(snapshot, volume_id)?;
            return Ok(snapshot.clone());
        }
        let volume = self.volume(volume_id)?;
        let snapshot = Snapshot {
            id,
            name: name.to_owned(),
            volume_id: volume_id.to_owned(),
            size_bytes: volume.size_bytes,
            filesystem: volume.filesystem,
            created_at: self.clock.now().as_second(),
            volume_type: volume.volume_type.clone(),
        };
        let from = self.image(&volume)?;
        build(self.directory(&volume.volume_type)?, "snapshots", &snapshot.id, &snapshot, |image| self.copy(&from, image))?;
        self.snapshots.lock().insert(snapshot.id.clone(), snapshot.clone());
        Ok(snapshot)
    }

    fn delete_snapshot(&self, id: &str) -> Result<(), Error> {
        let Some(snapshot) = self.snapshots.lock().get(id).cloned() else { return Ok(()) };
        remove(self.directory(&snapshot.volume_type)?, "snapshots", id)?;
        self.snapshots.lock().remove(id);
        Ok(())
    }
}

/// Takes all the room of a volume that is to have it.
fn allocate(image: &Path, volume: &Volume) -> Result<(), Error> {
    if volume.attributes.allocation == Allocation::Full { image::allocate(image, volume.size_bytes) } else { Ok(()) }
}

/// Makes a directory with image and metadata, which appears as a whole.
fn build<T: Serialize>(directory: &Path, part: &str, id: &str, metadata: &T, image: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let (unfinished, place) = (unfinished(directory, part, id), directory.join(part).join(id));
    gone(fs::remove_dir_all(&unfinished)).map_err(Error::io("removing", &unfinished))?;
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::io("creating", &unfinished))?;
    let built = image(&unfinished.join(IMAGE)).and_then(|()| write(&unfinished.join(METADATA), metadata));
    if let Err(error) = built {
        if let Err(error) = fs::remove_dir_all(&unfinished) {
            tracing::warn!(path = %unfinished.display(), %error, "what was begun can't be removed; the next start will");
        }
        return Err(error);
    }
    fs::rename(&unfinished, &place).map_err(Error::io("renaming to", &place))?;
    image::sync_directory(&directory.join(part))
}

/// A volume and a snapshot may have the same id.
fn unfinished(directory: &Path, part: &str, id: &str) -> PathBuf {
    directory.join(UNFINISHED).join(format!("{part}-{id}"))
}

fn remove(directory: &Path, part: &str, id: &str) -> Result<(), Error> {
    let (unfinished, place) = (unfinished(directory, part, id), &directory.join(part).join(id));
    gone(fs::remove_dir_all(&unfinished)).map_err(Error::io("removing", &unfinished))?;
    gone(fs::rename(place, &unfinished)).map_err(Error::io("renaming", place))?;
    if let Some(parent) = place.parent() {
        image::sync_directory(parent)?;
    }
    gone(fs::remove_dir_all(&unfinished)).map_err(Error::io("removing", &unfinished))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect() };
    read().map_err(Error::io("reading", directory))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::io("reading", path))?;
    serde_json::from_slice(&bytes).map_err(|cause| Error::Metadata { path: path.into(), cause })
}

fn write<T: Serialize>(path: &Path, metadata: &T) -> Result<(), Error> {
    image::write_atomically(path, &serde_json::to_vec_pretty(metadata).expect("plain values encode"))
}
