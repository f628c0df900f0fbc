//! `styxy daemon start | stop | status`.

use std::error::Error;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use styxy_daemon::{Config, Ended, LogTarget, Paths};
use styxy_protocol::Port;
use styxy_protocol::api::{self, StatusResponse};

use crate::background::{self, StartedBy};
use crate::cli::{DaemonCommand, DaemonStartArgs, DaemonStatusArgs};
use crate::client::Client;
use crate::context::Context;
use crate::manage::remote::{self, RemoteError};
use crate::output;
use crate::places::Places;
use crate::sys::detach::{self, Detached};
use crate::sys::process::PidFd;

/// How long a daemon that was asked to stop may take, in milliseconds.
const STOP_PATIENCE: u16 = 10_000;

/// Does what was typed.
pub(crate) fn daemon(context: &Context, command: &DaemonCommand) -> ExitCode {
    let places = match Places::find(context) {
        Ok(places) => places,
        Err(error) => return super::failed(&error),
    };
    match command {
        DaemonCommand::Start(args) if args.background => serve_in_background(&places, args),
        DaemonCommand::Start(args) if args.detach => start_detached(context, &places, args),
        DaemonCommand::Start(args) => serve_here(&places, args),
        DaemonCommand::Stop => stop(&places),
        DaemonCommand::Status(args) => status(&places, args),
    }
}

fn serve_here(places: &Places, args: &DaemonStartArgs) -> ExitCode {
    output::print("Starting Styxy daemon...\n");
    let (socket, port) = (places.socket(), args.port);
    let config = config(
        places,
        args,
        LogTarget::Stderr,
        Box::new(move || {
            output::print(&format!("Styxy daemon listens on {}\n", socket.display()));
            print_address(port);
        }),
    );
    match styxy_daemon::run(config) {
        Ok(Ended::LostTheRace) => already_running(places, args.port),
        Ok(Ended::Stopped | Ended::Idle | Ended::Displaced) => ExitCode::SUCCESS,
        Err(error) => super::failed(&with_causes(&error)),
    }
}

/// The process that `background::start` started: it says what goes wrong until it answers, and then nothing.
fn serve_in_background(places: &Places, args: &DaemonStartArgs) -> ExitCode {
    match detach::detach() {
        Ok(Detached::Starter) => return ExitCode::SUCCESS,
        Ok(Detached::Background) => {}
        Err(error) => return super::failed(&error),
    }
    let log = LogTarget::File(places.home.join("daemon.log"));
    let on_ready = || {
        // If the null device cannot be opened, whoever waits goes on after its time is up.
        drop(detach::silence_stderr());
    };
    match styxy_daemon::run(config(places, args, log, Box::new(on_ready))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => super::failed(&with_causes(&error)),
    }
}

fn config(
    places: &Places,
    args: &DaemonStartArgs,
    log: LogTarget,
    on_ready: Box<dyn FnOnce() + Send>,
) -> Config {
    Config {
        paths: Paths {
            runtime_dir: places.runtime.clone(),
            state_dir: places.home.clone(),
        },
        version: env!("CARGO_PKG_VERSION"),
        idle_exit: args.idle_exit.map(Duration::from_secs),
        tcp_port: args.port,
        log,
        on_ready,
    }
}

/// What there is to say where a daemon serves already. A port that was asked for is opened by that one.
fn already_running(places: &Places, port: Option<Port>) -> ExitCode {
    match ask(&places.socket()) {
        Ok(status) => output::print(&format!(
            "Styxy daemon is already running (PID: {})\n",
            status.pid
        )),
        Err(_) => output::print("Styxy daemon is already running\n"),
    }
    open_port(places, port)
}

/// Makes the running daemon serve on this port, if one was asked for and it does not do so yet.
fn open_port(places: &Places, port: Option<Port>) -> ExitCode {
    let Some(port) = port else {
        return ExitCode::SUCCESS;
    };
    match Client::new(places.socket()).listen(port) {
        Ok(_) => {
            print_address(Some(port));
            ExitCode::SUCCESS
        }
        Err(error) => super::failed(&error),
    }
}

