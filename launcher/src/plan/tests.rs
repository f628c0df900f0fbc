//! Plans and their reports.

use std::path::Path;

use styxy_recipes::{Catalog, Command, detect};

use super::*;
use crate::lease::tests::wish;
use crate::observe::ProjectFiles;

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn detected(argv: &[OsString]) -> Detection {
    let command = Command {
        argv,
        cwd: Path::new("/nonexistent"),
        env: &|_| None,
    };
    detect(&Catalog::builtin(), &command, &ProjectFiles::default())
}

/// The report of a command that gets this port, or none.
fn report(command: &[&str], got: Option<u16>, insistence: Insistence) -> (String, String) {
    let command = words(command);
    let detection = detected(&command);
    let wish = Wish {
        service_type: detection.service_type.clone(),
        name: detection.service_name.clone(),
        asked: detection.asked_port.map(|asked| asked.port),
        default: detection.default_port,
        ..wish()
    };
    let plan = got.map(|got| plan(&detection, &command, port(got), insistence, ""));
    let report = Report::new(&Findings {
        detection: &detection,
        wish: &wish,
        command: &command,
        program: Some("/usr/bin/it".into()),
        plan: plan.as_ref(),
        is_followed: false,
    });
    let json = serde_json::to_string_pretty(&report).unwrap();
    (report.to_text(), json)
}

