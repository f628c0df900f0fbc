//! The policy over every signal, origin and state, without a process and without a clock.

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const DONE: ExitReason = ExitReason::Code(7);
const TERMINATING: [i32; 4] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];

#[expect(
    clippy::disallowed_methods,
    reason = "any starting point will do; time only moves where a test says so"
)]
fn start() -> Instant {
    Instant::now()
}

fn policy() -> Policy {
    policy_in(SignalSet::EMPTY, false)
}

fn policy_in(ignored: SignalSet, leads_session: bool) -> Policy {
    Policy::new(Standing {
        ignored,
        leads_session,
        grace: GRACE,
    })
}

fn signal(signal: i32, origin: Origin) -> Event {
    Event::Signal { signal, origin }
}

fn all_signals() -> impl Iterator<Item = i32> {
    (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP, 32, 33].contains(number))
}

fn tree(signal: i32, to: Whom) -> Action {
    Action::SignalTree { signal, to }
}

#[test]
fn a_signal_from_a_process_is_forwarded_once() {
    for number in all_signals() {
        let actions = policy().step(signal(number, Origin::Process), start());
        let forwards = actions
            .iter()
            .filter(|&&action| action == Action::Forward)
            .count();
        assert_eq!(forwards, 1, "signal {number}: {actions:?}");
    }
}

#[test]
fn a_signal_to_the_group_is_never_forwarded() {
    for number in all_signals() {
        let actions = policy().step(signal(number, Origin::ProcessToGroup), start());
        assert!(
            !actions.contains(&Action::Forward),
            "signal {number}: {actions:?}"
        );
    }
}

#[test]
fn what_the_child_sends_is_not_sent_back() {
    for number in all_signals() {
        assert_eq!(
            policy().step(signal(number, Origin::Child), start()),
            [],
            "signal {number}"
        );
    }
}

#[test]
fn the_terminal_reaches_the_child_by_itself() {
    for leads_session in [false, true] {
        for number in [
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTSTP,
            libc::SIGWINCH,
            libc::SIGTTIN,
            libc::SIGTTOU,
        ] {
            let mut policy = policy_in(SignalSet::EMPTY, leads_session);
            assert_eq!(
                policy.step(signal(number, Origin::Kernel), start()),
                [],
                "signal {number}"
            );
            assert_eq!(policy.deadline(), None, "the terminal starts no tree stop");
        }
    }
}

#[test]
fn a_hang_up_is_forwarded_by_the_session_leader_alone() {
    for number in [libc::SIGHUP, libc::SIGCONT] {
        let hang_up = signal(number, Origin::Kernel);
        assert_eq!(
            policy_in(SignalSet::EMPTY, true).step(hang_up, start()),
            [Action::Forward]
        );
        assert_eq!(
            policy_in(SignalSet::EMPTY, false).step(hang_up, start()),
            []
        );
    }
}

#[test]
fn an_alarm_clock_set_before_the_launcher_rings_at_the_child() {
    for number in [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF] {
        assert_eq!(
            policy().step(signal(number, Origin::Kernel), start()),
            [Action::Forward]
        );
    }
    assert_eq!(
        policy().step(signal(libc::SIGPIPE, Origin::Kernel), start()),
        [],
        "our own broken pipe"
    );
}

#[test]
fn the_tree_is_signalled_for_terminating_signals_only() {
    for number in all_signals() {
        let mut policy = policy();
        let actions = policy.step(signal(number, Origin::Process), start());
        let expected = TERMINATING.contains(&number);
        assert_eq!(
            actions.contains(&tree(number, Whom::Everyone)),
            expected,
            "signal {number}"
        );
        assert_eq!(policy.deadline().is_some(), expected, "signal {number}");
    }
}

#[test]
fn a_group_signal_goes_on_to_other_groups() {
    let actions = policy().step(signal(libc::SIGTERM, Origin::ProcessToGroup), start());
    assert_eq!(actions, [tree(libc::SIGTERM, Whom::OtherGroups)]);
}

#[test]
fn a_signal_that_was_inherited_as_ignored_stops_nothing() {
    let mut nohup = policy_in(SignalSet::EMPTY.with(libc::SIGHUP), false);
    let actions = nohup.step(signal(libc::SIGHUP, Origin::Process), start());
    assert_eq!(
        actions,
        [Action::Forward],
        "the child may have a handler of its own"
    );
    assert_eq!(nohup.deadline(), None);
}

#[test]
fn a_child_that_ends_by_itself_ends_the_run_at_once() {
    assert_eq!(
        policy().step(Event::Ended(DONE), start()),
        [Action::Leave(DONE)]
    );
    let mut interrupted = policy();
    drop(interrupted.step(signal(libc::SIGINT, Origin::Kernel), start()));
    assert_eq!(
        interrupted.step(Event::Ended(DONE), start()),
        [Action::Leave(DONE)]
    );
}

