//! Leases that live as long as a process that is not a launcher.
//!
//! When the owner of a lease ends without having released it, the daemon takes it for a launcher that was killed and
//! ends what it left behind. Here the owner is a command or a script of the user's, and what it leaves running it
//! leaves on purpose. Invariant: nothing is ever ended on behalf of such a lease; its port stays leased for as long
//! as anything of the owner's tree listens.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use styxy_protocol::api::{self, AllocateResponse, HeartbeatResponse, ReleaseResponse};

use crate::cli::is_lock_id;
use crate::context::Context;
use crate::manage::console::Console;
use crate::manage::failure::Failure;
use crate::places::Places;
use crate::{env_names, plan, supervise};

/// Tells the daemon, in the way a launcher does that cannot reach it, that what this lease's owner leaves behind is
/// left on purpose. The daemon removes the mark with the lease.
pub(super) fn let_the_tree_be(context: &Context, lock_id: &str) {
    // It becomes the name of a directory, and may come from a daemon that is not ours.
    if !is_lock_id(lock_id) {
        return;
    }
    let Ok(places) = Places::find(context) else {
        return;
    };
    let session = places.runtime.join("s").join(lock_id);
    // Where this fails the disk is full, and the daemon ends what it takes for leftovers of a killed run.
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&session);
    drop(made.and_then(|()| fs::write(session.join(styxy_daemon::RELEASED_MARK), "")));
}

/// Becomes the command, which has the port in `PORT`. Returns only if that failed.
pub(super) fn become_command(
    context: &Context,
    command: &[OsString],
    answer: &AllocateResponse,
) -> ExitCode {
    let set = [
        (
            OsString::from("PORT"),
            OsString::from(answer.port.to_string()),
        ),
        // By this the daemon knows the processes for whose sake the port stays leased.
        (env_names::LEASE.into(), answer.lock_id.clone().into()),
    ];
    let env = plan::environment(&context.env, &set);
    let error = supervise::exec(command, &env);
    crate::run::not_started(command, &error)
}

/// Waits for the end of stdin, and then gives the lease back. Whoever kills this process has it given back too.
pub(super) fn until_stdin_ends(
    console: &Console<'_>,
    answer: &AllocateResponse,
) -> Result<(), Failure> {
    let period = answer
        .heartbeat_seconds
        .map(|it| Duration::from_secs(u64::from(it)));
    let heartbeat = api::heartbeat_path(&answer.lock_id);
    wait_for_end_of_stdin(period, &|| {
        // A lost one is made up for by the next one.
        drop(
            console
                .remote
                .put::<HeartbeatResponse>(&heartbeat, &json!({})),
        );
    })
    .map_err(Failure::file("read", "/dev/stdin"))?;
    let path = api::lease_path(&answer.lock_id);
    // A daemon that has gone meanwhile has nothing to be told: the next one sees that this process is gone.
    console.ask_running(|it| it.delete::<ReleaseResponse>(&path))?;
    Ok(())
}

/// Reads stdin to its end, and calls `beat` every `period` meanwhile.
fn wait_for_end_of_stdin(period: Option<Duration>, beat: &dyn Fn()) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let timeout = period.map_or(PollTimeout::NONE, |period| {
        PollTimeout::try_from(period).unwrap_or(PollTimeout::MAX)
    });
    let mut buffer = [0; 4096];
    loop {
        let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(0) => beat(),
            Ok(_) => match stdin.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            },
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
