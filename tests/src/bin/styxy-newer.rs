//! The `styxy` of the version after this one: the same program with a higher protocol number.

use std::process::ExitCode;

use styxy::{BUILD, Build};

fn main() -> ExitCode {
    styxy::main(Build {
        version: "99.0.0",
        protocol: BUILD.protocol + 1,
    })
}
