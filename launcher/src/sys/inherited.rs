//! What this process was given by whoever started it, saved before the Rust runtime touches it.
//!
//! Invariant: saved by a constructor, that is before `main` and before the runtime's own start, which ignores `SIGPIPE`
//! and opens `/dev/null` on closed standard descriptors.
#![expect(
    unsafe_code,
    reason = "a constructor in .init_array and the descriptor check in it"
)]

use std::sync::OnceLock;

use super::signal::{self, SignalSet};

/// The parts of a process that survive an exec and that the Rust runtime or the supervisor changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inherited {
    pub(crate) ignored: SignalSet,
    pub(crate) blocked: SignalSet,
    pub(crate) closed: [bool; 3],
}

/// What was saved. Should the constructor not have run, it is what is true now.
pub(crate) fn inherited() -> &'static Inherited {
    // Naming the constructor keeps its object file, and with it the .init_array entry, in every binary that asks.
    std::hint::black_box(&CONSTRUCTOR);
    SAVED.get_or_init(observe)
}

static SAVED: OnceLock<Inherited> = OnceLock::new();

#[used]
// SAFETY: the section holds pointers to functions of this very type, which the dynamic loader calls once before `main`.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = save;

/// Runs before `main`: no allocation, no output, nothing that needs the runtime.
extern "C" fn save() {
    SAVED.get_or_init(observe);
}

fn observe() -> Inherited {
    let ignored = (1..=signal::LAST)
        .filter(|&number| signal::is_ignored(number))
        .fold(SignalSet::EMPTY, SignalSet::with);
    Inherited {
        ignored,
        blocked: signal::mask(),
        closed: [0, 1, 2].map(is_closed),
    }
}

fn is_closed(fd: i32) -> bool {
    // SAFETY: `F_GETFD` only asks about a number, open or not.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags < 0
}
