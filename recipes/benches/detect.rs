//! What it costs to find out what a command is: `cargo bench -p styxy-recipes`.
//!
//! Every detection reads the project's files from the disk and parses the recipes that the command calls for, as
//! `styxy run` does, which detects once and ends.

use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use styxy_protocol::Port;
use styxy_recipes::{Catalog, Command, Package, Project, detect};

const ROUNDS: usize = 2000;

/// A project on the disk; nothing is kept between two questions.
struct Disk;

impl Project for Disk {
    fn package(&self, dir: &Path) -> Option<Package> {
        Package::parse(&fs::read_to_string(dir.join("package.json")).ok()?).ok()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn text(&self, path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn workspace_package(&self, root: &Path, name: &str) -> Option<PathBuf> {
        Some(root.join("packages").join(name))
    }
}

#[expect(clippy::print_stdout, reason = "a report for people")]
fn main() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    project(temp.path());
    let mut worst = 0.0_f64;
    println!("{:>9}  {:>9}  command", "median", "99 %");
    for line in [
        "git status",
        "vite",
        "npm run dev",
        "npm run dev -w web",
        "pnpm --filter web dev",
        "npm start",
        "npm run storybook",
        "npm run compound",
        "npx next dev -p 4000",
        "node server.js",
        "./unknown --flag",
        "python manage.py runserver",
        "uv run uvicorn app:app --reload",
        "make dev",
        "cargo run",
        "go run ./cmd/server",
        "docker compose up",
        "env A=1 timeout 60 npx --yes vite --host",
    ] {
        let (median, high) = time(line, temp.path());
        worst = worst.max(median);
        println!("{median:>6.1} µs  {high:>6.1} µs  {line}");
    }
    println!("slowest median: {worst:.1} µs (budget: 100 µs)");
    let start = now();
    let names = Catalog::builtin().names();
    let all = start.elapsed().as_micros();
    println!(
        "reading all {} recipes, which no run does: {all} µs",
        names.len()
    );
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Median and 99th percentile of the time for one detection and its injection, in microseconds.
fn time(line: &str, cwd: &Path) -> (f64, f64) {
    let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let port = Port::new(4001).expect("a port");
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = now();
            let catalog = Catalog::builtin();
            let command = Command {
                argv: &argv,
                cwd,
                env: &|_| None,
            };
            let found = detect(&catalog, &command, &Disk);
            black_box(found.inject(port, &argv));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], times[ROUNDS * 99 / 100])
}

/// A package of ordinary size, with a workspace and the files of other languages.
fn project(root: &Path) {
    let dependencies: Vec<String> = (0..60)
        .map(|number| format!("\"@scope/some-package-{number}\": \"^{number}.0.0\""))
        .collect();
    let scripts = "\"dev\": \"vite\", \"start\": \"node server.js\", \"storybook\": \"storybook dev -p 6006\", \
                   \"compound\": \"prisma generate && tsc -b && vite --host\", \"build\": \"vite build\"";
    let package = format!(
        "{{\"name\":\"shop\",\"workspaces\":[\"packages/*\"],\"scripts\":{{{scripts}}},\"dependencies\":{{\"express\":\"^5\",{}}}}}",
        dependencies.join(",")
    );
    let web = root.join("packages/web");
    fs::create_dir_all(&web).expect("a directory");
    for (file, text) in [
        ("package.json", package.as_str()),
        (
            "packages/web/package.json",
            "{\"name\":\"web\",\"scripts\":{\"dev\":\"vite\"}}",
        ),
        ("Makefile", "dev: install\n\tnpx vite\n"),
        ("Cargo.toml", "[dependencies]\naxum = \"0.8\"\n"),
        ("pnpm-workspace.yaml", "packages: [packages/*]\n"),
    ] {
        fs::write(root.join(file), text).expect("a file");
    }
}
