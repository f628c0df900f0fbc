//! The exit codes that styxy itself makes. A command that was started passes its own through untouched.

/// A management command could not do what it was asked.
pub(crate) const FAILURE: u8 = 1;
/// The command line of styxy was wrong; nothing was started.
pub(crate) const USAGE: u8 = 2;
/// There may be one service of the type and it ran elsewhere; it was followed until it ended, nothing was started.
pub(crate) const FOLLOWED: u8 = 123;
/// The configuration files are broken, as `EX_CONFIG` of sysexits.h; nothing was started.
pub(crate) const CONFIG: u8 = 78;
/// `--strict` and somebody else has the port; nothing was started.
pub(crate) const PORT_TAKEN: u8 = 125;
/// The command was found but could not be executed, as in the shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found, as in the shell.
pub(crate) const NOT_FOUND: u8 = 127;
