//! `styx` is `styxy` by another name: the one that lies beside it, or else the one that `PATH` leads to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &Path, path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", path).args(arguments);
    command.output().expect("styx runs")
}

/// A `styxy` that says how it was called.
fn stand_in(dir: &Path, name: &str) {
    let path = dir.join("styxy");
    fs::write(
        &path,
        format!("#!/bin/sh\nprintf '{name}'\nprintf ' <%s>' \"$@\"\nexit 3\n"),
    )
    .expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn it_is_the_program_that_was_built_with_it() {
    let styx = Path::new(env!("CARGO_BIN_EXE_styx"));
    let [one, other] = [env!("CARGO_BIN_EXE_styx"), env!("CARGO_BIN_EXE_styxy")]
        .map(|it| run(Path::new(it), Path::new("/nonexistent"), &["--version"]));
    assert!(one.status.success());
    assert_eq!(one.stdout, other.stdout);
    let wrong = run(styx, Path::new("/nonexistent"), &["frobnicate"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn its_neighbour_comes_before_the_search_path() {
    let temp = tempfile::tempdir().expect("a directory");
    let (here, there) = (temp.path().join("here"), temp.path().join("there"));
    for dir in [&here, &there] {
        fs::create_dir(dir).expect("mkdir");
    }
    let styx = here.join("styx");
    fs::copy(env!("CARGO_BIN_EXE_styx"), &styx).expect("copy");
    let said = || {
        let output = run(&styx, &there, &["run", "--", "a b", ""]);
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("UTF-8"),
        )
    };
    let none = run(&styx, &there, &[]);
    assert_eq!(
        (none.status.code(), none.status.signal()),
        (Some(127), None)
    );
    assert!(String::from_utf8_lossy(&none.stderr).starts_with("styx: cannot execute `styxy`: "));
    stand_in(&there, "there");
    assert_eq!(said(), (Some(3), "there <run> <--> <a b> <>".to_owned()));
    stand_in(&here, "here");
    assert_eq!(said(), (Some(3), "here <run> <--> <a b> <>".to_owned()));
}
