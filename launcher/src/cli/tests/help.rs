//! The help of every management command.

use super::help;

/// The pages of these commands, one below the other.
fn pages(commands: &[&[&str]]) -> String {
    let page = |words: &&[&str]| help(&[words, ["--help"].as_slice()].concat());
    commands
        .iter()
        .map(page)
        .collect::<Vec<_>>()
        .join("\n----\n")
}

#[test]
fn leases() {
    insta::assert_snapshot!(pages(&[&["allocate"], &["release"], &["list"], &["cleanup"], &["instances"]]), @"
    Lease a port

    Usage: styxy allocate [OPTIONS] [TYPE] [NAME] [-- <CMD>...]

    Arguments:
      [TYPE]    Kind of service, such as `dev`, `api` or `storybook`; a new kind gets a range of its own
      [NAME]    Name of the service; services of one directory that run side by side need different ones
      [CMD]...  With --hold: the command and its arguments

    Options:
      -s, --service <TYPE>  As TYPE
      -n, --name <NAME>     As NAME
      -p, --port <PORT>     Use this port if it is free (1024 to 65535) [alias: --preferred]
          --strict          Fail rather than use another port than --port
          --project <DIR>   Directory that the service belongs to; it gets the same port again next time
                            [default: this directory]
          --instance <ID>   Who asks, for display [default: `$CLAUDE_INSTANCE_ID`, else `cli`]
          --ttl <SECONDS>   Keep the lease this long after somebody last listened [default: a day]
          --pid <PID>       Keep the lease for as long as this process runs
          --hold            Become CMD and keep the lease for as long as it runs; without CMD: until
                            stdin ends
      -q, --quiet           Print the port and nothing else
          --json            Print JSON
      -h, --help            Print help

    Examples:
      styxy allocate dev                           a port for a front end, until it is released
      styxy allocate api users --port 8000         port 8000 for `users`, if it is free
      PORT=$(styxy allocate dev -q --pid $$)       in a script: the port, while the script runs
      styxy allocate dev --hold -- ./serve.sh      become this command, with PORT set
      coproc { styxy allocate dev --hold -q; }     a port until the pipe is closed

    Without --pid and --hold the lease is kept until it is released, until what listened on
    the port has gone, or until --ttl seconds have passed in which nobody listened.

    ----
    Give leased ports back

    Usage: styxy release [OPTIONS] <LOCKID|PORT>...

    Arguments:
      <LOCKID|PORT>...  The leases, each by its lock id or its port

    Options:
          --json  Print JSON
      -h, --help  Print help

    Examples:
      styxy release 3000       the lease of port 3000
      styxy release 3000 8000  several

    A port that somebody still listens on stays leased until that ends.

    ----
    List the leased ports

    Usage: styxy list [OPTIONS]

    Options:
      -v, --verbose         Show everything that is known about each lease
      -s, --service <TYPE>  Only leases of this kind of service
      -p, --port <PORT>     Only the lease that this port belongs to
          --json            Print JSON
      -h, --help            Print help

    Examples:
      styxy list                every lease, by worktree
      styxy list -v             with lock ids, ages, instances and listeners
      styxy list --service api  those of one kind
      styxy list --port 3000    the lease of one port

    ----
    End leases that nobody uses

    Usage: styxy cleanup [OPTIONS]

    Options:
      -f, --force        End leases too whose process runs but does not listen
      -p, --port <PORT>  Look at the lease of this port alone
          --json         Print JSON
      -h, --help         Print help

    Examples:
      styxy cleanup              leases that hang on no process and whose port nobody uses
      styxy cleanup --force      every lease whose port nobody listens on
      styxy cleanup --port 3000  that lease alone

    Leases of commands that have ended go by themselves.

    ----
    List the registered instances (agents, sessions, editors)

    Usage: styxy instances [OPTIONS]

    Options:
          --json  Print JSON
      -h, --help  Print help
    ");
}

#[test]
fn ports() {
    insta::assert_snapshot!(pages(&[&["check"], &["whose"], &["scan"], &["suggest"]]), @"
    Tell whether a port is free, and who has it

    Usage: styxy check [OPTIONS] <PORT>

    Arguments:
      <PORT>  The port

    Options:
          --json  Print JSON
      -h, --help  Print help

    Examples:
      styxy check 3000
      styxy check 3000 --json | jq .available

    ----
    Tell which process listens on a port, and what it belongs to

    Usage: styxy whose [OPTIONS] <PORT>

    Arguments:
      <PORT>  The port

    Options:
          --json  Print JSON
      -h, --help  Print help

    Examples:
      styxy whose 3000
      kill $(styxy whose 3000 --json | jq .observation.pid)

    ----
    List the ports of a range that are leased or in use

    Usage: styxy scan [OPTIONS]

    Options:
      -s, --start <PORT>  First port [default: 3000]
      -e, --end <PORT>    Last port [default: 9999, or the first one if that is higher]
          --json          Print JSON
      -h, --help          Print help

    Examples:
      styxy scan                  ports 3000 to 9999
      styxy scan -s 8000 -e 8099  the range of `api`

    ----
    Name free ports for a kind of service

    Usage: styxy suggest [OPTIONS] <TYPE>

    Arguments:
      <TYPE>  Kind of service, such as `dev`, `api` or `storybook`

    Options:
      -c, --count <N>  How many ports (1 to 100) [default: 5]
          --json       Print JSON
      -h, --help       Print help

    Examples:
      styxy suggest dev       five free ports, best first, one a line
      styxy suggest api -c 1  the port that `styxy allocate api` would give

    Nothing is leased: two who ask get the same answer. `styxy allocate` leases.
    ");
}

#[test]
fn daemon() {
    insta::assert_snapshot!(pages(&[
        &["status"], &["daemon"], &["daemon", "start"], &["daemon", "restart"], &["daemon", "logs"],
        &["token", "rotate"], &["audit"], &["doctor"],
    ]), @"
    Tell how the daemon is and what it serves

    Usage: styxy status [OPTIONS]

    Options:
          --json  Print JSON
      -h, --help  Print help

    ----
    Start, stop or look at the daemon

    Usage: styxy daemon <COMMAND>

    Commands:
      start    Run the daemon here until it is stopped (`styxy run` starts one by itself)
      stop     Stop the running daemon; leases are kept for the next one
      status   Tell whether the daemon runs
      restart  Stop the daemon and start it again in the background; leases are kept
      logs     Show the log of daemons in the background

    Options:
      -h, --help  Print help

    ----
    Run the daemon here until it is stopped (`styxy run` starts one by itself)

    Usage: styxy daemon start [OPTIONS]

    Options:
      -p, --port <PORT>          Serve the API on this port of 127.0.0.1 too, to clients that have the
                                 token
      -d, --detach               Start it in the background and return when it answers
          --idle-exit <SECONDS>  End by itself after this many seconds without a lease
      -h, --help                 Print help

    ----
    Stop the daemon and start it again in the background; leases are kept

    Usage: styxy daemon restart

    Options:
      -h, --help  Print help

    ----
    Show the log of daemons in the background

    Usage: styxy daemon logs [OPTIONS]

    Options:
      -f, --follow     Go on with every line that is written
      -n, --lines <N>  How many of the last lines [default: 50]
      -h, --help       Print help

    Examples:
      styxy daemon logs          the last 50 lines
      styxy daemon logs -n 5 -f  the last 5 lines, and every line that is still to come

    ----
    Make a new token; the old one is void at once

    Usage: styxy token rotate [OPTIONS]

    Options:
          --json  Print JSON
      -h, --help  Print help

    ----
    Show what was changed, and when

    Usage: styxy audit [OPTIONS]

    Options:
      -n, --lines <N>  How many of the newest entries [default: 20]
          --json       Print JSON
      -h, --help       Print help

    ----
    Find out what is wrong with styxy on this machine

    Usage: styxy doctor [OPTIONS]

    Options:
          --json  Print JSON
      -h, --help  Print help

    Exit codes: 0 everything is healthy, 1 something is not.
    ");
}

#[test]
fn config() {
    insta::assert_snapshot!(pages(&[
        &["config"], &["config", "generate"], &["config", "auto-allocation"], &["config", "auto-allocation", "undo"],
    ]), @"
    Show or change the configuration

    Usage: styxy config [OPTIONS]
           styxy config <COMMAND>

    Commands:
      show             Show the service types and settings in force
      validate         Tell what is wrong with the configuration files
      generate         Write a commented config.toml to start from
      instances        Show a table of fixed ports for up to four copies of a project side by side
      auto-allocation  Show or change how service types that are not known get a range of ports

    Options:
          --json  Print JSON
      -h, --help  Print help

    Examples:
      styxy config                       the service types and settings in force
      styxy config generate              write a commented config.toml to start from
      styxy config validate              what is wrong with the configuration files
      styxy config auto-allocation list  the ranges that new service types were given

    ----
    Write a commented config.toml to start from

    Usage: styxy config generate [OPTIONS]

    Options:
      -f, --force  Replace the file that is there
          --json   Print JSON
      -h, --help   Print help

    ----
    Show or change how service types that are not known get a range of ports

    Usage: styxy config auto-allocation [OPTIONS]
           styxy config auto-allocation <COMMAND>

    Commands:
      status   Show whether it is on, its rules and its ranges
      list     List the ranges that it made
      enable   Give service types that are not known a range from now on
      disable  Refuse service types that are not known from now on
      undo     Take back the range that a service type was given

    Options:
          --json  Print JSON
      -h, --help  Print help

    ----
    Take back the range that a service type was given

    Usage: styxy config auto-allocation undo [OPTIONS] <TYPE>

    Arguments:
      <TYPE>  The service type

    Options:
          --json  Print JSON
      -h, --help  Print help
    ");
}
