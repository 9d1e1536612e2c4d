//! pause: holds a pod's namespaces open, reaps its orphans and ends on SIGTERM or SIGINT.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod kernel {
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
}
#[cfg(target_arch = "aarch64")]
mod kernel {
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
}

// The kernel enters with an aligned stack; nothing of it is needed.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {run}", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {run}", run = sym run);

const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SET_BYTES: usize = 8;
const SIG_BLOCK: usize = 0;
const ANY_CHILD: usize = usize::MAX;
const WNOHANG: usize = 1;

/// One system call of at most four arguments.
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: each caller below passes pointers that live across the call, or none.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, lateout("rcx") _, lateout("r11") _);
        #[cfg(target_arch = "aarch64")]
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d);
    }
    result
}

extern "C" fn run() -> ! {
    let set: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let set = &raw const set as usize;
    // Blocked signals wait until asked for, so none is lost between two waits. As the first
    // process of its namespace it would otherwise never get a SIGTERM at all.
    call(kernel::RT_SIGPROCMASK, SIG_BLOCK, set, 0, SET_BYTES);
    loop {
        let signal = call(kernel::RT_SIGTIMEDWAIT, set, 0, 0, SET_BYTES);
        if signal == SIGINT as isize || signal == SIGTERM as isize {
            call(kernel::EXIT_GROUP, 0, 0, 0, 0);
        }
        while call(kernel::WAIT4, ANY_CHILD, 0, WNOHANG, 0) > 0 {}
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        call(kernel::EXIT_GROUP, 2, 0, 0, 0);
    }
}
