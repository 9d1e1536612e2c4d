//! What these tests have in common.
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::Server;

/// Far more than anything here takes.
pub const SOON: Duration = Duration::from_secs(30);

/// kube's client as its users make it, from the kubeconfig the server wrote.
pub async fn client(server: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).expect("the server wrote a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("its kubeconfig is complete");
    Client::try_from(config).expect("its certificates are good")
}

/// What comes soon; panics with `what` when it doesn't.
#[track_caller]
pub fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let what = what.to_owned();
    async move { tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited {SOON:?} in vain until {what}")) }
}

/// Where the programs of these tests are.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Python of the environment with the client libraries, in the directory of the programs.
pub fn python_command(server: &Server) -> Command {
    let python = testkit::tools().join("venv/bin/python");
    assert!(python.exists(), "{python:?} is not there: make clients");
    let mut command = server.tool().command(python);
    // The sources stay as they are.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").current_dir(programs());
    command
}

/// What a Python program prints that must succeed.
#[track_caller]
pub fn python(server: &Server, arguments: &[&str]) -> String {
    output(python_command(server).args(arguments))
}

/// What a program prints that must succeed.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed\nstdout: {stdout}\nstderr: {stderr}");
    stdout.into_owned()
}
