//! What the kernel says about ports and processes: a thin layer over sockets, `sock_diag`, pidfds and `/proc`.
//!
//! Nothing here remembers anything or decides anything, and nothing blocks. Calls cost microseconds, except
//! those that say that they walk `/proc`, which cost milliseconds and belong on a blocking thread.
//! Invariant: this is the only module of the daemon with unsafe code.

mod clock;
mod pidfd;
mod probe;
mod process;
mod readiness;
mod sock_diag;

pub use clock::{boot_time, from_ticks, rfc3339, wall_clock, wall_clock_millis};
pub use pidfd::Pidfd;
pub use probe::{ephemeral_range, port_is_free, probe};
pub use process::{
    ProcessIdentity, Stat, arguments, boot_id, command_line, directory, environ, every_pid,
    holders, is_directory_of, maps, name, process_identity, same_pid_namespace, session_id, uid_of,
};
pub(crate) use readiness::register;
pub use sock_diag::{Socket, bound, is_listening, listening, listening_on};
