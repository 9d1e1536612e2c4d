//! Background: a program that runs beside a test, with what it has printed so far.
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Ended, with everything it started, when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    printed: Arc<Mutex<String>>,
}

impl Background {
    /// Starts a command in a process group of its own. stdout and stderr are kept in one.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("stdout is piped"), printed.clone());
        keep(child.stderr.take().expect("stderr is piped"), printed.clone());
        Self { child, printed }
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        self.printed.lock().expect("no holder of this lock panics").clone()
    }

    /// Waits until it has printed a text; gives everything up to now.
    #[track_caller]
    pub fn until_printed(&self, text: &str, timeout: Duration) -> String {
        let started = Instant::now();
        loop {
            let printed = self.printed();
            if printed.contains(text) {
                return printed;
            }
            assert!(started.elapsed() < timeout, "{text:?} was not printed within {timeout:?}, but: {printed}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has ended by itself; gives whether it succeeded and what it has printed.
    #[track_caller]
    pub fn until_ended(&mut self, timeout: Duration) -> (bool, String) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                // Its last words may still be on their way through the pipes.
                std::thread::sleep(Duration::from_millis(100));
                return (status.success(), self.printed());
            }
            assert!(started.elapsed() < timeout, "it did not end within {timeout:?}; it printed: {}", self.printed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal to it and everything it started.
    pub fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = killpg(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits")), signal);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // Waiting fails only where it was waited for already.
        let _ = self.child.wait();
    }
}

fn keep(mut pipe: impl Read + Send + 'static, printed: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut part) {
            printed.lock().expect("no holder of this lock panics").push_str(&String::from_utf8_lossy(&part[..length]));
        }
    });
}
