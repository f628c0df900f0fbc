//! The system calls of the launcher, each wrapped once in a safe function.
//!
//! Invariant: nothing here decides anything; `unsafe` lives in these files and in no other of the launcher.

pub(crate) mod code;
pub(crate) mod detach;
pub(crate) mod futex;
pub(crate) mod hold;
pub(crate) mod inherited;
pub(crate) mod process;
pub(crate) mod shared_memory;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod witness;
