//! `styxy run` of a service of which there may be one, and which runs already: it is not started a second time. The
//! run says where it is, waits until it has ended, and ends with [`exit_codes::FOLLOWED`].
//!
//! Nothing is held meanwhile, so any signal simply ends the follower. Invariant: a lease that no process has and
//! nobody listens on is never followed, and a follower ends when its service does, whether a daemon runs or not.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use styxy_protocol::api::{ExistingLease, Holder};
use styxy_protocol::{Port, ServiceType};

use crate::client::{Client, Listed};
use crate::exit_codes;
use crate::notice::{Notice, Notices};
use crate::sys::process::{PidFd, is_ancestor};

/// Between two questions to the daemon while the owner is watched: it may give its lease back and live on.
const SELDOM: Duration = Duration::from_secs(10);
/// The same when there is no process to watch, and at most when it has just ended.
const OFTEN: Duration = Duration::from_secs(1);
/// The first of them after the owner's end: its lease ends within milliseconds unless something still listens.
const SOON: Duration = Duration::from_millis(20);
/// How often, and how far apart, the daemon is asked whether the remains of a service are gone.
const REMAINS_ROUNDS: u32 = 20;
const REMAINS_PAUSE: Duration = Duration::from_millis(100);
/// How many questions in a row may stay without an answer where nothing else can be watched: a daemon that is being
/// replaced is away for a moment.
const PATIENCE: u32 = 5;

/// A service that runs elsewhere.
#[derive(Debug)]
pub(crate) struct Service {
    kind: ServiceType,
    port: Port,
    lock_id: String,
    listed: Listed,
    client: Client,
    /// The process that the lease hangs on.
    owner: Option<PidFd>,
}

/// Why a service that has its lease is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFollowed {
    /// Nobody runs it.
    Idle,
    /// This run is a part of it: they would wait for each other.
    Ourselves,
    /// It has ended since.
    Ended,
}

impl fmt::Display for NotFollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "one that does not run",
            Self::Ourselves => "the run around this one",
            Self::Ended => "one that has just ended",
        })
    }
}

/// The service that has the lease of its type. `inside` is the lease of the run that this process is part of.
pub(crate) fn find(
    client: Client,
    kind: ServiceType,
    port: Port,
    lease: ExistingLease,
    inside: Option<&OsStr>,
) -> Result<Service, NotFollowed> {
    // Some task runners clear the environment.
    let is_above = |pid: u32| i32::try_from(pid).is_ok_and(|pid| is_ancestor(Pid::from_raw(pid)));
    if inside.is_some_and(|id| id == lease.lock_id.as_str()) || lease.pid.is_some_and(is_above) {
        return Err(NotFollowed::Ourselves);
    }
    let service = Service {
        listed: settled(&client, &lease.lock_id)?,
        kind,
        port,
        lock_id: lease.lock_id,
        client,
        owner: lease.pid.and_then(watch).filter(lives),
    };
    if service.owner.is_none() && service.listed.listeners.is_empty() {
        return Err(NotFollowed::Idle);
    }
    Ok(service)
}

/// What is known about the lease, nothing without an answer. Of a service that was killed the daemon ends what is
/// left first: who starts it again in that moment is not meant to follow its remains.
fn settled(client: &Client, lock_id: &str) -> Result<Listed, NotFollowed> {
    let mut rounds = 0..REMAINS_ROUNDS;
    loop {
        match client.listed(lock_id) {
            Ok(Some(listed)) if listed.state == "detached" && rounds.next().is_some() => {
                pause(None, REMAINS_PAUSE);
            }
            Ok(Some(listed)) => return Ok(listed),
            Ok(None) => return Err(NotFollowed::Ended),
            Err(_) => return Ok(Listed::default()),
        }
    }
}

impl Service {
    /// Says where it runs, waits until it has ended, returns how to end.
    pub(crate) fn follow(mut self, notices: &Notices) -> ExitCode {
        let service = Holder::Lease {
            project_path: self.listed.project_path.take(),
            service_name: self.listed.service_name.take(),
            pid: self
                .owner
                .as_ref()
                .map(|owner| owner.pid.as_raw().cast_unsigned()),
        };
        notices.say(Notice::Follows {
            service_type: &self.kind,
            port: self.port,
            service: &service,
        });
        if self.wait() == Outcome::LostSight {
            notices.say(Notice::Degraded(&format_args!(
                "the daemon has gone, and nothing else tells whether the service on port {} still runs; no longer following it",
                self.port
            )));
        }
        ExitCode::from(exit_codes::FOLLOWED)
    }

    fn wait(&mut self) -> Outcome {
        let mut sight = Sight {
            owner: match self.owner {
                Some(_) => Owner::Lives,
                None => Owner::Unknown,
            },
            ..Sight::default()
        };
        loop {
            sight.look(self.look());
            match sight.next() {
                Next::Wait(time) => pause(self.owner.as_ref(), time),
                Next::End(outcome) => return outcome,
            }
            if self.owner.as_ref().is_some_and(|owner| !lives(owner)) {
                self.owner = None;
                sight.owner_ended();
            }
        }
    }

