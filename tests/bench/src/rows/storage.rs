//! Storage: from the claim to the mounted volume, alone and 100 at once; I/O through a claim against its disk; snapshots and clones of a sparse volume.
use super::pods::{inside, pod, remove, running};
use crate::figure::{Budget, Figure, percentile};
use anyhow::{Context, Result, anyhow, bail};
use api_client::kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use api_client::kube::{Api, Client};
use clock::{Clock, SystemClock};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use nix::libc;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use testkit::Cluster;

const MOUNTED_BUDGET_MS: f64 = 2000.0;
const SAME_BUDGET: f64 = 0.9;
const ONE_BY_ONE: usize = 20;
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(180);
/// What is written and read in order.
const FILE: usize = 256 << 20;
const BLOCK: usize = 1 << 20;
/// What is written and read at random, and in front of each fsync.
const PAGE: usize = 4096;
/// How long each random access goes on, and how often everything is done.
const SPELL: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// Accesses on their way at once, as a program that reads ahead and a database with many clients have them.
const IN_ORDER: usize = 4;
const AT_RANDOM: usize = 16;

pub fn measure() -> Result<Vec<Figure>> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("   left out: volumes need root");
        return Ok(Vec::new());
    }
    let cluster = Cluster::start_with(&["--kubelet-arg", "max-pods=250"]);
    let data = cluster.server.data_dir();
    inside(&cluster, async move |client| run(client, &data).await)
}

async fn run(client: Client, data: &Path) -> Result<Vec<Figure>> {
    let (pods, claims): (Api<Pod>, Api<PersistentVolumeClaim>) = (Api::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
    let mut alone = Vec::new();
    for number in 0..=ONE_BY_ONE {
        let name = format!("alone-{number}");
        claims.create(&PostParams::default(), &claim(&name, "1Gi", Value::Null)?).await?;
        let took = running(&pods, &[user(&name)?]).await?;
        // The first finds every cache cold.
        if number > 0 {
            alone.push(took[0].as_secs_f64() * 1000.0);
        }
        remove(&pods, &name).await?;
    }
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("together-{number}")).collect();
    for name in &names {
        claims.create(&PostParams::default(), &claim(name, "1Gi", Value::Null)?).await?;
    }
    let mut together: Vec<f64> =
        running(&pods, &names.iter().map(|name| user(name)).collect::<Result<Vec<_>>>()?).await?.iter().map(Duration::as_secs_f64).collect();
    let (p50, p99) = (percentile(&mut alone, 0.5), percentile(&mut alone, 0.99));
    let detail = format!("p50 {:.1} s", percentile(&mut together, 0.5));
    let mut figures = vec![
        Figure::new("claim to mounted and Running, p50", p50, "ms", Budget::None, format!("{ONE_BY_ONE} claims with a pod each, one at a time")),
        Figure::new("claim to mounted and Running, p99", p99, "ms", Budget::AtMost(MOUNTED_BUDGET_MS), ""),
        Figure::new(format!("{AT_ONCE} claims at once, all mounted"), percentile(&mut together, 1.0), "s", Budget::None, detail),
    ];
    for name in &names {
        remove(&pods, name).await?;
    }
    figures.extend(input_and_output(&pods, &claims, data).await?);
    figures.extend(copies(client, &pods, &claims).await?);
    Ok(figures)
}

fn claim(name: &str, size: &str, with: Value) -> Result<PersistentVolumeClaim> {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}});
    for (key, value) in with.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    Ok(serde_json::from_value(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}))?)
}

