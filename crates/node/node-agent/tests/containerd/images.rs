//! Importing images, and containerd's own life.
use crate::machine::{TestMachine, busybox_archive};
use cri::v1::*;
use node_agent::containerd::{ContainerdProcess, RuntimeEvents, import, import_archive, import_sandbox_image};
use std::io::Write;
use std::time::Duration;

fn sandbox(name: &str, cgroup_parent: &str) -> PodSandboxConfig {
    let namespace_options = Some(NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() });
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "default".into(), attempt: 0 }),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(LinuxSandboxSecurityContext { namespace_options, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_imported_and_sandboxes_survive_containerd() {
    let machine = TestMachine::start().await;
    machine.import_busybox().await;
    // Again, and from a compressed file with another name.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&busybox_archive("team/busybox:v2")).unwrap();
    let file = machine.dir.path().join("image.tar.gz");
    std::fs::write(&file, gzip.finish().unwrap()).unwrap();
    assert_eq!(import_archive(&machine.socket(), &file).await.unwrap(), ["docker.io/team/busybox:v2"]);
    assert!(import(&machine.socket(), b"this is no archive, whatever its length may be").await.is_err());
    import_sandbox_image(&machine.runtime, &machine.socket()).await.unwrap();
    let image = machine.runtime.image_status("busybox:test").await.unwrap().expect("the image is there");
    assert_eq!(image.repo_tags.len(), 2, "{image:?}");

    let mut events = RuntimeEvents::subscribe(&machine.runtime, &machine.socket()).await.unwrap();
    let config = sandbox("survivor", &machine.cgroup_parent);
    let id = machine.runtime.run_pod_sandbox(config.clone(), "").await.unwrap();
    let started = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap();
    assert_eq!((started.container, started.ended), (id.clone(), false));

    // containerd ends and starts again: the sandbox is still ready.
    machine.process.stop().await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), async { while events.next().await.is_some() {} }).await, Ok(()));
    let (adopted, runtime) = ContainerdProcess::ensure(machine.process.settings().clone()).await.unwrap();
    let status = runtime.pod_sandbox_status(&id).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    // A second agent adopts the process.
    let pid = std::fs::read_to_string(adopted.settings().pid_file()).unwrap();
    ContainerdProcess::ensure(adopted.settings().clone()).await.unwrap();
    assert_eq!(std::fs::read_to_string(adopted.settings().pid_file()).unwrap(), pid);
    machine.stop().await;
}
