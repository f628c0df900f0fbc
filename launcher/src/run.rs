//! `styxy run`: from a typed command to its end, stage by stage.
//!
//! Invariant: once the command line was understood, nothing that goes wrong in styxy keeps the command from
//! running; it runs with less, and one line says so.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use styxy_daemon::kernel;
use styxy_protocol::{Port, ServiceType};
use styxy_recipes::{Catalog, Command, Detection, Outcome, Ports, detect};

use crate::cli::RunArgs;
use crate::context::Context;
use crate::env_names;
use crate::exit_codes;
use crate::lease::{self, Acquired, Lease, Wish};
use crate::notice::{self, Notice, Notices, Volume};
use crate::observe::{self, ProjectFiles};
use crate::output;
use crate::places::{self, Places};
use crate::plan::{self, Findings, Insistence, Report, RunPlan};
use crate::supervise::{self, Job, SpawnError};
use crate::tree::Tree;

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
    if detection.outcome == Outcome::BringsOwnRun && !args.dry_run {
        return step_aside(context, args, &notices);
    }
    let service = Service::new(args, context.wished_port(), detection);
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

/// Stages observe, understand and match. None of a project's files can name a recipe: they come with styxy or
/// from the user's home.
fn understand(context: &Context, command: &[OsString], notices: &Notices) -> Detection {
    let recipes = places::home(context).map(|home| Places::recipes(&home));
    let (recipes, notes) = recipes.as_deref().map(observe::recipes).unwrap_or_default();
    let (catalog, problems) = Catalog::builtin().with_user_recipes(recipes);
    let files = ProjectFiles::default();
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
    for problem in problems {
        let problem = format_args!("{problem}\nthis recipe is left out");
        notices.say(Notice::LeftOut(&problem));
    }
    for note in notes.iter().chain(&files.take_notes()) {
        notices.say(Notice::LeftOut(&notice::printable(note)));
    }
    detection
}

/// A detection together with what the user said about it.
struct Service {
    detection: Detection,
    kind: ServiceType,
    name: String,
    asked: Option<Port>,
    insistence: Insistence,
    needs_port: bool,
}

impl Service {
    fn new(args: &RunArgs, wished: Option<Port>, detection: Detection) -> Self {
        let named = args.port.or(wished);
        // Who names a port or a type says that it is a service.
        let is_named = args.port.is_some() || args.service_type.is_some();
        let detection = match detection.outcome {
            Outcome::ShortLived | Outcome::KeepsItsPort if is_named => {
                detection.as_service(&args.command)
            }
            _ => detection,
        };
        Self {
            kind: args
                .service_type
                .clone()
                .unwrap_or_else(|| detection.service_type.clone()),
            name: args
                .name
                .clone()
                .unwrap_or_else(|| detection.service_name.clone()),
            asked: named.or(detection.asked_port.map(|asked| asked.port)),
            insistence: match (args.strict, named) {
                (true, _) => Insistence::Strict,
                (false, Some(_)) => Insistence::Named,
                (false, None) => Insistence::None,
            },
            needs_port: matches!(detection.outcome, Outcome::Service | Outcome::Generic),
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
    let (plan, is_followed) = if service.needs_port {
        let places = Places::find(context).ok();
        let (lease, is_followed) = lease::preview(context, places.as_ref(), wish)?;
        let plan = plan::plan(
            &service.detection,
            &args.command,
            lease.port,
            service.insistence,
            "",
        );
        (Some(plan), is_followed)
    } else {
        (None, false)
    };
    let report = Report::new(&Findings {
        detection: &service.detection,
        wish,
        command: &args.command,
        program: observe::program(context, &args.command[0]),
        plan: plan.as_ref(),
        is_followed,
    });
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
    let (lease, unmanaged) = match lease::acquire(context, &places, wish)? {
        Acquired::Port(lease, unmanaged) => (lease, unmanaged),
        Acquired::Elsewhere(service) => return Ok(service.follow(&notices)),
    };
    if let Some(reason) = &unmanaged {
        notices.say(Notice::Degraded(reason));
    }
    if let Some(notice) = announcement(wish, &lease) {
        notices.say(notice);
    }
    let mut lease = lease;
    let is_free = |port| port != lease.port && kernel::port_is_free(port);
    let further = plan::further_ports(&service.detection, &mut lease.spares, is_free);
    let plan = plan::plan(
        &service.detection,
        &args.command,
        Ports {
            main: lease.port,
            extra: &further,
        },
        service.insistence,
        &lease.id,
    );
    let tree = Tree::prepare(
        places.ok().as_ref(),
        lease,
        &plan,
        wish.wanted(),
        Arc::new(notices),
    );
    Ok(if args.exec {
        handed_over(context, args, &plan, tree)
    } else {
        supervised(context, args, &plan, tree)
    })
}

/// What there is to say when the port is not the one that the tool or the user would have used.
fn announcement<'a>(wish: &Wish, lease: &'a Lease) -> Option<Notice<'a>> {
    let got = lease.port;
    let wanted = wish.wanted().filter(|&wanted| wanted != got)?;
    let conflict = lease.conflict.as_ref();
    if wish.asked.is_none() && conflict.is_none() {
        return Some(Notice::AsLastTime {
            default: wanted,
            got,
        });
    }
    let holder = conflict.map(|conflict| &conflict.holder);
    Some(Notice::Reassigned {
        wanted,
        got,
        holder,
    })
}