#[test]
fn the_run_outlives_the_child_while_descendants_hold_the_port() {
    let begin = start();
    let mut policy = policy();
    drop(policy.step(signal(libc::SIGTERM, Origin::Process), begin));
    let actions = policy.step(Event::Ended(DONE), begin);
    assert_eq!(
        actions,
        [tree(libc::SIGTERM, Whom::Newcomers), Action::LookForHolders]
    );
    assert_eq!(policy.step(Event::Holders(Holders::Remain), begin), []);

    let look = policy.deadline().expect("it looks again");
    assert!(look < begin + GRACE);
    assert_eq!(policy.step(Event::Deadline, begin), [], "too early");
    assert_eq!(policy.step(Event::Deadline, look), [Action::LookForHolders]);
    assert_eq!(
        policy.step(Event::OrphanEnded, look),
        [Action::LookForHolders]
    );
    assert_eq!(
        policy.step(Event::Holders(Holders::Gone), look),
        [Action::Leave(DONE)]
    );
}

#[test]
fn what_holds_the_port_after_the_grace_period_is_killed() {
    let begin = start();
    for number in TERMINATING {
        let mut policy = policy();
        drop(policy.step(signal(number, Origin::Process), begin));
        drop(policy.step(Event::Ended(DONE), begin));
        let actions = policy.step(Event::Holders(Holders::Remain), begin + GRACE);
        assert_eq!(
            actions,
            [Action::KillHolders, Action::Leave(DONE)],
            "signal {number}"
        );
    }
}

#[test]
fn a_living_child_is_killed_for_its_port_after_term_only() {
    let begin = start();
    for number in TERMINATING {
        let mut policy = policy();
        drop(policy.step(signal(number, Origin::Process), begin));
        assert_eq!(policy.deadline(), Some(begin + GRACE));
        let expected: &[Action] = if number == libc::SIGTERM {
            &[Action::KillHolders]
        } else {
            &[]
        };
        assert_eq!(
            policy.step(Event::Deadline, begin + GRACE),
            expected,
            "signal {number}"
        );
        assert_eq!(policy.deadline(), None, "and then it rests");
        assert_eq!(
            policy.step(Event::Ended(DONE), begin + GRACE),
            [Action::Leave(DONE)]
        );
    }
}

#[test]
fn a_second_request_neither_buys_time_nor_takes_the_first_back() {
    let begin = start();
    let mut policy = policy();
    drop(policy.step(signal(libc::SIGTERM, Origin::Process), begin));
    drop(policy.step(signal(libc::SIGHUP, Origin::Process), begin + GRACE / 2));
    assert_eq!(policy.deadline(), Some(begin + GRACE));
    assert_eq!(
        policy.step(Event::Deadline, begin + GRACE),
        [Action::KillHolders]
    );
}

#[test]
fn who_asks_again_after_the_child_has_ended_gets_it_at_once() {
    for number in TERMINATING {
        for origin in [Origin::Kernel, Origin::Process, Origin::ProcessToGroup] {
            let mut policy = policy();
            drop(policy.step(signal(libc::SIGTERM, Origin::Process), start()));
            drop(policy.step(Event::Ended(DONE), start()));
            let actions = policy.step(signal(number, origin), start());
            assert_eq!(
                actions,
                [Action::KillHolders, Action::Leave(DONE)],
                "signal {number} {origin:?}"
            );
        }
    }
}

#[test]
fn the_launcher_stops_as_the_child_did() {
    for number in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        assert_eq!(
            policy().step(Event::Stopped(number), start()),
            [Action::StopSelf(number)]
        );
    }
}

#[test]
fn woken_with_its_group_the_launcher_leaves_the_child_alone() {
    for origin in [Origin::Process, Origin::ProcessToGroup] {
        let mut policy = policy();
        drop(policy.step(Event::Stopped(libc::SIGTSTP), start()));
        assert_eq!(policy.step(Event::Continued, start()), []);
        assert_eq!(policy.step(Event::Woken, start()), []);
        assert_eq!(
            policy.step(signal(libc::SIGCONT, origin), start()),
            [],
            "{origin:?}"
        );
    }
}

#[test]
fn woken_alone_the_launcher_wakes_the_child_once() {
    let mut policy = policy();
    drop(policy.step(Event::Stopped(libc::SIGTSTP), start()));
    assert_eq!(policy.step(Event::Woken, start()), [Action::ContinueChild]);
    assert_eq!(
        policy.step(signal(libc::SIGCONT, Origin::Process), start()),
        []
    );
    assert_eq!(policy.step(Event::Continued, start()), []);
    let next = policy.step(signal(libc::SIGCONT, Origin::Process), start());
    assert_eq!(
        next,
        [Action::Forward],
        "the next one is news to a running child"
    );
}

#[test]
fn a_stopped_child_is_woken_to_hear_that_it_should_end() {
    let mut policy = policy();
    drop(policy.step(Event::Stopped(libc::SIGSTOP), start()));
    let actions = policy.step(signal(libc::SIGTERM, Origin::Process), start());
    assert_eq!(
        actions,
        [
            Action::Forward,
            tree(libc::SIGTERM, Whom::Everyone),
            Action::ContinueChild
        ]
    );
}

#[test]
fn at_rest_there_is_no_deadline() {
    let mut policy = policy();
    for event in [
        Event::Stopped(libc::SIGTSTP),
        Event::Woken,
        Event::Continued,
        Event::OrphanEnded,
        Event::Deadline,
    ] {
        drop(policy.step(event, start()));
        assert_eq!(policy.deadline(), None, "{event:?}");
    }
}
