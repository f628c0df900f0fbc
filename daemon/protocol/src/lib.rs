//! The two contracts that cross a process boundary, and nothing else: no I/O, no policy.
//!
//! * [`api`]: HTTP JSON between any client and the daemon.
//! * [`table`]: the shared port table between the launcher and the preload library.
//! * [`Port`] and [`ServiceType`]: the two words that both of them use.
//!
//! Launcher, daemon and preload library come from one build, so the table needs no compatibility
//! across versions; its magic number and version only protect against foreign or torn files.
#![cfg_attr(not(feature = "api"), no_std)]

#[cfg(feature = "api")]
pub mod api;
mod port;
#[cfg(feature = "api")]
mod service_type;
pub mod table;

pub use port::{Port, PortError};
#[cfg(feature = "api")]
pub use service_type::{
    BUILTIN_SERVICE_TYPES, Instances, ServiceType, ServiceTypeError, ServiceTypeSpec,
};
