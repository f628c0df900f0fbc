//! The `styxy` program. Everything is in the library, so that the tests can build the program too.

use std::process::ExitCode;

fn main() -> ExitCode {
    styxy::main(styxy::BUILD)
}
