//! Tests that cannot run here say so where everybody sees it, also when the test harness captures output.
//!
//! `.ci/run` counts these lines; with `CI=true` a skip is a failure, because CI installs everything that tests need.

use std::io::Write;

use crate::Missing;

/// Writes one line to the real standard error, which the test runner does not capture.
pub fn say(line: &str) {
    writeln!(std::io::stderr(), "\n{line}").ok();
}

/// The value, or `None` after saying that this test is skipped and why.
///
/// # Panics
/// With `CI=true` in the environment: there, nothing may be missing.
#[expect(
    clippy::disallowed_methods,
    reason = "`CI` is a fact about the machine that the tests run on"
)]
#[must_use]
pub fn available<T>(thing: Result<T, Missing>) -> Option<T> {
    let missing = match thing {
        Ok(thing) => return Some(thing),
        Err(missing) => missing,
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "CI has to provide what `{test}` needs: {missing}"
    );
    say(&format!("SKIPPED: {test}: {missing}"));
    None
}
