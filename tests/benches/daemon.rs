//! What a lease costs over the daemon's socket: `cargo bench -p styxy-tests --bench daemon`.
//!
//! Timed in turn within each round, so that whatever else the machine does hits all of them: an echo (a thread that
//! sends back what it gets over a Unix socket), a path that the daemon does not know (its HTTP server and its router,
//! no state), an allocation and its release. What the last two take beyond the second is the allocator, the probe of
//! the kernel and the journal. Every request has a connection of its own, as those of a run have.
//!
//! Then as much as it can do: requests a second of one client and of eight, the same for the unknown path, memory with
//! many leases, and `styxy list` beside a wrapper in C that starts `true` and waits for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use styxy_protocol::{BUILTIN_SERVICE_TYPES, Instances};

const ROUNDS: usize = 1000;
const WARM_UP: usize = 20;
/// How many leases there are beside the measured one.
const CROWDS: [usize; 3] = [10, 10_000, 50_000];
/// Where the others' ports are: above those of the service types.
const CROWD_PORTS: std::ops::RangeInclusive<u16> = 10_000..=65_535;
const AT_ONCE: usize = 1000;
/// How many clients there are at once, and how many requests they make in all, for the throughput.
const THRONGS: [usize; 2] = [1, 8];
const REQUESTS: usize = 4000;
/// With so many leases memory and `styxy list` are looked at.
const MANY: usize = 10_000;
const LIST_ROUNDS: usize = 100;
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let echo = start_echo(&temp.path().join("echo"));
    let daemon = Daemon::start(temp.path());
    say(&format!(
        "{ROUNDS} rounds, µs: median, p99; ÷ is the median of the ratio to the unknown path"
    ));
    let mut ports = CROWD_PORTS;
    let mut leases = 0;
    let rss = daemon.status("VmRSS:");
    for clients in THRONGS {
        say(&throughput(&daemon, clients));
    }
    let floor = build_floor(temp.path());
    say(&commands(&floor, temp.path(), leases));
    for crowd in CROWDS {
        while leases < crowd {
            let Some(port) = ports.next() else {
                say(&format!("no more than {leases} ports can be had"));
                break;
            };
            let request = json!({ "service_type": "dev", "preferred_port": port, "strict": true });
            leases += usize::from(daemon.allocate(&request).is_some());
        }
        report(leases, &rounds(&daemon, &echo));
        if leases == MANY {
            let with_leases = daemon.status("VmRSS:");
            say(&format!(
                "memory: {rss} kB RSS at first, {with_leases} kB with {leases} leases"
            ));
            say(&commands(&floor, temp.path(), leases));
        }
    }
    let idle = daemon.idle_cost();
    say(&format!("idle with {leases} leases: {idle}"));
    drop(daemon);

    let daemon = Daemon::start(&temp.path().join("second"));
    say(&format!("{AT_ONCE} clients at once: {}", at_once(&daemon)));
    drop(daemon);
    let daemon = Daemon::start(&temp.path().join("third"));
    say(&format!("idle without a lease: {}", daemon.idle_cost()));
}

const VARIANTS: [&str; 4] = ["echo", "unknown path", "allocate", "release"];

/// The times of each variant, round by round.
fn rounds(daemon: &Daemon, echo: &Path) -> [Vec<f64>; 4] {
    let mut times = [const { Vec::new() }; 4];
    let wish = json!({ "service_type": "dev", "service_name": "web", "project_path": "/p", "default_port": 3000 });
    for round in 0..ROUNDS + WARM_UP {
        let (echoed, answer) = timed(|| exchange(echo, &[b'x'; 200]));
        assert_eq!(answer.len(), 200);
        let (unknown, (status, _)) = timed(|| daemon.send("GET", "/nothing", ""));
        assert_eq!(status, 404);
        let (allocated, lease) = timed(|| daemon.allocate(&wish));
        let id = lease.expect("a port is left")["lock_id"].clone();
        let path = format!("/allocate/{}", id.as_str().expect("an id"));
        let (released, (status, _)) = timed(|| daemon.send("DELETE", &path, ""));
        assert_eq!(status, 200);
        if round >= WARM_UP {
            for (times, time) in times.iter_mut().zip([echoed, unknown, allocated, released]) {
                times.push(time);
            }
        }
    }
    times
}

fn report(leases: usize, times: &[Vec<f64>; 4]) {
    let cells = VARIANTS.iter().zip(times).map(|(name, own)| {
        let ratios = own.iter().zip(&times[1]).map(|(own, floor)| own / floor);
        format!(
            "{name} {:.0}, {:.0} (÷ {:.2})",
            quantile(own.clone(), 0.5),
            quantile(own.clone(), 0.99),
            quantile(ratios.collect(), 0.5)
        )
    });
    say(&format!(
        "{leases:>6} leases: {}",
        cells.collect::<Vec<_>>().join(" | ")
    ));
}

