//! `styxy doctor`: what is wrong with styxy on this machine.
//!
//! Everything is looked at first ([`Findings`]) and judged then (`checks`), so that what is said of a broken machine
//! can be tested on a sound one. Never starts a daemon, and waits for none that is not there.

mod checks;
mod report;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use serde::de::DeserializeOwned;
use styxy_daemon::kernel;
use styxy_protocol::api::{
    self, Allocation, AllocationsResponse, ConfigResponse, HealthResponse, StatusResponse,
};

use super::console::Console;
use crate::cli::Format;
use crate::context::Context;
use crate::places::{self, Places};
use crate::{exit_codes, output, session};

/// Looks at everything and tells what is wrong.
pub(super) fn doctor(context: &Context, format: Format) -> ExitCode {
    let report = checks::judge(&Findings::gather(context, format), context.uid);
    if format.json {
        output::print_json(&report);
    } else {
        output::print(&report.to_text());
    }
    ExitCode::from(if report.is_healthy() {
        0
    } else {
        exit_codes::FAILURE
    })
}

/// What there is to judge.
#[derive(Debug)]
struct Findings {
    /// Now (RFC 3339, UTC).
    timestamp: String,
    /// What the daemon says; `Ok(None)` if none runs.
    daemon: Result<Option<Daemon>, String>,
    /// What is wrong with the configuration files, if something is.
    files: Result<(), String>,
    /// Where styxy's files are, if anywhere.
    home: Option<Home>,
    /// The runtime directory.
    runtime: Result<PathBuf, String>,
    /// How many ports are listened on, as far as the kernel tells.
    listening: Result<usize, String>,
    /// The ports that the kernel gives to outgoing connections.
    ephemeral: RangeInclusive<u16>,
    /// Whether commands can be intercepted.
    interception: Result<(), String>,
}

/// What a daemon says of itself.
#[derive(Debug)]
struct Daemon {
    status: StatusResponse,
    health: Result<HealthResponse, String>,
    config: Result<ConfigResponse, String>,
    leases: Result<Vec<Allocation>, String>,
}

/// The directory of configuration and state.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    state: HomeState,
    /// Bytes that this user may still write there; `None` where the system does not tell.
    free: Option<u64>,
}

/// What is at the place of the home.
#[derive(Debug)]
enum HomeState {
    /// Nothing yet.
    Missing,
    /// It cannot be looked at.
    Unreadable(io::Error),
    /// A directory or something else.
    There {
        is_directory: bool,
        is_writable: bool,
        owner: u32,
        mode: u32,
    },
}

impl Findings {
    fn gather(context: &Context, format: Format) -> Self {
        let runtime = Places::find(context).map(|places| places.runtime);
        let interception = match &runtime {
            Ok(runtime) => {
                session::can_intercept(runtime).map_err(|error| super::with_causes(&error))
            }
            Err(_) => Err("there is no directory for the library".to_owned()),
        };
        Self {
            timestamp: kernel::rfc3339(kernel::wall_clock()),
            daemon: Daemon::ask(context, format),
            files: places::home(context).map_or(Ok(()), |home| {
                let loaded = styxy_daemon::config::load(&home);
                loaded.map(drop).map_err(|error| error.to_string())
            }),
            home: places::home(context).map(Home::look_at),
            runtime: runtime.map_err(|error| error.to_string()),
            listening: kernel::listening()
                .map(|it| it.len())
                .map_err(|error| error.to_string()),
            ephemeral: kernel::ephemeral_range(),
            interception,
        }
    }
}

impl Daemon {
    fn ask(context: &Context, format: Format) -> Result<Option<Self>, String> {
        let console = Console::open(context, format).map_err(|failure| failure.to_string())?;
        let status = console.ask_running(|it| it.get(api::STATUS));
        let Some(status) = status.map_err(|failure| failure.to_string())? else {
            return Ok(None);
        };
        Ok(Some(Self {
            status,
            health: ask(&console, api::HEALTH),
            config: ask(&console, api::CONFIG),
            leases: ask::<AllocationsResponse>(&console, api::ALLOCATIONS).map(|it| it.allocations),
        }))
    }
}

fn ask<A: DeserializeOwned>(console: &Console<'_>, path: &str) -> Result<A, String> {
    console.remote.get(path).map_err(|error| error.to_string())
}

impl Home {
    fn look_at(path: PathBuf) -> Self {
        let free = statvfs(existing(&path))
            .ok()
            .map(|it| it.blocks_available() * it.fragment_size());
        Self {
            state: HomeState::of(&path),
            free,
            path,
        }
    }
}

impl HomeState {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Self::There {
                is_directory: found.is_dir(),
                is_writable: access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
                owner: found.uid(),
                mode: found.mode() & 0o777,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Unreadable(error),
        }
    }
}

/// The nearest directory on the way to `path` that there is.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|it| it.exists()).unwrap_or(path)
}

#[cfg(test)]
mod tests;
