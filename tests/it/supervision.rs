//! `styxy run` against the bare command: each case runs with nothing in front, with `styxy run` and its daemon in front,
//! and with `styxy run` that can have no daemon, and compares.
//!
//! Invariant: no test waits for time to pass. Probes say `ready`, and a *fence* (a signal that the probe reports, sent after the ones under
//! test) shows that everything before it has arrived.
//!
//! What a launcher owes its user, and where it is tested:
//!
//! | rule | what | tests |
//! |---|---|---|
//! | L1 | the child's signal mask and dispositions are the caller's | `given::the_default_dispositions_are_given_on`, `given::ignored_signals_stay_ignored`, `given::the_signal_mask_is_given_on`, `given::the_child_dies_of_a_broken_pipe_only_where_it_would`, `jobs::under_nohup_it_outlives_the_terminal` |
//! | L2 | it is executed as a shell would | `end::a_script_without_an_interpreter_line_is_run_by_the_shell`, `end::the_command_is_looked_for_along_the_path` |
//! | L3 | it dies with the launcher, and not before | `tree::a_killed_launcher_takes_the_child_with_it` |
//! | L4 | no moment in which a signal is lost | `signals::a_signal_at_any_moment_of_the_start_ends_the_command` |
//! | L5 | what processes send is passed on, what the terminal sends is not | `signals::each_signal_to_the_command_reaches_the_child_once`, `terminal::ctrl_c_reaches_the_child_once_and_again`, `terminal::a_new_window_size_is_told_once`, `terminal::a_hang_up_of_the_session_leader_reaches_the_child` |
//! | L6 | what is sent to the group arrives once | `signals::each_signal_to_the_group_reaches_the_child_once`, `signals::a_terminating_signal_to_the_group_is_never_doubled`, `signals::a_signal_to_all_that_look_like_styxy_reaches_the_child`, `jobs::two_of_them_in_a_pipeline_are_one_job` |
//! | L7 | stopping and going on | `terminal::ctrl_z_stops_the_job_and_fg_takes_it_back`, `terminal::a_job_in_the_background_that_reads_is_stopped`, `jobs::a_job_in_the_background_that_writes_is_stopped_where_the_terminal_says_so`, `signals::a_stopped_command_is_woken_by_a_signal_to_it_alone`, `signals::what_comes_while_the_command_is_held_by_sigstop_comes_when_it_goes_on` |
//! | L8 | an ignored SIGCHLD | `given::an_ignored_sigchld_does_not_hide_the_exit_code` |
//! | L9 | it ends as the child ended | `end::exit_codes_are_the_childs`, `end::death_by_signal_is_death_by_the_same_signal`, `terminal::ctrl_c_ends_a_loop_of_the_shell` |
//! | L10 | it waits for the child only, and reaps everybody | `end::what_the_child_leaves_running_is_left_alone`, `tree::orphans_are_reaped` |
//! | L11 | stdio is the child's own | `end::bytes_pass_through_unchanged`, `jobs::in_a_pipeline_it_is_the_command` |
//! | L12 | descriptors | `given::closed_standard_descriptors_stay_closed`, `given::other_descriptors_are_inherited_and_none_is_added` |
//! | L13 | whatever is missing, the command runs | `given::a_command_runs_without_a_descriptor_to_spare`, `given::a_command_runs_in_a_directory_that_is_gone`, and the front without a daemon in every comparison |
//! | L14 | a request to end reaches the whole tree | `tree::a_server_behind_a_shell_ends_with_it`, `tree::a_server_that_ignores_the_signal_is_killed_for_its_port`, `tree::a_process_with_its_own_session_is_left_alone`, `tree::a_stopped_descendant_is_woken_to_end` |
//! | L15 | a killed launcher leaves nothing | `tree::a_killed_launcher_leaves_no_witness`, `leftovers::trees_of_every_shape_go`, `leftovers::launchers_killed_at_any_moment_of_their_start_leave_nothing` |
//! | L16 | what the child leaves running keeps the lease | `detached::a_server_that_daemonizes_itself_keeps_its_lease`, `detached::a_server_left_by_its_shell_keeps_its_lease` |
//! | L17 | limits are untouched | `given::limits_umask_and_niceness_are_untouched` |
//! | L18 | arguments are the child's | `end::arguments_are_the_childs_byte_for_byte` |
//! | L19 | `LD_PRELOAD` and `NODE_OPTIONS` are kept | `given::what_is_preloaded_already_stays`, `launcher::the_child_gets_the_environment_and_what_is_styxys_and_nothing_else` |

#![cfg(test)]

mod detached;
mod end;
mod given;
mod instead;
mod jobs;
mod process;
mod signals;
mod terminal;
mod tree;

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use styxy_tests::Sandbox;

