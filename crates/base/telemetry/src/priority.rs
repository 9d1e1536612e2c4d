//! Priority: threads that give way.
use nix::libc;
use std::io;

/// From now on this thread works when no other wants the processor, which the kernel takes from it at once.
///
/// # Errors
/// The kernel refuses.
pub fn give_way() -> io::Result<()> {
    let no_priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads the one value it is given; 0 is the thread that calls.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &no_priority) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_others_do_not() {
        let policy = || {
            // SAFETY: it takes a number and gives one; 0 is the thread that calls.
            unsafe { libc::sched_getscheduler(0) }
        };
        let there = std::thread::spawn(move || give_way().map(|()| policy())).join();
        assert_eq!(there.unwrap().unwrap(), libc::SCHED_IDLE);
        assert_ne!(policy(), libc::SCHED_IDLE);
    }
}
