//! What is asked of the daemon, and what is told of its answer.

use std::ffi::OsString;

use clap::Parser as _;
use styxy_protocol::api::{Conflict, Holder, PROTOCOL, PlacementRule};

use super::*;
use crate::cli::{Cli, Command, ManageCommand};
use crate::manage::list::tests::port;

fn typed(words: &[&str]) -> AllocateArgs {
    let cli = Cli::try_parse_from([&["styxy", "allocate"], words].concat()).unwrap();
    match cli.command {
        Command::Manage(ManageCommand::Allocate(args)) => args,
        other => panic!("{other:?}"),
    }
}

fn context(dir: &Path, env: &[(&str, &str)]) -> Context {
    Context {
        build: crate::BUILD,
        env: env
            .iter()
            .map(|(key, value)| (OsString::from(key), value.into()))
            .collect(),
        cwd: Some(dir.to_owned()),
        pid: 7,
        uid: 0,
        is_watched: false,
    }
}

fn asked(words: &[&str], env: &[(&str, &str)]) -> AllocateRequest {
    request(&context(Path::new("/nonexistent"), env), &typed(words)).unwrap()
}

fn answer() -> AllocateResponse {
    AllocateResponse {
        success: true,
        port: port(3001),
        lock_id: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned(),
        message: "Port 3001 allocated for dev service".to_owned(),
        protocol: PROTOCOL,
        spare_ports: Vec::new(),
        conflict: None,
        heartbeat_seconds: None,
        existing: None,
        new_range: None,
        dry_run: None,
    }
}

#[test]
fn type_and_name_are_words_or_options() {
    for words in [
        ["dev", "web"].as_slice(),
        &["dev", "-n", "web"],
        &["-s", "dev", "--name", "web"],
    ] {
        let request = asked(words, &[]);
        assert_eq!(request.service_type.as_str(), "dev");
        assert_eq!(request.service_name.as_deref(), Some("web"), "{words:?}");
        assert_eq!(
            (request.pid, request.strict, request.ttl_seconds),
            (None, false, None)
        );
    }
    for preferred in ["-p", "--port", "--preferred"] {
        assert_eq!(
            asked(&["dev", preferred, "4000"], &[]).preferred_port,
            Some(port(4000))
        );
    }
}

#[test]
fn the_owner_is_a_process_that_is_named_or_this_one() {
    assert_eq!(asked(&["dev", "--pid", "41"], &[]).pid, Some(41));
    assert_eq!(asked(&["dev", "--hold"], &[]).pid, Some(7));
    let held = asked(&["dev", "--hold", "--", "node", "a b.js"], &[]);
    assert_eq!(held.command.as_deref(), Some("node 'a b.js'"));
}

#[test]
fn the_client_is_named_by_option_by_agent_or_as_the_command_line() {
    let agent = [("CLAUDE_INSTANCE_ID", "agent-1")];
    let name = |words: &[&str], env: &[(&str, &str)]| asked(words, env).instance_id.unwrap();
    assert_eq!(name(&["dev", "--instance", "me"], &agent), "me");
    assert_eq!(name(&["dev"], &agent), "agent-1");
    assert_eq!(name(&["dev"], &[]), "cli");
    assert_eq!(name(&["dev"], &[("CLAUDE_INSTANCE_ID", "no id\n")]), "cli");
}

#[test]
fn a_service_belongs_to_its_directory_and_that_ones_worktree() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("shop/.git")).unwrap();
    std::fs::create_dir_all(root.join("shop/web")).unwrap();
    std::os::unix::fs::symlink(root.join("shop"), root.join("link")).unwrap();
    let context = context(&root, &[]);
    let request = request(&context, &typed(&["dev", "--project", "link/web"])).unwrap();
    let text = |path: &str| Some(root.join(path).to_string_lossy().into_owned());
    assert_eq!(request.package_dir, text("shop/web"));
    assert_eq!(request.project_path, text("shop"));
    let none = directory(&context, Some(Path::new("nothing"))).unwrap_err();
    assert!(
        none.to_string()
            .starts_with("cannot use project directory `"),
        "{none}"
    );
}

#[test]
fn the_answer_is_told_in_the_known_phrases() {
    insta::assert_snapshot!(text(&answer(), &typed(&["dev"])), @"
    ✓ Port 3001 allocated for dev service
    Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
    Use this port for your dev service: 3001
    ");
    let elsewhere = AllocateResponse {
        conflict: Some(Conflict {
            port: port(3000),
            holder: Holder::Process {
                pid: Some(9),
                command: Some("python3 -m http.server\u{1b}[2J".to_owned()),
            },
        }),
        new_range: Some(NewRange {
            auto_allocated: true,
            allocated_range: [port(11510), port(11519)],
            chunk_size: 10,
            placement: PlacementRule::After,
        }),
        ..answer()
    };
    insta::assert_snapshot!(text(&elsewhere, &typed(&["grafana", "--hold"])), @r"
    Auto-allocated service type: grafana
    New port range: 11510-11519
    Chunk size: 10 ports (placement: after)
    ✓ Port 3001 allocated for dev service
    Port 3000 cannot be had (held by pid 9: python3 -m http.server\u{1b}[2J)
    Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
    Use this port for your grafana service: 3001
    The lease is kept until stdin ends
    ");
}

#[test]
fn of_a_single_service_it_is_told_who_has_it() {
    let existing = ExistingLease {
        existing: true,
        lock_id: answer().lock_id,
        instance_id: Some("agent-1".to_owned()),
        pid: Some(41),
        allocated_at: 0,
    };
    let reused = AllocateResponse {
        message: "Service 'ai' only allows single instance".to_owned(),
        existing: Some(existing.clone()),
        ..answer()
    };
    insta::assert_snapshot!(text(&reused, &typed(&["ai"])), @"
    ✓ Service 'ai' only allows single instance
    Instance: agent-1
    PID: 41
    Lock ID: 6ba7b810-9dad-41d1-80b4-00c04fd430c8
    Use this port for your ai service: 3001
    ");
    let error = one_at_a_time(&typed(&["ai", "--hold"]), &reused, &existing);
    assert_eq!(
        error.to_string(),
        "one `ai` service at a time: it runs on port 3001 (pid 41); without `--hold` you get that port"
    );
}
