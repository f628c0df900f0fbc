//! Tells which signals it gets, in order and one line each; the child in the tests of supervision.
//!
//! `signal-probe [--default=N,N...] [--log=FILE] [--listen] [--stdin]`: prints `ready PID PPID`, then `got N`. Ends with 0 on signal 63.
//! Signals of `--default` keep their default action. `--log` takes the lines instead of stdout. `--listen` opens the port that
//! the variable `PORT` names on 127.0.0.1, before `ready`. `--stdin` also prints `read LINE` for each line of stdin.
//!
//! Invariant: every signal is blocked before `ready` and read as data, so nothing that comes later is lost.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::os::unix::process::parent_id;
use std::sync::Mutex;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

/// The request to end.
const END: u32 = 63;

fn main() -> io::Result<()> {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));

    let mut signals = SigSet::all();
    for number in option("--default=")
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        signals.remove(Signal::try_from(
            number.parse::<i32>().map_err(io::Error::other)?,
        )?);
    }
    signals.thread_set_mask()?;
    let taken = SignalFd::new(&signals)?;

    let listener = option("--listen").map(|_| listen()).transpose()?;
    let out: Mutex<Box<dyn Write + Send>> = Mutex::new(match option("--log=") {
        Some(file) => Box::new(File::options().create(true).append(true).open(file)?),
        None => Box::new(io::stdout()),
    });
    let say = |line: String| {
        let mut out = out
            .lock()
            .map_err(|_| io::Error::other("a thread has failed"))?;
        // One write, so that lines of several probes do not mix; a terminal that is gone is no reason to end.
        let _gone = out
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| out.flush());
        io::Result::Ok(())
    };
    say(format!("ready {} {}", std::process::id(), parent_id()))?;

    std::thread::scope(|scope| {
        if options.iter().any(|option| option == "--stdin") {
            // A terminal that is gone ends the lines, not the probe.
            let lines = || {
                io::stdin()
                    .lock()
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|line| say(format!("read {line}")))
            };
            scope.spawn(lines);
        }
        loop {
            let signal = taken.read_signal()?.map_or(0, |info| info.ssi_signo);
            if signal == END {
                drop(listener);
                leave();
            }
            say(format!("got {signal}"))?;
        }
    })
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the thread that reads stdin may be in the middle of it"
)]
fn leave() -> ! {
    std::process::exit(0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server reads its port from the environment"
)]
fn listen() -> io::Result<TcpListener> {
    let port = std::env::var("PORT").ok();
    let port: u16 = port
        .and_then(|port| port.parse().ok())
        .ok_or_else(|| io::Error::other("no PORT"))?;
    TcpListener::bind(("127.0.0.1", port))
}
