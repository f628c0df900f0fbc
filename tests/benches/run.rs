//! What `styxy run` costs in front of a command that does nothing but might be a server: `cargo bench -p styxy-tests --bench run`.
//!
//! The variants are started in turn, so that whatever else the machine does hits all of them, and stated as the
//! median of the ratios to the bare command of the same round. The floor is a wrapper in C that forks and waits.
//! Processor time is that of the variant and all that it waited for; the daemon's is not in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const ROUNDS: usize = 400;

fn main() {
    // In memory, as the runtime directory of a login session is.
    let memory = Path::new("/dev/shm");
    let temp = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let temp = temp.expect("a temporary directory");
    let styxy = env!("CARGO_BIN_EXE_styxy-under-test");
    let floor = build_floor(temp.path());
    // Under its own name it is known to be no server, and would just be executed.
    let server = temp.path().join("server");
    std::fs::copy("/bin/true", &server).expect("copy /bin/true");
    let server = &*server.to_string_lossy();
    let variant = |name: &'static str, words: &[&str], env: &[(&str, &str)]| Variant {
        name,
        words: words.iter().map(ToString::to_string).collect(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let variants = [
        variant("bare", &[server], &[]),
        variant(
            "C: vfork, exec, wait",
            &[&floor.to_string_lossy(), server],
            &[],
        ),
        variant("styxy run", &[styxy, "run", "--", server], &[]),
        variant("styxy run -q", &[styxy, "run", "-q", "--", server], &[]),
        variant(
            "styxy run --exec",
            &[styxy, "run", "--exec", "--", server],
            &[],
        ),
        variant(
            "styxy run of no server",
            &[styxy, "run", "-q", "--", "/bin/true"],
            &[],
        ),
        variant(
            "styxy run, STYXY_DISABLE=1",
            &[styxy, "run", "-q", "--", server],
            &[("STYXY_DISABLE", "1")],
        ),
        variant("styxy --version", &[styxy, "--version"], &[]),
    ];
    let mut times = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for round in 0..ROUNDS + 20 {
        for (variant, times) in variants.iter().zip(&mut times) {
            let elapsed = variant.time(temp.path());
            // The first rounds start the daemon and warm the page cache.
            if round >= 20 {
                times.push(elapsed);
            }
        }
    }
    stop_daemon(styxy, temp.path());
    report(&variants, &times);
}

#[expect(clippy::print_stdout, reason = "a report for people")]
fn report(variants: &[Variant], times: &[Vec<Cost>]) {
    println!(
        "{ROUNDS} rounds, each variant once a round; ratios are medians of the ratio within a round"
    );
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "median µs", "p90 µs", "÷ bare", "÷ C", "CPU µs", "CPU ÷ C"
    );
    for (variant, own) in variants.iter().zip(times) {
        let column = |what: Figure| own.iter().map(what).collect::<Vec<_>>();
        let ratio = |what: Figure, other: &[Cost]| {
            let pairs = own.iter().zip(other);
            median(pairs.map(|(own, other)| what(own) / what(other)).collect())
        };
        let (wall, cpu): (Figure, Figure) = (|cost| cost.wall, |cost| cost.cpu);
        println!(
            "{:<28} {:>10.0} {:>10.0} {:>10.2} {:>10.2} {:>10.0} {:>10.2}",
            variant.name,
            median(column(wall)),
            quantile(column(wall), 0.9),
            ratio(wall, &times[0]),
            ratio(wall, &times[1]),
            median(column(cpu)),
            ratio(cpu, &times[1]),
        );
    }
}

struct Variant {
    name: &'static str,
    words: Vec<String>,
    env: Vec<(String, String)>,
}

/// Microseconds from before the start to after the end.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

/// One of the two.
type Figure = fn(&Cost) -> f64;

impl Variant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn time(&self, home: &Path) -> Cost {
        let mut command = sandboxed(Command::new(&self.words[0]), home);
        command.args(&self.words[1..]).envs(self.env.clone());
        let (start, used) = (Instant::now(), processor_time());
        let status = command.status().expect("start the variant");
        let wall = start.elapsed().as_secs_f64() * 1e6;
        assert!(status.success(), "{}: {status}", self.name);
        Cost {
            wall,
            cpu: processor_time() - used,
        }
    }
}

/// Microseconds that the children so far have used.
#[expect(
    clippy::cast_precision_loss,
    reason = "a benchmark does not run for years"
)]
fn processor_time() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own usage");
    (used.user_time().num_microseconds() + used.system_time().num_microseconds()) as f64
}

fn sandboxed(mut command: Command, home: &Path) -> Command {
    command
        .env_clear()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("PATH", "/usr/bin:/bin");
    command
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn build_floor(dir: &Path) -> PathBuf {
    let program = dir.join("floor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let status = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .expect("a C compiler");
    assert!(status.success(), "cc: {status}");
    program
}

fn stop_daemon(styxy: &str, home: &Path) {
    let status = sandboxed(Command::new(styxy), home)
        .args(["daemon", "stop"])
        .status()
        .expect("stop the daemon");
    assert!(status.success(), "daemon stop: {status}");
}

fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a few hundred values"
)]
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}
