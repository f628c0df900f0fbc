//! What can be typed. `styxy run` is parsed by itself, because it is what everybody's commands wait for and
//! building the whole command tree costs several times as much; the help of both is the same definition.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use styxy_protocol::{BUILTIN_SERVICE_TYPES, Port, ServiceType};

/// What `--grace` says by itself.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// A day: who wants to wait longer wants no end.
const MAX_GRACE_SECONDS: f64 = 86_400.0;

const EXAMPLES: &str = "Examples:
  styxy run -- npm run storybook      the next free storybook port, as a flag of the tool
  styxy run --port 4000 -- vite       port 4000 if it is free, else another one
  styxy run --dry-run -- npm run dev  what would be run, on which port, and why

Exit codes: the command's own; 2 wrong options, 125 `--strict` and the port is taken,
126 the command cannot be executed, 127 the command was not found.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "styxy",
    version,
    about = "Run development servers on ports of their own",
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command on a port of its own
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// List the leased ports
    List(ListArgs),
    /// Start, stop or look at the daemon
    #[command(subcommand)]
    Daemon(DaemonCommand),
}

/// `styxy run` by itself.
#[derive(Debug, Parser)]
#[command(name = "styxy run", bin_name = "styxy run", about = "Run a command on a port of its own", after_help = EXAMPLES)]
pub(crate) struct RunCli {
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What was typed after `styxy run`.
#[derive(Clone, Debug, Args, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct RunArgs {
    /// Use this port if it is free (1024 to 65535)
    ///
    /// Without it the port that the command itself names is tried first, then the one that the service had last time.
    #[arg(long, short = 'p', value_name = "PORT", value_parser = unprivileged_port)]
    pub(crate) port: Option<Port>,
    /// Fail with exit code 125 rather than use another port than the wanted one
    #[arg(long)]
    pub(crate) strict: bool,
    /// Treat the command as this kind of service, such as `dev`, `api` or `storybook`
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = known_service_type)]
    pub(crate) service_type: Option<ServiceType>,
    /// Name of the service; services of one package that run side by side need different ones
    #[arg(long, short = 'n', value_name = "NAME", value_parser = service_name)]
    pub(crate) name: Option<String>,
    /// How long the command's processes may keep the port when the run is asked to end; then they are killed
    ///
    /// A signal that a process sends asks for the end. ^C at a terminal reaches the command itself, and that decides.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) grace: Duration,
    /// Become the command instead of standing in front of it
    ///
    /// Nothing of styxy stays beside it: nobody ends its processes with it or tells when it is ready. The lease ends with the command.
    #[arg(long, conflicts_with = "grace")]
    pub(crate) exec: bool,
    /// Say nothing, not even which port it became
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Print what would be run, on which port, and why; run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: print JSON
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
    /// The command and its arguments; everything after its name is the command's own
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

impl RunArgs {
    /// What was typed if it was a command and no option, which is nearly always and needs no parser; `None` if it may be more.
    pub(crate) fn of_command_alone(words: &[OsString]) -> Option<Self> {
        let command = match words.split_first()? {
            (first, rest) if first == "--" => rest,
            (first, _) if first.as_encoded_bytes().starts_with(b"-") => return None,
            _ => words,
        };
        (!command.is_empty()).then(|| Self {
            port: None,
            strict: false,
            service_type: None,
            name: None,
            grace: DEFAULT_GRACE,
            exec: false,
            quiet: false,
            dry_run: false,
            json: false,
            command: command.to_vec(),
        })
    }
}

/// What was typed after `styxy list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be done with the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Run the daemon here until it is stopped (`styxy run` starts one by itself)
    Start(DaemonStartArgs),
    /// Stop the running daemon; leases are kept for the next one
    Stop,
    /// Tell whether the daemon runs
    Status(DaemonStatusArgs),
}

/// What was typed after `styxy daemon start`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStartArgs {
    /// Start it in the background and return when it answers
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Leave session and terminal, and keep stderr only until it answers
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// End by itself after this many seconds without a lease
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_exit: Option<u64>,
}

