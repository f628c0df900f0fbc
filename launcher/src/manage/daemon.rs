//! `styxy daemon start | stop | status | restart | logs`.

mod logs;
mod restart;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use styxy_daemon::{BrokenConfig, Classify, Config, DaemonError, Ended, LogTarget, Paths};
use styxy_protocol::{Port, api};
use styxy_recipes::{Catalog, service_type_of_process};

use crate::background::stop::Stopped;
use crate::background::{self, StartedBy};
use crate::cli::{DaemonCommand, DaemonStartArgs};
use crate::client::Client;
use crate::context::Context;
use crate::manage::remote::{Remote, RemoteError, Standing};
use crate::manage::{broken_configuration, failed, status, with_causes, with_console};
use crate::observe::{self, ProjectFiles};
use crate::output;
use crate::places::Places;
use crate::sys::code;
use crate::sys::detach::{self, Detached};

/// How long a daemon that was asked to stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Does what was typed.
pub(crate) fn daemon(context: &Context, command: &DaemonCommand) -> ExitCode {
    let places = match Places::find(context) {
        Ok(places) => places,
        Err(error) => return failed(&error),
    };
    match command {
        DaemonCommand::Start(args) if args.background => {
            serve_in_background(context, &places, args)
        }
        DaemonCommand::Start(args) if args.detach => {
            start_detached(context, &places, args.idle_exit, args.port)
        }
        DaemonCommand::Start(args) => serve_here(context, &places, args),
        DaemonCommand::Stop => stop(context, &places),
        DaemonCommand::Restart(_) => restart::restart(context, &places),
        DaemonCommand::Status(format) => with_console(context, *format, &status::status),
        DaemonCommand::Logs(args) => logs::logs(&places, *args),
    }
}

fn serve_here(context: &Context, places: &Places, args: &DaemonStartArgs) -> ExitCode {
    output::print("Starting Styxy daemon...\n");
    let (socket, port) = (places.socket(), args.port);
    let mut config = config(
        context,
        places,
        args,
        LogTarget::Stderr,
        Box::new(move || {
            output::print(&format!("Styxy daemon listens on {}\n", socket.display()));
            print_address(port);
            code::let_go();
        }),
    );
    config.broken_config = BrokenConfig::Refuse;
    match styxy_daemon::run(config) {
        Ok(Ended::LostTheRace) => already_running(context, places, args.port),
        Ok(Ended::Stopped | Ended::Idle | Ended::Displaced) => ExitCode::SUCCESS,
        Err(DaemonError::Config(error)) => broken_configuration(&error),
        Err(error) => failed(&with_causes(&error)),
    }
}

/// The process that `background::start` started: it says what goes wrong until it answers, and then nothing.
fn serve_in_background(context: &Context, places: &Places, args: &DaemonStartArgs) -> ExitCode {
    match detach::detach() {
        Ok(Detached::Starter) => return ExitCode::SUCCESS,
        Ok(Detached::Background) => {}
        Err(error) => return failed(&error),
    }
    let log = LogTarget::File(places.home.join("daemon.log"));
    let on_ready = || {
        // If the null device cannot be opened, whoever waits goes on after its time is up.
        drop(detach::silence_stderr());
        // A daemon is idle nearly always, and starting takes more code than serving.
        code::let_go();
    };
    match styxy_daemon::run(config(context, places, args, log, Box::new(on_ready))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&with_causes(&error)),
    }
}

fn config(
    context: &Context,
    places: &Places,
    args: &DaemonStartArgs,
    log: LogTarget,
    on_ready: Box<dyn FnOnce() + Send>,
) -> Config {
    Config {
        paths: Paths {
            runtime_dir: places.runtime.clone(),
            state_dir: places.home.clone(),
        },
        build: context.build,
        idle_exit: args.idle_exit.map(Duration::from_secs),
        broken_config: BrokenConfig::ServeTheRest,
        tcp_port: args.port,
        log,
        classify: classify(Places::recipes(&places.home)),
        on_ready,
    }
}

/// What the recipes say of running processes. The user's are read when somebody asks for the first time; what is
/// wrong with them, every run says.
fn classify(recipes: PathBuf) -> Classify {
    let catalog = OnceLock::new();
    Box::new(move |argv, cwd| {
        let catalog = catalog.get_or_init(|| {
            let (sources, _) = observe::recipes(&recipes);
            Catalog::builtin().with_user_recipes(sources).0
        });
        service_type_of_process(catalog, argv, cwd, &ProjectFiles::default())
    })
}

