//! Every environment variable that styxy reads or sets, in one place.

/// Directory of styxy's configuration and state. Default: `~/.styxy`.
pub(crate) const HOME_DIR: &str = "STYXY_HOME";
/// `1`: `styxy run` replaces itself with the command and does nothing else.
pub(crate) const DISABLE: &str = "STYXY_DISABLE";
/// The port to ask for, as with `--port`, which beats it. Set by a run that steps aside for the `styxy run` in the
/// script that it runs; no process of a run sees it.
pub(crate) const PORT: &str = "STYXY_PORT";
/// The port of 127.0.0.1 on which the management commands ask the daemon, instead of its socket.
pub(crate) const DAEMON_PORT: &str = "STYXY_DAEMON_PORT";
/// Who runs the commands, as agents name themselves; a label of the leases that `styxy allocate` makes.
pub(crate) const INSTANCE: &str = "CLAUDE_INSTANCE_ID";
/// Set in every process of a run: the lease id. The daemon finds what a killed launcher left by it.
pub(crate) const LEASE: &str = "STYXY_LEASE";
/// The loader's list of libraries; ours is appended to the user's.
pub(crate) const PRELOAD: &str = "LD_PRELOAD";
/// Options of the address sanitizer; it refuses to start behind any preloaded library unless told otherwise.
pub(crate) const ASAN_OPTIONS: &str = "ASAN_OPTIONS";
/// Where the session keeps sockets and the like (XDG Base Directory specification).
pub(crate) const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Where temporary files go.
pub(crate) const TEMP_DIR: &str = "TMPDIR";
/// The user's home directory.
pub(crate) const HOME: &str = "HOME";
/// Set by coding agents in the commands that they run; somebody reads stderr then, though it is no terminal.
pub(crate) const AGENTS: &[&str] = &[
    "CLAUDECODE",
    "CURSOR_AGENT",
    "CODEX_SANDBOX",
    "GEMINI_CLI",
    "AI_AGENT",
];