/// How many allocations, and their releases, and how many answers without any state so many clients get in a second.
/// Who waits for a busy daemon hardly waits longer for one more, so the floor is measured with as many clients.
fn throughput(daemon: &Daemon, clients: usize) -> String {
    let each = REQUESTS / clients;
    let all_at_once = |work: &(dyn Fn(usize) + Sync)| {
        let (time, ()) = timed(|| {
            std::thread::scope(|scope| {
                for client in 0..clients {
                    scope.spawn(move || (0..each).for_each(|_| work(client)));
                }
            });
        });
        per_second(each * clients, time)
    };
    let unknown = all_at_once(&|_| {
        daemon.send("GET", "/nothing", "");
    });
    let pairs = all_at_once(&|client| {
        let wish = json!({ "service_type": "dev", "service_name": format!("client-{client}"), "project_path": "/p" });
        let lease = daemon.allocate(&wish).expect("a port is left");
        let path = format!("/allocate/{}", lease["lock_id"].as_str().expect("an id"));
        daemon.send("DELETE", &path, "");
    });
    format!(
        "throughput, {clients} at once: {unknown:.0} answers for an unknown path a second, {pairs:.0} allocations each with its release (2 requests)"
    )
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn per_second(count: usize, micros: f64) -> f64 {
    count as f64 / micros * 1e6
}

/// What the commands that only ask take, beside the C wrapper of `true` in the same round.
fn commands(floor: &Path, home: &Path, leases: usize) -> String {
    let styxy = env!("CARGO_BIN_EXE_styxy-under-test");
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).env_clear().env("HOME", home);
        command.env("XDG_RUNTIME_DIR", home.join("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let (time, status) = timed(|| command.status().expect("it starts"));
        assert!(status.success(), "{program} {words:?}: {status}");
        time
    };
    let mut text = format!("with {leases} leases");
    let floor = floor.to_string_lossy();
    for words in [&["daemon", "status"][..], &["list"]] {
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..LIST_ROUNDS {
            let least = run(&floor, &["/bin/true"]);
            let time = run(styxy, words);
            times.push(time);
            ratios.push(time / least);
        }
        let (median, ratio) = (quantile(times, 0.5), quantile(ratios, 0.5));
        let words = words.join(" ");
        write!(text, ", `styxy {words}` {median:.0} µs (÷ C {ratio:.2})").expect("it takes all");
    }
    text
}

/// The wrapper that does least: fork, exec, wait.
fn build_floor(dir: &Path) -> PathBuf {
    let program = dir.join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o"]).arg(&program).arg(source);
    let status = cc.status().expect("a C compiler");
    assert!(status.success(), "cc: {status}");
    program
}

/// Many clients that ask at one moment, some of them two for one port; what they got.
fn at_once(daemon: &Daemon) -> String {
    let multi = BUILTIN_SERVICE_TYPES.iter();
    let multi: Vec<_> = multi
        // Room for all who come too late for the port that they want.
        .filter(|spec| spec.instances == Instances::Multi && spec.range().len() >= 100)
        .collect();
    let barrier = Barrier::new(AT_ONCE);
    let answers: Vec<(f64, Option<u64>)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let wish = json!({
                    "service_type": multi[number % multi.len()].name,
                    "preferred_port": 10_000 + number - number / 4,
                });
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let (time, lease) = timed(|| daemon.allocate(&wish));
                    (time, lease.and_then(|lease| lease["port"].as_u64()))
                })
            })
            .collect();
        let answers = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        answers.collect()
    });
    let ports: Vec<u64> = answers.iter().filter_map(|(_, port)| *port).collect();
    let distinct: BTreeSet<u64> = ports.iter().copied().collect();
    assert_eq!(distinct.len(), ports.len(), "a port was given twice");
    let times: Vec<f64> = answers.into_iter().map(|(time, _)| time / 1000.0).collect();
    format!(
        "{} ports, all distinct; ms until the answer: median {:.0}, last {:.0}",
        distinct.len(),
        quantile(times.clone(), 0.5),
        quantile(times, 1.0)
    )
}

/// A daemon of a home of its own; stopped on drop.
struct Daemon {
    process: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(home: &Path) -> Self {
        let runtime = home.join("run");
        std::fs::create_dir_all(&runtime).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_styxy-under-test"));
        command.args(["daemon", "start"]).env_clear();
        command.env("HOME", home).env("XDG_RUNTIME_DIR", &runtime);
        let log = std::fs::File::create(home.join("log")).expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut process = command.spawn().expect("a daemon");
        let mut output = std::io::BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("listens on ") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut output, &mut line).expect("readable");
            assert_ne!(read, 0, "the daemon did not start");
        }
        let (_, socket) = line.trim_end().split_once("listens on ").expect("a path");
        let socket = PathBuf::from(socket);
        Self { process, socket }
    }

    /// Status and body of the answer.
    fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: styxy\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(&self.socket, request.as_bytes());
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        (
            status.expect("a status"),
            serde_json::from_str(body).expect("JSON"),
        )
    }

    /// The lease, if there was one to be had.
    fn allocate(&self, wish: &Value) -> Option<Value> {
        let (status, body) = self.send("POST", "/allocate", &wish.to_string());
        (status == 200).then_some(body)
    }

    /// Memory, and how often it runs while nobody asks anything.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing shall happen for a while"
    )]
    fn idle_cost(&self) -> String {
        // What the last request left to be done.
        std::thread::sleep(Duration::from_secs(3));
        let before = self.status("voluntary_ctxt_switches:");
        std::thread::sleep(IDLE);
        let wake_ups = self.status("voluntary_ctxt_switches:") - before;
        let rss = self.status("VmRSS:");
        format!("{rss} kB RSS, {wake_ups} wake-ups in {} s", IDLE.as_secs())
    }

    /// A number of `/proc/PID/status`, which is that of the main thread; at rest there is no other.
    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("it runs");
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.and_then(|value| value.split_whitespace().next());
        value
            .and_then(|value| value.parse().ok())
            .expect("a number")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A server of one connection at a time that sends back what it gets.
fn start_echo(path: &Path) -> PathBuf {
    let listener = UnixListener::bind(path).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).expect("a request");
            stream.write_all(&bytes[..read]).expect("a reader");
        }
    });
    path.to_owned()
}

/// Sends the request and reads until the other end closes.
fn exchange(socket: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.write_all(request).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    answer
}

/// How long it took, in µs.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed().as_secs_f64() * 1e6, result)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a few thousand values"
)]
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

#[expect(clippy::print_stdout, reason = "a report for people")]
fn say(line: &str) {
    println!("{line}");
}