/// What there is to say where a daemon serves already. A port that was asked for is opened by that one.
fn already_running(context: &Context, places: &Places, port: Option<Port>) -> ExitCode {
    match standing(context, places) {
        Ok(daemon) => output::print(&format!(
            "Styxy daemon is already running (PID: {})\n{}",
            daemon.pid,
            status::other_protocol(context, &daemon).unwrap_or_default()
        )),
        Err(_) => output::print("Styxy daemon is already running\n"),
    }
    open_port(context, places, port)
}

/// Makes the running daemon serve on this port, if one was asked for and it does not do so yet.
fn open_port(context: &Context, places: &Places, port: Option<Port>) -> ExitCode {
    let Some(port) = port else {
        return ExitCode::SUCCESS;
    };
    match Client::new(places.socket(), context.build).listen(port) {
        Ok(_) => {
            print_address(Some(port));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn print_address(port: Option<Port>) {
    if let Some(port) = port {
        output::print(&format!("Styxy daemon serves http://127.0.0.1:{port}\n"));
    }
}

fn start_detached(
    context: &Context,
    places: &Places,
    idle_exit: Option<u64>,
    port: Option<Port>,
) -> ExitCode {
    if Client::new(places.socket(), context.build).is_reachable() {
        return already_running(context, places, port);
    }
    // Whoever starts it by name is there to read what is wrong; whoever runs a command shall have a port.
    if let Err(error) = styxy_daemon::config::load(&places.home) {
        return broken_configuration(&error);
    }
    let by = StartedBy::User { idle_exit, port };
    if let Err(error) = background::start(context, places, by) {
        return failed(&error);
    }
    match standing(context, places) {
        Ok(daemon) => {
            output::print(&format!(
                "Daemon started in background (PID: {})\n",
                daemon.pid
            ));
            // It may have been somebody else who started it in this moment.
            open_port(context, places, port)
        }
        Err(error) => failed(&error),
    }
}

/// Asks the daemon to end and waits until it has: whoever starts the next one finds everything free.
///
/// It is the kernel that says who the daemon is, so that one can be ended that does not answer, or that speaks
/// another version of the contract.
fn stop(context: &Context, places: &Places) -> ExitCode {
    let client = Client::new(places.socket(), context.build);
    match background::stop::stop(&client, STOP_PATIENCE) {
        Ok(Stopped::Gone(pid)) => output::print(&format!("Stopped Styxy daemon (PID: {pid})\n")),
        Ok(Stopped::NotRunning) => output::print("Styxy daemon is not running\n"),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

fn standing(context: &Context, places: &Places) -> Result<Standing, RemoteError> {
    Remote::at_socket(&places.socket(), context.build)?.get_of_any(api::STATUS)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use std::path::Path;

    use super::*;

    #[test]
    fn running_processes_are_known_by_recipes_by_the_users_own_and_by_the_project() {
        let dir = tempfile::tempdir().expect("a directory");
        let recipes = dir.path().join("recipes");
        fs::create_dir(&recipes).expect("a directory");
        let recipe = r#"
            [[recipe]]
            name = "our-server"
            ecosystem = "system"
            service_type = "messaging"
            [[recipe.match]]
            program = ["our-server"]
        "#;
        fs::write(recipes.join("ours.toml"), recipe).expect("a file");
        fs::write(recipes.join("broken.toml"), "[[recipe]]").expect("a file");
        let package = r#"{"dependencies": {"express": "5"}}"#;
        fs::write(dir.path().join("package.json"), package).expect("a file");
        let classify = classify(recipes);
        let kind = |argv: &[&str], cwd: Option<&Path>| {
            let argv: Vec<String> = argv.iter().map(|&it| it.to_owned()).collect();
            classify(&argv, cwd).map(|it| it.to_string())
        };
        let vite = ["node", "/p/node_modules/.bin/vite"];
        assert_eq!(kind(&vite, None).as_deref(), Some("dev"));
        assert_eq!(kind(&["our-server"], None).as_deref(), Some("messaging"));
        let express = kind(&["node", "app.js"], Some(dir.path()));
        assert_eq!(express.as_deref(), Some("api"));
        assert_eq!(kind(&["node", "app.js"], None), None);
    }
}
