//! `styxy allocate`: a lease for somebody who starts the service in another way than with `styxy run`.

mod hold;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use styxy_protocol::api::{self, AllocateRequest, AllocateResponse, ExistingLease, NewRange};

use super::Done;
use super::console::Console;
use super::failure::Failure;
use crate::cli::AllocateArgs;
use crate::context::Context;
use crate::notice::{self, printable};
use crate::{env_names, observe, output, plan};

/// Who asks, where nobody says who.
const NOBODY: &str = "cli";

/// Leases a port, prints it, and keeps the lease for as long as it was told to.
pub(super) fn allocate(console: &Console<'_>, args: &AllocateArgs) -> Done {
    let request = request(console.context, args)?;
    let answer: AllocateResponse = console.ask(|it| it.post(api::ALLOCATE, &request))?;
    if let (true, Some(existing)) = (args.hold, &answer.existing) {
        return Err(one_at_a_time(args, &answer, existing));
    }
    if request.pid.is_some() {
        hold::let_the_tree_be(console.context, &answer.lock_id);
    }
    if !args.command.is_empty() {
        if !args.quiet {
            notice::plain(&printable(&answer.message));
        }
        return Ok(hold::become_command(
            console.context,
            &args.command,
            &answer,
        ));
    }
    if args.quiet {
        output::print(&format!("{}\n", answer.port));
    } else {
        console.show(&answer, |_| text(&answer, args));
    }
    if args.hold {
        hold::until_stdin_ends(console, &answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(context: &Context, args: &AllocateArgs) -> Result<AllocateRequest, Failure> {
    let directory = directory(context, args.project.as_deref())?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let command = &args.command;
    Ok(AllocateRequest {
        service_type: args.service_type().clone(),
        service_name: args.service_name().map(str::to_owned),
        instance_id: Some(instance(context, args)),
        project_path: directory.as_deref().map(|it| text(&observe::worktree(it))),
        package_dir: directory.as_deref().map(text),
        preferred_port: args.port,
        default_port: None,
        strict: args.strict,
        spare_ports: 0,
        pid: args.pid.or_else(|| args.hold.then_some(context.pid)),
        command: (!command.is_empty()).then(|| plan::command_line(command)),
        ttl_seconds: args.ttl,
        dry_run: false,
    })
}

/// The directory that the service belongs to: without links, as other ways to it are to give the same port.
fn directory(context: &Context, named: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(named) = named else {
        return Ok(context.cwd.clone());
    };
    let here = context.cwd.as_deref().unwrap_or(Path::new("/"));
    let path = here.join(named);
    let found = path.canonicalize().and_then(|found| {
        let is_dir = found.is_dir();
        is_dir
            .then_some(found)
            .ok_or(io::ErrorKind::NotADirectory.into())
    });
    found
        .map(Some)
        .map_err(Failure::file("use project directory", path))
}

fn instance(context: &Context, args: &AllocateArgs) -> String {
    let is_valid = |text: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=100).contains(&text.len()) && text.bytes().all(is_word)
    };
    let inherited = context.var(env_names::INSTANCE).and_then(|it| it.to_str());
    // It is for display alone: what cannot be one is no reason to be without a port.
    let inherited = inherited.filter(|it| is_valid(it));
    let named = args.instance.as_deref().or(inherited);
    named.unwrap_or(NOBODY).to_owned()
}

fn one_at_a_time(
    args: &AllocateArgs,
    answer: &AllocateResponse,
    existing: &ExistingLease,
) -> Failure {
    let pid = existing.pid.map(|pid| format!(" (pid {pid})"));
    Failure::Impossible(format!(
        "one `{}` service at a time: it runs on port {}{}; without `--hold` you get that port",
        args.service_type(),
        answer.port,
        pid.unwrap_or_default()
    ))
}

fn text(answer: &AllocateResponse, args: &AllocateArgs) -> String {
    let service = args.service_type();
    let mut lines = Vec::new();
    if let Some(range) = &answer.new_range {
        lines.extend(new_range(service.as_str(), range));
    }
    lines.push(format!("✓ {}", printable(&answer.message)));
    if let Some(existing) = &answer.existing {
        lines.extend(
            existing
                .instance_id
                .as_deref()
                .map(|it| format!("Instance: {}", printable(it))),
        );
        lines.extend(existing.pid.map(|pid| format!("PID: {pid}")));
    }
    if let Some(conflict) = &answer.conflict {
        let holder = notice::holder(&conflict.holder);
        lines.push(format!("Port {} cannot be had{holder}", conflict.port));
    }
    lines.push(format!("Lock ID: {}", printable(&answer.lock_id)));
    lines.push(format!(
        "Use this port for your {service} service: {}",
        answer.port
    ));
    if args.hold {
        lines.push("The lease is kept until stdin ends".to_owned());
    }
    lines.join("\n") + "\n"
}

/// What there is to say when a kind of service has just been given its ports.
fn new_range(service: &str, range: &NewRange) -> [String; 3] {
    let [first, last] = range.allocated_range;
    [
        format!("Auto-allocated service type: {service}"),
        format!("New port range: {first}-{last}"),
        format!(
            "Chunk size: {} ports (placement: {})",
            range.chunk_size, range.placement
        ),
    ]
}

#[cfg(test)]
mod tests;
