//! What the management commands print on stdout.

use std::io::Write as _;

/// Prints the text. Nobody reading (`styxy list | head -1`) is not an error.
pub(crate) fn print(text: &str) {
    drop(try_print(text));
}

/// Prints the text at once, if it can be printed.
pub(crate) fn try_print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints a value as JSON, indented, with a line end.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print(&format!("{text}\n"));
    }
}
