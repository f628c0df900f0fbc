//! `styxy run`: from a typed command to its end, stage by stage.
//!
//! Invariant: once the command line was understood, nothing that goes wrong in styxy keeps the command from
//! running; it runs with less, and one line says so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use styxy_protocol::{Port, ServiceType};
use styxy_recipes::{Catalog, Command, Detection, Outcome, RecipeSource, detect};

use crate::cli::RunArgs;
use crate::context::Context;
use crate::exit_codes;
use crate::lease::{self, Lease, Wish};
use crate::notice::{self, Notices, Volume};
use crate::observe::{self, ProjectFiles};
use crate::output;
use crate::places::{self, Places};
use crate::plan::{self, Report, RunPlan};
use crate::supervise::{self, Job, SpawnError};
use crate::tree::Tree;

/// How long descendants may keep a port after a terminating signal before they are killed.
const GRACE: Duration = Duration::from_secs(10);
/// The largest recipe file that is read, in bytes.
const RECIPE_LIMIT: u64 = 1 << 18;
/// How many files of the recipe folder are read.
const RECIPE_FILES: usize = 200;

/// Runs the command. Returns how styxy is to end; where styxy has nothing to do it is replaced by the command.
pub(crate) fn run(context: &Context, args: &RunArgs) -> ExitCode {
    if context.is_disabled() {
        return replaced_by(context, &args.command);
    }
    let notices = Notices::new(match (args.quiet, context.is_watched) {
        (true, _) => Volume::Quiet,
        (false, true) => Volume::Watched,
        (false, false) => Volume::Normal,
    });
    let detection = understand(context, &args.command, &notices);
    let service = Service::new(args, detection);
    if !service.needs_port && !args.dry_run {
        return replaced_by(context, &args.command);
    }
    let wish = service.wish(context, args);
    if args.strict && wish.wanted().is_none() {
        notice::fatal(&"`--strict` needs a port: name one with `--port PORT`");
        return ExitCode::from(exit_codes::USAGE);
    }
    let outcome = if args.dry_run {
        dry_run(context, args, &service, &wish)
    } else {
        lease_and_start(context, args, &service, &wish, notices)
    };
    outcome.unwrap_or_else(|taken| {
        notice::fatal(&taken);
        ExitCode::from(exit_codes::PORT_TAKEN)
    })
}

/// Stages observe, understand and match.
fn understand(context: &Context, command: &[OsString], notices: &Notices) -> Detection {
    let files = ProjectFiles::default();
    let (catalog, problems) = Catalog::builtin().with_user_recipes(user_recipes(context, notices));
    for problem in problems {
        notices.warn(&format_args!("{problem}\nthis recipe is left out"));
    }
    let env = |name: &str| context.var(name).map(OsString::from);
    let cwd = context.cwd.as_deref().unwrap_or(Path::new("/nonexistent"));
    let detection = detect(
        &catalog,
        &Command {
            argv: command,
            cwd,
            env: &env,
        },
        &files,
    );
    for note in files.take_notes() {
        notices.warn(&note);
    }
    detection
}

/// The user's own recipes; none of a project's files can name one.
fn user_recipes(context: &Context, notices: &Notices) -> Vec<RecipeSource> {
    let Some(dir) = places::home(context).map(|home| Places::recipes(&home)) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    paths.sort();
    paths.truncate(RECIPE_FILES);
    let read = |path: PathBuf| match observe::read_capped(&path, RECIPE_LIMIT) {
        Ok(text) => text.map(|text| RecipeSource { path, text }),
        Err(problem) => {
            notices.warn(&format_args!("`{}` is left out: {problem}", path.display()));
            None
        }
    };
    paths.into_iter().filter_map(read).collect()
}

/// A detection together with what the user said about it.
struct Service {
    detection: Detection,
    kind: ServiceType,
    name: String,
    asked: Option<Port>,
    needs_port: bool,
}

