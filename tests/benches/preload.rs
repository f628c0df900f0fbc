//! What the preload library costs: `cargo bench -p styxy-tests --bench preload [rounds]`.
//!
//! Start-up of a program that never binds, beside the same program with an empty library and with none; and
//! `bind()` itself, beside the kernel's. Every variant runs in every round in changing order, and what is
//! compared is the difference within a round, so that a busy machine disturbs all of them alike. Figures
//! are for people to read; nothing passes or fails by them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use styxy::session::{Pin, Session, SessionPlan};
use styxy_protocol::Port;

const ROUNDS: usize = 1500;
const BIND_RUNS: usize = 15;
const BINDS: &str = "2000";

/// Linker flags as the library's own, for an empty library of the same shape.
const BARE: &[&str] = &[
    "-shared",
    "-nostdlib",
    "-nostartfiles",
    "-Wl,-z,noseparate-code,-z,now,-z,norelro",
    "-Wl,--hash-style=gnu,--build-id=none",
    "-s",
];

#[expect(clippy::print_stdout, reason = "a report for people")]
fn main() {
    // cargo passes `--bench` as well.
    let rounds = std::env::args().find_map(|argument| argument.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let root = tempfile::tempdir().expect("a temporary directory");
    let empty = root.path().join("empty.so");
    fs::write(root.path().join("empty.c"), "").expect("write");
    compile(&root.path().join("empty.c"), &empty, BARE);
    let bind = root.path().join("bind");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/preload/bind.c");
    compile(&source, &bind, &["-O2"]);

    println!(
        "{:<44} {:>9} {:>9} {:>7} {:>6}",
        "", "floor", "ours", "ratio", "n"
    );
    startup(root.path(), &empty, rounds);
    binds(root.path(), &bind);
}

fn startup(root: &Path, empty: &Path, rounds: usize) {
    let session = Session::create(root, "startup", &SessionPlan::default()).expect("a session");
    let ours = session.directory().join("styxy.so");
    let variants = [None, Some(empty.to_owned()), Some(ours)];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for turn in 0..variants.len() {
            let which = (round * 7 + turn * (1 + round % 2)) % variants.len();
            times[which].push(spawn_true(variants[which].as_ref()));
        }
    }
    let [bare, empty, ours] = &times;
    let added = |times: &[f64]| {
        median(
            times
                .iter()
                .zip(bare)
                .map(|(with, without)| with - without)
                .collect(),
        )
    };
    report(
        "start /bin/true, us: no library, ours",
        median(bare.clone()),
        median(ours.clone()),
        rounds,
    );
    report(
        "added to a start, us: empty library, ours",
        added(empty),
        added(ours),
        rounds,
    );
}

fn binds(root: &Path, program: &Path) {
    let foreign = TcpListener::bind(("127.0.0.1", free_port())).expect("a port");
    let taken = foreign.local_addr().expect("an address").port();
    let free = free_port();
    let plan = |strict| SessionPlan {
        spares: vec![port(free_port())],
        strict,
        pinned: Vec::new(),
    };
    let loose = Session::create(root, "loose", &plan(false)).expect("a session");
    let strict = Session::create(root, "strict", &plan(true)).expect("a session");
    let leased = free_port();
    let pinned = SessionPlan {
        pinned: vec![Pin {
            requested: port(taken),
            real: port(leased),
        }],
        ..plan(true)
    };
    let pinned = Session::create(root, "pinned", &pinned).expect("a session");
    for (what, session, number) in [
        ("bind() of port 0, ns: kernel, passed through", &strict, 0),
        ("bind() of a free port, ns: kernel, known", &strict, free),
        ("bind() of a taken port, ns: refused, moved", &loose, taken),
        ("the same in strict mode, ns", &strict, taken),
        (
            "bind() of a pinned port, ns: refused, moved",
            &pinned,
            taken,
        ),
    ] {
        let (mut floor, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..BIND_RUNS {
            floor.push(time_bind(program, None, number));
            ours.push(time_bind(program, Some(session), number));
        }
        report(what, median(floor), median(ours), BIND_RUNS);
    }
    drop(foreign);
}

/// The median of many binds in one process, in nanoseconds.
fn time_bind(program: &Path, session: Option<&Session>, port: u16) -> f64 {
    let mut command = Command::new(program);
    command.env_clear().arg(port.to_string()).arg(BINDS);
    if let Some(session) = session {
        command.env("LD_PRELOAD", session.preload_value(None));
    }
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("a number")
}

/// Microseconds from before the spawn to the end of the program.
fn spawn_true(library: Option<&PathBuf>) -> f64 {
    let mut command = Command::new("/bin/true");
    command.env_clear().stdin(Stdio::null());
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let start = now();
    command.status().expect("true starts");
    now().saturating_sub(start).as_secs_f64() * 1e6
}

fn now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn clock() -> Instant {
        Instant::now()
    }
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(clock);
    clock().duration_since(start)
}

#[expect(clippy::print_stdout, reason = "a report for people")]
fn report(what: &str, floor: f64, ours: f64, n: usize) {
    println!(
        "{what:<44} {floor:>9.1} {ours:>9.1} {:>7.2} {n:>6}",
        ours / floor
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compile(source: &Path, binary: &Path, flags: &[&str]) {
    let mut compiler = Command::new("cc");
    compiler.args(flags).arg("-o").arg(binary).arg(source);
    assert!(compiler.status().expect("cc is needed").success());
}

fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(19_500);
    loop {
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", number)).is_ok() {
            return number;
        }
    }
}

fn port(number: u16) -> Port {
    Port::new(number).expect("not 0")
}
