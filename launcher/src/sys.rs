//! The system calls that no crate wraps, each once, each safe to call.

pub(crate) mod futex;
pub(crate) mod shared_memory;