/// A pod that uses the claim of its name.
fn user(name: &str) -> Result<Pod> {
    let mut pod = serde_json::to_value(pod(name)?)?;
    pod["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    Ok(serde_json::from_value(pod)?)
}

async fn input_and_output(pods: &Api<Pod>, claims: &Api<PersistentVolumeClaim>, data: &Path) -> Result<Vec<Figure>> {
    claims.create(&PostParams::default(), &claim("io", "2Gi", Value::Null)?).await?;
    running(pods, &[user("io")?]).await?;
    let uid = pods.get("io").await?.metadata.uid.context("a pod has a uid")?;
    let volume = claims.get("io").await?.spec.and_then(|spec| spec.volume_name).context("the claim is bound")?;
    let mounted = data.join("agent/pods").join(uid).join("volumes/kubernetes.io~csi").join(volume).join("mount");
    // The disk that the volume's image lies on.
    let direct = data.join("lightningstor/ssd");
    let figures = tokio::task::spawn_blocking(move || compare(&mounted, &direct)).await??;
    remove(pods, "io").await?;
    Ok(figures)
}

/// One way of reading or writing, with so many accesses on their way at once.
type Access = fn(&File, usize) -> Result<f64>;

/// What is done, in which unit it is counted, how, how many at once, and whether it is held to the budget: an access that is alone
/// pays for the loop device's way through a thread of the kernel, which nothing here can change.
const WAYS: [(&str, &str, Access, usize, bool); 7] = [
    ("written in order", "MB/s", write_in_order, IN_ORDER, true),
    ("read in order", "MB/s", read_in_order, IN_ORDER, true),
    ("written at random", "writes of 4 KiB a second", write_at_random, AT_RANDOM, true),
    ("read at random", "reads of 4 KiB a second", read_at_random, AT_RANDOM, true),
    ("written and synced", "fsyncs a second", write_and_sync, AT_RANDOM, true),
    ("written at random", "writes of 4 KiB a second", write_at_random, 1, false),
    ("written and synced", "fsyncs a second", write_and_sync, 1, false),
];

fn compare(mounted: &Path, direct: &Path) -> Result<Vec<Figure>> {
    let files = [mounted, direct].map(|directory| directory.join("bench-io"));
    let opened = files.iter().map(|file| open(file)).collect::<Result<Vec<_>>>()?;
    let mut rates = vec![[Vec::new(), Vec::new()]; WAYS.len()];
    for _ in 0..ROUNDS {
        for (way, (_, _, access, at_once, _)) in WAYS.iter().enumerate() {
            // One right after the other, so that both meet the same machine.
            for (place, file) in opened.iter().enumerate() {
                rates[way][place].push(access(file, *at_once)?);
            }
        }
    }
    for file in files {
        std::fs::remove_file(file)?;
    }
    let figures = WAYS.iter().zip(&mut rates).map(|((what, unit, _, at_once, held), [claim, disk])| {
        let (claim, disk) = (percentile(claim, 0.5), percentile(disk, 0.5));
        let budget = if *held { Budget::AtLeast(SAME_BUDGET) } else { Budget::None };
        Figure::new(format!("claim against its disk, {what}, {at_once} at once"), claim / disk, "x", budget, format!("{claim:.0} and {disk:.0} {unit}"))
    });
    Ok(figures.collect())
}

/// Past the page cache, so that it is the disk that is measured.
fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT).open(path).with_context(|| path.display().to_string())
}

/// A buffer that begins where direct I/O wants it to.
fn aligned(buffer: &mut Vec<u8>, size: usize) -> &mut [u8] {
    buffer.resize(size + PAGE, 0x5a);
    let from = buffer.as_ptr().align_offset(PAGE);
    &mut buffer[from..from + size]
}

/// Does something in so many threads, each with a buffer of its own; gives how long all took.
fn at_once(threads: usize, size: usize, work: impl Fn(usize, &mut [u8]) -> Result<()> + Sync) -> Result<f64> {
    let began = SystemClock.instant();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                let work = &work;
                scope.spawn(move || work(thread, aligned(&mut Vec::new(), size)))
            })
            .collect();
        all.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread that reads or writes panicked"))?)
    })?;
    Ok((SystemClock.instant() - began).as_secs_f64())
}