/// What was typed after `styxy daemon status`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn unprivileged_port(text: &str) -> Result<Port, String> {
    let port: Port = text.parse().map_err(|error| format!("{error}"))?;
    if port.is_privileged() {
        return Err(
            "ports below 1024 are not handed out; run the command without styxy to use one"
                .to_owned(),
        );
    }
    Ok(port)
}

fn known_service_type(text: &str) -> Result<ServiceType, String> {
    let known = |service_type: ServiceType| service_type.builtin().map(|_| service_type);
    text.parse().ok().and_then(known).ok_or_else(|| {
        let names: Vec<_> = BUILTIN_SERVICE_TYPES.iter().map(|spec| spec.name).collect();
        format!(
            "there is no such service type; known are {}",
            names.join(", ")
        )
    })
}

/// A number of seconds, with or without a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0.0..=MAX_GRACE_SECONDS).contains(number));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("not a number of seconds from 0 to {MAX_GRACE_SECONDS}"))
}

fn service_name(text: &str) -> Result<String, String> {
    let valid = (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 100 letters, digits, `-`, `_` and `.`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        RunCli::try_parse_from([&["styxy run"], words].concat())
            .unwrap()
            .run
            .command
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        RunCli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_command_name_is_the_commands_own() {
        assert_eq!(command(&["--", "npm", "run", "dev"]), ["npm", "run", "dev"]);
        assert_eq!(
            command(&["--", "npm", "run", "dev", "--", "--port", "1"]),
            ["npm", "run", "dev", "--", "--port", "1"]
        );
        assert_eq!(
            command(&["npm", "run", "dev", "--", "-q"]),
            ["npm", "run", "dev", "--", "-q"]
        );
        assert_eq!(
            command(&["-q", "vite", "--port", "1", "--quiet"]),
            ["vite", "--port", "1", "--quiet"]
        );
        assert_eq!(command(&["--", "--weird"]), ["--weird"]);
        assert_eq!(command(&["x", "--help"]), ["x", "--help"]);
    }

    #[test]
    fn a_command_without_options_is_what_the_parser_makes_of_it() {
        let alone = |words: &[&str]| {
            RunArgs::of_command_alone(&words.iter().map(OsString::from).collect::<Vec<_>>())
        };
        for words in [
            ["--", "x"].as_slice(),
            &["x"],
            &["x", "--", "-q"],
            &["--", "x", "--", "y"],
            &["--", "--weird", "-q"],
            &["--", "--", "x"],
            &["--", ""],
            &["", "x"],
            &["x", "--help"],
            &["--", "--help"],
        ] {
            let parsed = RunCli::try_parse_from([&["styxy run"], words].concat()).unwrap();
            assert_eq!(alone(words), Some(parsed.run), "{words:?}");
        }
        for words in [[].as_slice(), &["--"], &["-q", "x"], &["-"], &["--help"]] {
            assert_eq!(alone(words), None, "{words:?}");
        }
    }

    #[test]
    fn an_unknown_option_is_not_taken_for_the_command() {
        let error = RunCli::try_parse_from(["styxy run", "--nonsense", "--", "x"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
    }

    #[test]
    fn bad_values_are_told_with_the_value_and_the_remedy() {
        let error = |words: &[&str]| {
            let error =
                RunCli::try_parse_from([&["styxy run"], words, &["--", "x"]].concat()).unwrap_err();
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(
            error(&["--port", "0"]),
            "error: invalid value '0' for '--port <PORT>': not a port number from 1 to 65535"
        );
        assert_eq!(
            error(&["--port", "70000"]),
            "error: invalid value '70000' for '--port <PORT>': not a port number from 1 to 65535"
        );
        assert_eq!(
            error(&["--port", "80"]),
            "error: invalid value '80' for '--port <PORT>': ports below 1024 are not handed out; run the command without styxy to use one"
        );
        for grace in ["-1", "86401", "NaN", "soon"] {
            let option = format!("--grace={grace}");
            assert_eq!(
                error(&[&option]),
                format!(
                    "error: invalid value '{grace}' for '--grace <SECONDS>': not a number of seconds from 0 to 86400"
                )
            );
        }
        assert!(
            error(&["--type", "nonsense"]).contains("known are dev, api, database"),
            "{}",
            error(&["--type", "nonsense"])
        );
    }

    /// What `words` print, on a terminal of 100 columns.
    fn help(words: &[&str]) -> String {
        let (command, name) = match words {
            ["run", ..] => (RunCli::command(), None),
            _ => (Cli::command(), Some("styxy")),
        };
        let words = name.iter().chain(words);
        let shown = command.term_width(100).try_get_matches_from(words);
        shown.unwrap_err().to_string()
    }

    #[test]
    fn help_pages() {
        insta::assert_snapshot!(help(&["run", "-h"]), @r"
        Run a command on a port of its own

        Usage: styxy run [OPTIONS] <COMMAND>...

        Arguments:
          <COMMAND>...  The command and its arguments; everything after its name is the command's own

        Options:
          -p, --port <PORT>      Use this port if it is free (1024 to 65535)
              --strict           Fail with exit code 125 rather than use another port than the wanted one
          -t, --type <TYPE>      Treat the command as this kind of service, such as `dev`, `api` or
                                 `storybook`
          -n, --name <NAME>      Name of the service; services of one package that run side by side need
                                 different ones
              --grace <SECONDS>  How long the command's processes may keep the port when the run is asked to
                                 end; then they are killed [default: 10]
              --exec             Become the command instead of standing in front of it
          -q, --quiet            Say nothing, not even which port it became
              --dry-run          Print what would be run, on which port, and why; run nothing
              --json             With --dry-run: print JSON
          -h, --help             Print help (see more with '--help')

        Examples:
          styxy run -- npm run storybook      the next free storybook port, as a flag of the tool
          styxy run --port 4000 -- vite       port 4000 if it is free, else another one
          styxy run --dry-run -- npm run dev  what would be run, on which port, and why

        Exit codes: the command's own; 2 wrong options, 125 `--strict` and the port is taken,
        126 the command cannot be executed, 127 the command was not found.
        ");
        insta::assert_snapshot!(help(&["--help"]), @r"
        Run development servers on ports of their own

        Usage: styxy <COMMAND>

        Commands:
          run     Run a command on a port of its own
          list    List the leased ports
          daemon  Start, stop or look at the daemon

        Options:
          -h, --help     Print help
          -V, --version  Print version
        ");
        insta::assert_snapshot!(help(&["list", "--help"]), @r"
        List the leased ports

        Usage: styxy list [OPTIONS]

        Options:
              --json  Print JSON
          -h, --help  Print help
        ");
        insta::assert_snapshot!(help(&["daemon", "--help"]), @r"
        Start, stop or look at the daemon

        Usage: styxy daemon <COMMAND>

        Commands:
          start   Run the daemon here until it is stopped (`styxy run` starts one by itself)
          stop    Stop the running daemon; leases are kept for the next one
          status  Tell whether the daemon runs

        Options:
          -h, --help  Print help
        ");
        insta::assert_snapshot!(help(&["daemon", "start", "--help"]), @r"
        Run the daemon here until it is stopped (`styxy run` starts one by itself)

        Usage: styxy daemon start [OPTIONS]

        Options:
          -d, --detach               Start it in the background and return when it answers
              --idle-exit <SECONDS>  End by itself after this many seconds without a lease
          -h, --help                 Print help
        ");
    }

    #[test]
    fn the_help_of_run_is_the_same_from_both_parsers() {
        let whole = Cli::command().term_width(100);
        let whole = whole.try_get_matches_from(["styxy", "run", "--help"]);
        assert_eq!(whole.unwrap_err().to_string(), help(&["run", "--help"]));
    }

    #[test]
    fn every_exit_code_of_our_own_is_in_the_help() {
        use crate::exit_codes::{NOT_EXECUTABLE, NOT_FOUND, PORT_TAKEN, USAGE};
        let help = help(&["run", "--help"]);
        for code in [USAGE, PORT_TAKEN, NOT_EXECUTABLE, NOT_FOUND] {
            assert!(help.contains(&format!("{code} ")), "{code}: {help}");
        }
    }
}
