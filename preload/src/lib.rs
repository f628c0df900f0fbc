//! The library that the launcher loads into every program of a run.
//!
//! It replaces `bind()`: a program that asks for a TCP port gets the port that the shared table
//! ([`styxy_protocol::table`]) names for it, or another one when its port is taken. Everything is decided
//! inside the process from that table and from what the kernel says.
//!
//! Invariant: the library never makes anything worse. It allocates nothing, waits for nobody, keeps no
//! descriptor, prints nothing, cannot panic, and imports nothing but `__errno_location` and `environ`, so it
//! works between `vfork` and `exec`, after `fork` in a threaded program, and under glibc and musl alike.
//! Whatever it does not understand goes to the kernel untouched.
//!
//! The crate is built twice: as this plain library, for its tests and lints, and by the launcher's build
//! script as a shared object with the feature `hooks`, which adds the exported symbols.
#![cfg_attr(not(test), no_std)]
// Without it the optimiser turns loops over bytes into calls of `strlen` and `memcpy`: imports.
#![cfg_attr(feature = "hooks", no_builtins)]
// Tests may panic; the library may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects
    )
)]

pub mod address;
pub mod bind;
pub mod environment;
#[cfg(all(feature = "hooks", not(test)))]
pub mod hooks;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kernel;