/// Block after block, each by the next thread.
fn in_order(threads: usize, access: impl Fn(&mut [u8], u64) -> Result<()> + Sync) -> Result<f64> {
    at_once(threads, BLOCK, |thread, block| (thread * BLOCK..FILE).step_by(threads * BLOCK).try_for_each(|at| access(block, at as u64)))
}

fn write_in_order(file: &File, threads: usize) -> Result<f64> {
    let began = SystemClock.instant();
    in_order(threads, |block, at| Ok(file.write_all_at(block, at)?))?;
    file.sync_all()?;
    Ok(FILE as f64 / 1e6 / (SystemClock.instant() - began).as_secs_f64())
}

fn read_in_order(file: &File, threads: usize) -> Result<f64> {
    Ok(FILE as f64 / 1e6 / in_order(threads, |block, at| Ok(file.read_exact_at(block, at)?))?)
}

/// As often as it can be done in a while, at places that are the same in every run.
fn at_random(threads: usize, access: impl Fn(&mut [u8], u64) -> Result<()> + Sync) -> Result<f64> {
    let done = AtomicU32::new(0);
    let took = at_once(threads, PAGE, |thread, page| {
        let (began, mut place) = (SystemClock.instant(), thread as u64 + 1);
        while SystemClock.instant() - began < SPELL {
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            access(page, (place >> 33) % (FILE / PAGE) as u64 * PAGE as u64)?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(f64::from(done.into_inner()) / took)
}

fn write_at_random(file: &File, threads: usize) -> Result<f64> {
    at_random(threads, |page, at| Ok(file.write_all_at(page, at)?))
}

fn read_at_random(file: &File, threads: usize) -> Result<f64> {
    at_random(threads, |page, at| Ok(file.read_exact_at(page, at)?))
}

fn write_and_sync(file: &File, threads: usize) -> Result<f64> {
    at_random(threads, |page, at| {
        file.write_all_at(page, at)?;
        Ok(file.sync_data()?)
    })
}

/// A volume of 10 GiB that holds next to nothing.
async fn copies(client: Client, pods: &Api<Pod>, claims: &Api<PersistentVolumeClaim>) -> Result<Vec<Figure>> {
    claims.create(&PostParams::default(), &claim("sparse", "10Gi", Value::Null)?).await?;
    running(pods, &[user("sparse")?]).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshot"));
    let snapshots: Api<DynamicObject> = Api::default_namespaced_with(client, &kind);
    let snapshot: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "sparse"},
        "spec": {"source": {"persistentVolumeClaimName": "sparse"}},
    }))?;
    let began = SystemClock.instant();
    snapshots.create(&PostParams::default(), &snapshot).await?;
    until("the snapshot is ready", async || Ok(snapshots.get("sparse").await?.data["status"]["readyToUse"] == true)).await?;
    let taken = SystemClock.instant() - began;
    let mut figures = vec![told("snapshot of 10 GiB, sparse, until it is ready", taken)];
    for (name, source) in [
        ("restored", json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "sparse"})),
        ("cloned", json!({"kind": "PersistentVolumeClaim", "name": "sparse"})),
    ] {
        let began = SystemClock.instant();
        // A class that waits for no pod.
        claims.create(&PostParams::default(), &claim(name, "10Gi", json!({"dataSource": source, "storageClassName": "lightningstor-hdd"}))?).await?;
        until("the copy is bound", async || {
            let claim = claims.get(name).await?;
            Ok(claim.status.and_then(|status| status.phase).as_deref() == Some("Bound"))
        })
        .await?;
        figures.push(told(&format!("volume of 10 GiB, sparse, {name} until it is bound"), SystemClock.instant() - began));
    }
    Ok(figures)
}

fn told(what: &str, took: Duration) -> Figure {
    Figure::new(what, took.as_secs_f64() * 1000.0, "ms", Budget::None, "")
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = SystemClock.instant();
    while !is_so().await? {
        if SystemClock.instant() - began > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