fn print_address(port: Option<Port>) {
    if let Some(port) = port {
        output::print(&format!("Styxy daemon serves http://127.0.0.1:{port}\n"));
    }
}

fn start_detached(context: &Context, places: &Places, args: &DaemonStartArgs) -> ExitCode {
    if Client::new(places.socket()).is_reachable() {
        return already_running(places, args.port);
    }
    let by = StartedBy::User {
        idle_exit: args.idle_exit,
        port: args.port,
    };
    if let Err(error) = background::start(context, places, by) {
        return super::failed(&error);
    }
    match ask(&places.socket()) {
        Ok(status) => {
            output::print(&format!(
                "Daemon started in background (PID: {})\n",
                status.pid
            ));
            // It may have been somebody else who started it in this moment.
            open_port(places, args.port)
        }
        Err(error) => super::failed(&error),
    }
}

/// Asks the daemon to end and waits until it has: whoever starts the next one finds everything free.
///
/// It is the kernel that says who the daemon is, so that one can be ended that does not answer, or that speaks
/// another version of the contract.
fn stop(places: &Places) -> ExitCode {
    let client = Client::new(places.socket());
    let Some(pid) = client.daemon_pid() else {
        if client.is_reachable() {
            let error = "there is a daemon, but not in this container; stop it where it runs";
            return super::failed(&error);
        }
        output::print("Styxy daemon is not running\n");
        return ExitCode::SUCCESS;
    };
    match terminate(pid) {
        Ok(Terminated::Gone) => {
            output::print(&format!("Stopped Styxy daemon (PID: {pid})\n"));
            ExitCode::SUCCESS
        }
        Ok(Terminated::StillThere) => super::failed(&format_args!(
            "the daemon (PID: {pid}) was asked to stop and still runs; `kill -KILL {pid}` ends it"
        )),
        Err(error) => super::failed(&format_args!(
            "cannot stop the daemon (PID: {pid}): {error}"
        )),
    }
}

/// What became of a process that was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminated {
    Gone,
    StillThere,
}

fn terminate(pid: u32) -> nix::Result<Terminated> {
    let process = match PidFd::open(Pid::from_raw(pid.cast_signed())) {
        Err(Errno::ESRCH) => return Ok(Terminated::Gone),
        process => process?,
    };
    match process.send(libc::SIGTERM) {
        Err(Errno::ESRCH) => return Ok(Terminated::Gone),
        sent => sent?,
    }
    // One that is stopped would never hear of it.
    let _ = process.send(libc::SIGCONT);
    let mut gone = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    match poll(&mut gone, PollTimeout::from(STOP_PATIENCE))? {
        0 => Ok(Terminated::StillThere),
        _ => Ok(Terminated::Gone),
    }
}

fn status(places: &Places, args: &DaemonStatusArgs) -> ExitCode {
    let status = match ask(&places.socket()) {
        Ok(status) => status,
        Err(RemoteError::NotRunning) => {
            output::print(if args.json {
                "{\"status\":\"stopped\"}\n"
            } else {
                "Status: Stopped\n"
            });
            return ExitCode::SUCCESS;
        }
        Err(error) => return super::failed(&error),
    };
    if args.json {
        output::print_json(&status);
        return ExitCode::SUCCESS;
    }
    output::print(&format!(
        "Status: Running (PID: {})\nUptime: {:.0}s\nAllocations: {}\nVersion: {}\nSocket: {}\n",
        status.pid,
        status.uptime,
        status.allocations,
        status.version,
        places.socket().display()
    ));
    if let Some(reason) = status.degraded {
        output::print(&format!("Degraded: {reason}\n"));
    }
    ExitCode::SUCCESS
}

fn ask(socket: &Path) -> Result<StatusResponse, RemoteError> {
    remote::get(socket, api::STATUS)
}

/// An error and what is behind it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