/// Stages spawn, supervise, release, exit.
fn supervised(context: &Context, args: &RunArgs, plan: &RunPlan, mut tree: Tree) -> ExitCode {
    let env = environment(context, plan, &tree);
    let witness = tree.witness();
    let job = Job {
        argv: &plan.argv,
        env: &env,
        witness: witness.as_deref(),
        grace: args.grace,
    };
    let ended = supervise::run(&job, &mut tree);
    // Before leaving: this process may end by a signal, and nothing would run after that.
    tree.release();
    match ended {
        Ok(reason) => reason.leave(),
        Err(error) => not_executed(context, args, plan, &error),
    }
}

/// Stage spawn with `--exec`: becomes the command, which has the lease from then on.
fn handed_over(context: &Context, args: &RunArgs, plan: &RunPlan, tree: Tree) -> ExitCode {
    let env = environment(context, plan, &tree);
    tree.hand_over();
    let error = supervise::exec(&plan.argv, &env);
    tree.take_back();
    tree.release();
    not_executed(context, args, plan, &error)
}

fn environment(context: &Context, plan: &RunPlan, tree: &Tree) -> Vec<(OsString, OsString)> {
    let mut set = plan.env.clone();
    set.extend(tree.variables(context));
    plan::environment(&context.env, &set)
}

/// What styxy adds to arguments and environment may be what makes them too long for the kernel.
fn not_executed(context: &Context, args: &RunArgs, plan: &RunPlan, error: &SpawnError) -> ExitCode {
    match error {
        SpawnError::NotExecutable(cause) if cause.kind() == ErrorKind::ArgumentListTooLong => {
            replaced_by(context, &args.command)
        }
        error => not_started(&plan.argv, error),
    }
}

/// Becomes a command whose script runs styxy itself, and hands the wish for a port on to that run.
fn step_aside(context: &Context, args: &RunArgs, notices: &Notices) -> ExitCode {
    if args.strict || args.service_type.is_some() || args.name.is_some() {
        notices.say(Notice::Degraded(
            &"the script runs `styxy run` itself: `--strict`, `--type` and `--name` belong there",
        ));
    }
    let mut env = context.env.clone();
    if let Some(port) = args.port {
        env.retain(|(name, _)| name != env_names::PORT);
        env.push((env_names::PORT.into(), port.to_string().into()));
    }
    let error = supervise::exec(&args.command, &env);
    not_started(&args.command, &error)
}

fn replaced_by(context: &Context, command: &[OsString]) -> ExitCode {
    let error = supervise::exec(command, &context.env);
    not_started(command, &error)
}

/// Says why a command could not be started; the exit code that a shell has for it.
pub(crate) fn not_started(command: &[OsString], error: &SpawnError) -> ExitCode {
    let because = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    notice::fatal(&format_args!(
        "`{}`: {error}{}",
        notice::visible(&command[0].to_string_lossy()),
        because.unwrap_or_default()
    ));
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests;
