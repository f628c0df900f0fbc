//! `styx`: the second name of `styxy`. Becomes the `styxy` that lies beside it, else the one that `PATH` leads to.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// As a shell says that a command was not found.
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let neighbour = std::env::current_exe().map(|styx| styx.with_file_name("styxy"));
    let neighbour = neighbour.ok().filter(|path| path.is_file());
    let program = neighbour.unwrap_or_else(|| PathBuf::from("styxy"));
    let error = Command::new(&program)
        .arg0("styxy")
        .args(std::env::args_os().skip(1))
        .exec();
    complain(&format!(
        "styx: cannot execute `{}`: {error}\n",
        program.display()
    ));
    ExitCode::from(NOT_FOUND)
}

fn complain(text: &str) {
    use std::io::Write as _;
    drop(std::io::stderr().write_all(text.as_bytes()));
}