    fn look(&self) -> Look {
        match self.client.listed(&self.lock_id) {
            Ok(Some(_)) => Look::Leased,
            Ok(None) => Look::Ended,
            Err(_) => Look::NoAnswer,
        }
    }
}

/// What the daemon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Leased,
    Ended,
    NoAnswer,
}

/// What is known of the process that the lease hung on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    /// There is none, or it cannot be watched.
    #[default]
    Unknown,
    Lives,
    HasEnded,
}

/// How following a service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has ended.
    Ended,
    /// Nobody can say any more.
    LostSight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look again after this time, or when the owner ends.
    Wait(Duration),
    End(Outcome),
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Sight {
    owner: Owner,
    last: Option<Look>,
    /// How often in a row there was no answer.
    unanswered: u32,
    /// How often the daemon was asked since the owner ended.
    afterwards: u32,
}

impl Sight {
    fn look(&mut self, look: Look) {
        self.last = Some(look);
        self.unanswered = match look {
            Look::NoAnswer => self.unanswered + 1,
            _ => 0,
        };
        self.afterwards += u32::from(self.owner == Owner::HasEnded);
    }

    fn owner_ended(&mut self) {
        self.owner = Owner::HasEnded;
    }

    fn next(&self) -> Next {
        match (self.last, self.owner) {
            (Some(Look::Ended), _) => Next::End(Outcome::Ended),
            (_, Owner::Lives) => Next::Wait(SELDOM),
            (Some(Look::NoAnswer), Owner::HasEnded) if self.unanswered >= PATIENCE => {
                Next::End(Outcome::Ended)
            }
            (Some(Look::NoAnswer), Owner::Unknown) if self.unanswered >= PATIENCE => {
                Next::End(Outcome::LostSight)
            }
            (_, Owner::HasEnded) => Next::Wait(backoff(self.afterwards)),
            (_, Owner::Unknown) => Next::Wait(OFTEN),
        }
    }
}

fn backoff(round: u32) -> Duration {
    SOON.saturating_mul(1 << round.min(10)).min(OFTEN)
}

fn watch(pid: u32) -> Option<PidFd> {
    PidFd::open(Pid::from_raw(i32::try_from(pid).ok()?)).ok()
}

fn lives(owner: &PidFd) -> bool {
    let mut ended = [PollFd::new(owner.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO) == Ok(0)
}

/// Waits for this time, or until the owner ends if that is earlier.
fn pause(owner: Option<&PidFd>, time: Duration) {
    let mut ended: Vec<_> = owner
        .iter()
        .map(|owner| PollFd::new(owner.as_fd(), PollFlags::POLLIN))
        .collect();
    // An interrupted wait is a shorter one.
    let _ = poll(
        &mut ended,
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes next after these answers, with an owner like this.
    fn next(owner: Owner, looks: &[Look]) -> Next {
        let mut sight = Sight {
            owner,
            ..Sight::default()
        };
        for look in looks {
            sight.look(*look);
        }
        sight.next()
    }

    #[test]
    fn a_lease_that_is_gone_has_ended_whatever_its_owner_does() {
        for owner in [Owner::Lives, Owner::HasEnded, Owner::Unknown] {
            let next = next(owner, &[Look::Leased, Look::Ended]);
            assert_eq!(next, Next::End(Outcome::Ended), "{owner:?}");
        }
    }

    #[test]
    fn while_the_owner_lives_it_is_watched_and_the_daemon_is_hardly_asked() {
        for looks in [&[Look::Leased][..], &[Look::NoAnswer; 100]] {
            assert_eq!(next(Owner::Lives, looks), Next::Wait(SELDOM), "{looks:?}");
        }
    }

    #[test]
    fn after_the_owners_end_the_daemon_is_asked_less_and_less_often() {
        let waits: Vec<_> = (1..=8)
            .map(|count| next(Owner::HasEnded, &vec![Look::Leased; count]))
            .collect();
        let millis = [40, 80, 160, 320, 640, 1000, 1000, 1000];
        assert_eq!(
            waits,
            millis.map(|millis| Next::Wait(Duration::from_millis(millis)))
        );
    }

    #[test]
    fn without_a_daemon_the_end_of_the_owner_is_the_end() {
        let silence = |count| vec![Look::NoAnswer; count];
        let last = PATIENCE as usize;
        for owner in [Owner::HasEnded, Owner::Unknown] {
            let waits = next(owner, &silence(last - 1));
            assert!(matches!(waits, Next::Wait(_)), "{owner:?}: {waits:?}");
        }
        assert_eq!(
            next(Owner::HasEnded, &silence(last)),
            Next::End(Outcome::Ended)
        );
        assert_eq!(
            next(Owner::Unknown, &silence(last)),
            Next::End(Outcome::LostSight)
        );
        let answered = [silence(last - 1), vec![Look::Leased], silence(1)].concat();
        assert_eq!(next(Owner::Unknown, &answered), Next::Wait(OFTEN));
    }
}