/// The child of most cases.
const PROBE: &str = env!("CARGO_BIN_EXE_signal-probe");

/// One world for all the fronts of a test.
struct Fronts {
    sandbox: Sandbox,
}

/// What stands in front of the command.
#[derive(Clone)]
struct Front<'a> {
    sandbox: &'a Sandbox,
    kind: Kind,
    options: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Bare,
    /// `styxy run`, with a daemon.
    Managed,
    /// `styxy run` that can have no daemon.
    Alone,
}

impl Fronts {
    fn new() -> Self {
        let sandbox = crate::sandbox();
        let alone = alone(&sandbox);
        DirBuilder::new().mode(0o700).create(&alone).expect("mkdir");
        let status = sandbox.styxy(["daemon", "status"]);
        drop(status.env("XDG_RUNTIME_DIR", &alone).run());
        let mut homes = fs::read_dir(alone.join("styxy")).expect("a runtime directory");
        let home = homes.next().expect("a home").expect("a home").path();
        // A socket can neither be bound there nor put in its place.
        fs::create_dir_all(home.join("sock/in-the-way")).expect("mkdir");
        Self { sandbox }
    }

    fn front(&self, kind: Kind) -> Front<'_> {
        Front {
            sandbox: &self.sandbox,
            kind,
            options: Vec::new(),
        }
    }

    /// Both ways in which styxy stands in front.
    fn wrapped(&self) -> [Front<'_>; 2] {
        [Kind::Managed, Kind::Alone].map(|kind| self.front(kind))
    }

    /// Runs a case with each front, and wants the same from all.
    #[track_caller]
    fn compare<T: PartialEq + std::fmt::Debug>(&self, what: &str, case: impl Fn(&Front) -> T) {
        let bare = case(&self.front(Kind::Bare));
        for front in self.wrapped() {
            let wrapped = case(&front);
            assert_eq!(
                wrapped, bare,
                "{what}: {:?} (left) is not like bare (right)",
                front.kind
            );
        }
    }
}

impl Front<'_> {
    /// With further options of `styxy run`.
    fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(OsString::from));
        self
    }

    fn wraps(&self) -> bool {
        self.kind != Kind::Bare
    }

    /// The words before the command. The type keeps styxy from stepping out of the way of what is no server.
    fn argv(&self) -> Vec<OsString> {
        if !self.wraps() {
            return Vec::new();
        }
        let program = env!("CARGO_BIN_EXE_styxy-under-test");
        let words = [program, "run", "--quiet", "--type", "dev"].map(OsString::from);
        let options = self.options.iter().cloned();
        words
            .into_iter()
            .chain(options)
            .chain(["--".into()])
            .collect()
    }

    /// The full command line, ready to be started: the words of `before`, the front, the command.
    fn command(&self, before: &[&str], command: &[&str]) -> Command {
        let before = before.iter().map(OsString::from);
        let command = command.iter().map(OsString::from);
        self.around(before.chain(self.argv()).chain(command))
    }

    /// These words as they are, in the world in which the front works.
    fn around(&self, words: impl IntoIterator<Item = OsString>) -> Command {
        let mut call = self.sandbox.command(words);
        if self.kind == Kind::Alone {
            call = call.env("XDG_RUNTIME_DIR", alone(self.sandbox));
        }
        call.into_std()
    }
}

/// The runtime directory in which no daemon can be had.
fn alone(sandbox: &Sandbox) -> PathBuf {
    sandbox.runtime_dir().join("alone")
}

/// A file of this name in the test's directory, as an argument.
fn file(dir: &tempfile::TempDir, name: &str) -> String {
    path_text(&dir.path().join(name))
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a temporary path is text").to_owned()
}

#[test]
fn every_rule_has_a_test_that_exists() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("it");
    let table = include_str!("supervision.rs");
    let row = |rule: u32| format!("//! | L{rule} | ");
    for rule in 1..=19 {
        let line = table.lines().find(|line| line.starts_with(&row(rule)));
        let line = line.unwrap_or_else(|| panic!("no row for L{rule}"));
        let named = line.split('`').filter_map(|word| word.split_once("::"));
        let mut count = 0;
        for (module, test) in named {
            let places = [format!("supervision/{module}.rs"), format!("{module}.rs")];
            let text = places
                .iter()
                .find_map(|place| fs::read_to_string(dir.join(place)).ok());
            let declared = format!("#[test]\nfn {test}() {{");
            assert!(
                text.is_some_and(|text| text.contains(&declared)),
                "L{rule}: {module}::{test}"
            );
            count += 1;
        }
        assert!(count > 0, "L{rule} names no test");
    }
}
