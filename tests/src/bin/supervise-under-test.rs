//! The supervisor alone, with nothing of styxy round it: `supervise-under-test COMMAND [ARGUMENT]...`.
//!
//! The first argument may be `--grace=MILLISECONDS`, `--port-file=FILE` (holds the number of the port that counts as the lease's) or `--exec` (become the command);
//! what comes after them is the command. Invariant: prints nothing unless the command cannot be started.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use styxy::supervise::{self, Job, Observer, Pid};

fn main() -> ExitCode {
    let mut argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let grace =
        take(&mut argv, "--grace=").map_or(10_000, |text| text.parse().expect("milliseconds"));
    let port_file = take(&mut argv, "--port-file=").map(PathBuf::from);
    if take(&mut argv, "--exec").is_some() {
        return failed(&supervise::exec(&argv, &env));
    }
    let job = Job {
        argv: &argv,
        env: &env,
        grace: Duration::from_millis(grace),
    };
    match supervise::run(&job, &mut Lease { port_file }) {
        Ok(reason) => reason.leave(),
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the one message of this program")]
fn failed(error: &supervise::SpawnError) -> ExitCode {
    eprintln!("supervise-under-test: {error}");
    ExitCode::from(error.exit_code())
}

/// Takes the first argument away if it begins like this, and returns the rest of it.
fn take(argv: &mut Vec<OsString>, option: &str) -> Option<String> {
    let value = argv.first()?.to_str()?.strip_prefix(option)?.to_owned();
    argv.remove(0);
    Some(value)
}

/// Stands in for the lease: a port whose holders are found the slow way.
struct Lease {
    port_file: Option<PathBuf>,
}

impl Observer for Lease {
    fn spawned(&mut self, _child: Pid) {}

    fn port_holders(&self, among: &[Pid]) -> Vec<Pid> {
        let port = self
            .port_file
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
        let Some(inode) = port.and_then(listening_inode) else {
            return Vec::new();
        };
        let socket = format!("socket:[{inode}]");
        let holds = |pid: &&Pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten();
            open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                .any(|target| target.as_os_str() == socket.as_str())
        };
        among.iter().filter(holds).copied().collect()
    }
}

/// The inode of the socket that listens on this port of 127.0.0.1 or 0.0.0.0.
fn listening_inode(port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let suffix = format!(":{port:04X}");
    let fields = table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    // proc_net_tcp: local address, remote address, state (0A is LISTEN), ..., inode.
    fields
        .filter(|row| row.len() > 9)
        .find(|row| row[1].ends_with(&suffix) && row[3] == "0A")
        .map(|row| row[9].to_owned())
}