impl Service {
    fn new(args: &RunArgs, detection: Detection) -> Self {
        let is_service = matches!(detection.outcome, Outcome::Service | Outcome::Generic);
        Self {
            kind: args
                .service_type
                .clone()
                .unwrap_or_else(|| detection.service_type.clone()),
            name: args
                .name
                .clone()
                .unwrap_or_else(|| detection.service_name.clone()),
            asked: args.port.or(detection.asked_port.map(|asked| asked.port)),
            // Who names a port or a type says that it is a service.
            needs_port: is_service || args.port.is_some() || args.service_type.is_some(),
            detection,
        }
    }

    fn wish(&self, context: &Context, args: &RunArgs) -> Wish {
        let place = self
            .detection
            .package_dir
            .clone()
            .or_else(|| context.cwd.clone());
        Wish {
            service_type: self.kind.clone(),
            name: self.name.clone(),
            worktree: place.as_deref().map(observe::worktree),
            package_dir: place,
            asked: self.asked,
            default: self.detection.default_port,
            strict: args.strict,
            command: plan::command_line(&args.command),
        }
    }
}

fn dry_run(
    context: &Context,
    args: &RunArgs,
    service: &Service,
    wish: &Wish,
) -> Result<ExitCode, lease::Taken> {
    let plan = if service.needs_port {
        let lease = lease::preview(context, Places::find(context).ok().as_ref(), wish)?;
        Some(plan::plan(
            &service.detection,
            &args.command,
            lease.port,
            "",
        ))
    } else {
        None
    };
    let report = Report::new(&service.detection, wish, &args.command, plan.as_ref());
    if args.json {
        output::print_json(&report);
    } else {
        output::print(&report.to_text());
    }
    Ok(ExitCode::SUCCESS)
}

/// Stages lease to exit.
fn lease_and_start(
    context: &Context,
    args: &RunArgs,
    service: &Service,
    wish: &Wish,
    notices: Notices,
) -> Result<ExitCode, lease::Taken> {
    let places = Places::find(context);
    let (lease, unmanaged) = lease::acquire(context, &places, wish)?;
    if let Some(reason) = &unmanaged {
        notices.degraded(reason);
    }
    announce(&notices, wish, &lease);
    let plan = plan::plan(&service.detection, &args.command, lease.port, &lease.id);
    let tree = Tree::prepare(
        places.ok().as_ref(),
        lease,
        &plan,
        wish.wanted(),
        Arc::new(notices),
    );
    Ok(supervised(context, &plan, tree))
}

/// One line when the port is not the one that the tool or the user would have used.
fn announce(notices: &Notices, wish: &Wish, lease: &Lease) {
    match (wish.asked, wish.default) {
        (Some(wanted), _) if wanted != lease.port => {
            notices.reassigned(wanted, lease.port, lease.conflict.as_ref());
        }
        (None, Some(default)) if default != lease.port => match &lease.conflict {
            Some(conflict) => notices.reassigned(default, lease.port, Some(conflict)),
            None => notices.as_last_time(default, lease.port),
        },
        _ => {}
    }
}

/// Stages spawn, supervise, release, exit.
fn supervised(context: &Context, plan: &RunPlan, mut tree: Tree) -> ExitCode {
    let mut set = plan.env.clone();
    set.extend(tree.variables(context));
    let env = plan::environment(&context.env, &set);
    let job = Job {
        argv: &plan.argv,
        env: &env,
        grace: GRACE,
    };
    let ended = supervise::run(&job, &mut tree);
    // Before leaving: this process may end by a signal, and nothing would run after that.
    tree.release();
    match ended {
        Ok(reason) => reason.leave(),
        Err(error) => not_started(&plan.argv, &error),
    }
}

fn replaced_by(context: &Context, command: &[OsString]) -> ExitCode {
    let error = supervise::exec(command, &context.env);
    not_started(command, &error)
}

fn not_started(command: &[OsString], error: &SpawnError) -> ExitCode {
    notice::fatal(&format_args!(
        "`{}`: {error}",
        notice::visible(&command[0].to_string_lossy())
    ));
    ExitCode::from(match error {
        SpawnError::NotFound => exit_codes::NOT_FOUND,
        SpawnError::NotExecutable(_) => exit_codes::NOT_EXECUTABLE,
    })
}