#[test]
fn reports_of_a_known_service() {
    let command = ["python3", "-m", "http.server", "8000"];
    let (text, json) = report(&command, Some(8001), Insistence::None);
    insta::assert_snapshot!(text, @r"
    recipe    python-http-server (service)
    because   `python3 -m http.server 8000` is recipe `python-http-server`
    type      api
    name      python-http-server
    port      8001 (asked for: 8000)
    net       binds to other taken ports are moved to free ones (LD_PRELOAD)
    command   python3 -m http.server 8001
    program   /usr/bin/it
    ");
    insta::assert_snapshot!(json, @r#"
    {
      "recipe": "python-http-server",
      "outcome": "service",
      "service_type": "api",
      "service_name": "python-http-server",
      "why": [
        "`python3 -m http.server 8000` is recipe `python-http-server`"
      ],
      "asked_port": 8000,
      "default_port": 8000,
      "port": 8001,
      "url": "http://localhost:8001",
      "intercept": true,
      "env": {},
      "argv": [
        "python3",
        "-m",
        "http.server",
        "8001"
      ],
      "program": "/usr/bin/it"
    }
    "#);
}

#[test]
fn report_of_a_tool_that_takes_its_port_anyway() {
    let (text, _) = report(&["vite"], Some(5173), Insistence::None);
    insta::assert_snapshot!(text, @r"
    recipe    vite (service)
    because   `vite` is recipe `vite`
    type      dev
    name      vite
    port      5173
    net       binds to other taken ports are moved to free ones (LD_PRELOAD)
    command   vite
    program   /usr/bin/it
    ");
    let (text, _) = report(&["vite"], Some(5173), Insistence::Strict);
    insta::assert_snapshot!(text, @r"
    recipe    vite (service)
    because   `vite` is recipe `vite`
    type      dev
    name      vite
    port      5173
    net       binds to other taken ports are moved to free ones (LD_PRELOAD)
    command   vite --port 5173 --strictPort
    program   /usr/bin/it
    ");
}

#[test]
fn report_of_an_unknown_command() {
    let (text, _) = report(&["./serve", "it's", "a b"], Some(3001), Insistence::None);
    insta::assert_snapshot!(text, @r"
    recipe    generic (generic)
    because   no recipe knows `./serve it's a b`
    type      dev
    name      serve
    port      3001
    env       PORT=3001
    net       binds to other taken ports are moved to free ones (LD_PRELOAD)
    command   ./serve 'it'\''s' 'a b'
    program   /usr/bin/it
    ");
}

#[test]
fn reports_of_a_command_that_is_left_as_it_is() {
    let (text, json) = report(&["ls", "-l"], None, Insistence::None);
    insta::assert_snapshot!(text, @r"
    recipe    chores (short-lived)
    because   `ls` is no server
    type      dev
    name      chores
    port      none, the command is run as it is
    command   ls -l
    program   /usr/bin/it
    ");
    insta::assert_snapshot!(json, @r#"
    {
      "recipe": "chores",
      "outcome": "short-lived",
      "service_type": "dev",
      "service_name": "chores",
      "why": [
        "`ls` is no server"
      ],
      "asked_port": null,
      "default_port": null,
      "port": null,
      "url": null,
      "intercept": false,
      "env": {},
      "argv": [
        "ls",
        "-l"
      ],
      "program": "/usr/bin/it"
    }
    "#);
}

#[test]
fn a_report_says_when_there_is_nothing_to_run() {
    let command = words(&["nonsense"]);
    let detection = detected(&command);
    let findings = Findings {
        detection: &detection,
        wish: &wish(),
        command: &command,
        program: None,
        plan: None,
        is_followed: false,
    };
    let text = Report::new(&findings).to_text();
    assert!(
        text.ends_with("program   not found; it would end with exit code 127 or 126\n"),
        "{text}"
    );
}

#[test]
fn a_report_says_when_a_service_would_be_followed_instead() {
    let command = words(&["sh", "llm.sh"]);
    let detection = detected(&command);
    let plan = plan(&detection, &command, port(11430), Insistence::None, "");
    let findings = Findings {
        detection: &detection,
        wish: &Wish {
            service_type: "ai".parse().unwrap(),
            ..wish()
        },
        command: &command,
        program: Some("/usr/bin/sh".into()),
        plan: Some(&plan),
        is_followed: true,
    };
    let report = Report::new(&findings);
    let port_row = "port      11430 (the one `ai` service runs there; it would be followed until it ends, and nothing started)\n";
    assert!(report.to_text().contains(port_row), "{}", report.to_text());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["follows"], true);
}

#[test]
fn nothing_in_a_report_moves_the_cursor() {
    let (text, _) = report(
        &["./a\u{1b}[2J\nb", "\u{202e}"],
        Some(3000),
        Insistence::None,
    );
    assert!(
        text.chars()
            .all(|character| character == '\n' || !character.is_control()),
        "{text:?}"
    );
    assert!(text.contains(r"$'./a\u001b[2J\nb' $'\u202e'"), "{text}");
}

#[test]
fn a_plan_tells_the_port_and_whose_it_is() {
    let command = words(&["python3", "-m", "http.server", "8000"]);
    let plan = plan(
        &detected(&command),
        &command,
        port(8001),
        Insistence::None,
        "1f",
    );
    assert_eq!(plan.argv, words(&["python3", "-m", "http.server", "8001"]));
    assert_eq!(plan.env, [("STYXY_LEASE".into(), "1f".into())]);
    assert_eq!(plan.port, port(8001));
    assert!(plan.intercept && plan.reach == Reach::Argument && !plan.is_guess);
}

#[test]
fn what_may_bind_a_port_of_its_own_is_a_guess() {
    let guess = |command: &[&str], got| {
        let command = words(command);
        let insistence = Insistence::None;
        plan(&detected(&command), &command, port(got), insistence, "").is_guess
    };
    assert!(guess(&["./serve"], 3000), "nobody knows what it is");
    assert!(guess(&["vite"], 5173), "its configuration may say anything");
    assert!(
        guess(&["nginx", "-c", "nginx.conf"], 8100),
        "its port stands in its configuration"
    );
    assert!(!guess(&["vite"], 5174), "it was told");
    assert!(
        !guess(&["vite", "--port", "5173"], 5173),
        "the user told it"
    );
}

#[test]
fn a_further_port_that_somebody_has_is_a_spare_one() {
    let further = |command: &[&str], taken: &[u16], spares: &[u16]| {
        let command = words(command);
        let detection = detected(&command);
        let mut spares: Vec<Port> = spares.iter().map(|&number| port(number)).collect();
        let is_free = |port: Port| !taken.contains(&port.get());
        let further = further_ports(&detection, &mut spares, is_free);
        let ports = Ports {
            main: port(10001),
            extra: &further,
        };
        let plan = plan(&detection, &command, ports, Insistence::None, "");
        (command_line(&plan.argv), plan.further, spares)
    };
    assert_eq!(
        further(&["azurite"], &[10000, 10001], &[20000, 20001]),
        (
            "azurite --blobPort 10001 --queuePort 20001".to_owned(),
            vec![port(20001)],
            vec![port(20000)]
        )
    );
    assert_eq!(
        further(&["azurite", "--queuePort", "7000"], &[10001], &[20000]),
        (
            "azurite --queuePort 7000 --blobPort 10001".to_owned(),
            vec![],
            vec![port(20000)]
        )
    );
    assert_eq!(further(&["azurite"], &[10001, 10002], &[]).1, []);
    assert_eq!(further(&["vite"], &[5173], &[20000]).1, []);
    assert_eq!(
        further(&["partykit", "dev"], &[9229], &[20000]).2,
        [port(20000)],
        "it has no argument for its inspector"
    );
}

#[test]
fn variables_of_the_plan_replace_inherited_ones_however_often_they_are_there() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
        let pair = |&(name, value): &(&str, &str)| (name.into(), value.into());
        pairs.iter().map(pair).collect()
    };
    let inherited = pairs(&[
        ("A", "1"),
        ("A", "2"),
        ("PORT", ""),
        ("STYXY_LEASE", "outer"),
        ("STYXY_LEASE", "outermost"),
        ("EMPTY", ""),
    ]);
    let set = pairs(&[("PORT", "3000"), ("STYXY_LEASE", "inner")]);
    let expected = pairs(&[
        ("A", "1"),
        ("A", "2"),
        ("EMPTY", ""),
        ("PORT", "3000"),
        ("STYXY_LEASE", "inner"),
    ]);
    assert_eq!(environment(&inherited, &set), expected);
    assert_eq!(environment(&inherited, &[]), inherited);
    let wish = [("STYXY_PORT".into(), "4000".into())];
    assert_eq!(environment(&wish, &[]), [], "a run has it for itself");
}

#[test]
fn words_are_quoted_as_a_shell_reads_them() {
    for (word, shown) in [
        ("npm", "npm"),
        ("--port=3000", "--port=3000"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", r"'it'\''s'"),
        ("$HOME", "'$HOME'"),
        ("ünïcode", "'ünïcode'"),
        ("a\tb\\'\u{7f}", r"$'a\tb\\\'\u007f'"),
    ] {
        assert_eq!(quoted(word), shown);
    }
    assert_eq!(command_line(&words(&["sh", "-c", "a b"])), "sh -c 'a b'");
}
