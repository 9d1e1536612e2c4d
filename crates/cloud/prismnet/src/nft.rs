//! nft: runs scripts, each one transaction: all of it or nothing.
use crate::Error;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a script in the network namespace of the calling thread.
pub(crate) fn run(script: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Nft(error.to_string());
    // What it says is looked at: it shall say it in English.
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    child.stdin.take().expect("stdin was piped").write_all(script.as_bytes()).map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() { Ok(()) } else { Err(Error::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
