//! Programs of the machine (`ip`, `tc`), for what takes too many words over netlink.
use crate::Error;
use std::process::{Command, Stdio};

/// Runs it in the network namespace of the calling thread.
pub(crate) fn run(program: &'static str, arguments: &[String]) -> Result<(), Error> {
    let failed = |why: String| Error::Program { program, why };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
