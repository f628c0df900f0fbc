//! The real Storybook: two copies of one project at once, both shown by a browser, and nothing left of either.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use styxy_tests::{Browser, Deadline, Fixture, Running, Sandbox, available, say};

use crate::server::{WATCHED, auto_assigned, leases, ready_port};
use crate::{FIXTURES, sandbox};

const STORYBOOK: [&str; 3] = ["npm", "run", "storybook"];
const STORY: &str = "greeting--plain";
const TEXT: &str = "Hello from the fixture story";

/// Two copies, started at the same time at terminals, and the ports that they serve on, in ascending order.
fn two_at_once(sandbox: &Sandbox) -> Option<Vec<(u16, Running)>> {
    let copies = ["one", "other"].map(|name| FIXTURES.copy(Fixture::Storybook, sandbox, name));
    let dirs: Vec<PathBuf> = available(copies.into_iter().collect())?;
    let started: Vec<Running> = dirs
        .iter()
        .map(|dir| {
            sandbox
                .managed(STORYBOOK)
                .env(WATCHED.0, WATCHED.1)
                .in_dir(dir)
                .on_terminal()
        })
        .collect();
    let mut runs: Vec<_> = started
        .into_iter()
        .map(|run| (ready_port(&run), run))
        .collect();
    runs.sort_by_key(|(port, _)| *port);
    let ports: Vec<_> = runs.iter().map(|(port, _)| *port).collect();
    assert_eq!(ports, [6006, 6007], "{runs:?}");
    Some(runs)
}

/// Ends the run, waits until it, all below it and its listeners are gone, and tells how long that took.
fn ends(
    sandbox: &Sandbox,
    (port, run): &mut (u16, Running),
    how: &str,
    end: impl FnOnce(&mut Running),
) {
    let tree = run.tree();
    assert!(tree.len() >= 3, "npm, storybook and more: {tree:?}");
    let since = Deadline::long();
    end(run);
    let processes = tree.wait_gone(since).as_millis();
    let listeners = sandbox.wait_free(*port, since).as_millis();
    say(&format!(
        "MEASURED: storybook and {how}: {} processes gone after {processes} ms, port {port} free after {listeners} ms",
        tree.len(),
    ));
}

#[test]
fn two_copies_show_their_stories_in_a_browser_and_leave_nothing() {
    let sandbox = sandbox();
    let Some(browser) = available(Browser::find()) else {
        return;
    };
    let Some(mut runs) = two_at_once(&sandbox) else {
        return;
    };
    runs[1]
        .1
        .line_with(&auto_assigned(6006, 6007), Deadline::short());
    assert_eq!(leases(&sandbox).allocations.len(), 2);
    for (port, _) in &runs {
        let story = format!("http://localhost:{port}/iframe.html?id={STORY}&viewMode=story");
        browser.sees(&sandbox, &story, TEXT, Deadline::long());
        let manager = format!("http://localhost:{port}/?path=/story/{STORY}");
        browser.sees(&sandbox, &manager, "Greeting - Plain", Deadline::long());
    }
    ends(&sandbox, &mut runs[0], "^C", |run| run.type_keys("\x03"));
    ends(&sandbox, &mut runs[1], "SIGTERM", |run| {
        run.signal(Signal::SIGTERM);
    });
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn nothing_is_left_after_hang_up_and_after_the_launcher_was_killed() {
    let sandbox = sandbox();
    let Some(mut runs) = two_at_once(&sandbox) else {
        return;
    };
    ends(
        &sandbox,
        &mut runs[0],
        "a closed terminal",
        Running::hang_up,
    );
    ends(&sandbox, &mut runs[1], "SIGKILL", |run| {
        run.signal(Signal::SIGKILL);
    });
    sandbox.wait_quiet(Deadline::short());
}

#[test]
fn nothing_is_left_after_hang_up_by_a_signal() {
    let sandbox = sandbox();
    let copy = FIXTURES.copy(Fixture::Storybook, &sandbox, "only");
    let Some(dir) = available(copy) else {
        return;
    };
    let run = sandbox
        .managed(STORYBOOK)
        .env(WATCHED.0, WATCHED.1)
        .in_dir(dir)
        .spawn();
    let port = ready_port(&run);
    assert_eq!(port, 6006);
    ends(&sandbox, &mut (port, run), "SIGHUP", |run| {
        run.signal(Signal::SIGHUP);
    });
    sandbox.wait_quiet(Deadline::short());
}
