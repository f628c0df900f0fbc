//! What holds after any sequence of events: the state is driven beside a model of the machine.
//!
//! * V1: no port is in two leases.
//! * V2: the owner of every lease lives, or something of its tree still listens, or its time is not up.
//! * V3: what was acknowledged is there after a crash at any byte of any write.
//! * V4: what was released or has died is gone, and its ports can be had.
//! * V5: a port that somebody listens on is never handed out.
//!
//! Further: shares and quotas are kept, and neither the wall clock nor a dry run changes anything.

mod machine;

use proptest::prelude::*;
use proptest::sample::Index;

use machine::{Ask, Machine};

/// Something that happens to the daemon or to the machine that it runs on.
#[derive(Clone, Debug)]
enum Event {
    Allocate(Ask),
    /// One owner wants many.
    AllocateMany(Ask, usize),
    Release(Index),
    Renew(Index),
    OwnerEnds(u32),
    Binds(Index),
    Unbinds(Index),
    Report(Index, u16),
    ForeignBinds(u16),
    ForeignUnbinds(u16),
    Adopts(u16),
    TimePasses(u32),
    Look,
    Cleanup(bool),
    Registers(u8, bool),
    Heartbeat(u8),
    WallClockSteps(u64),
    CrashesInAllocate(Ask, Index),
    DaemonRestarts,
    MachineRestarts,
}

/// Few ports, so that they collide.
fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![
        6004..6031_u16,
        7000..7010_u16,
        20_000..20_006_u16,
        Just(80),
        Just(40_000)
    ]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let ask = (
        prop::sample::select(vec!["storybook", "tiny", "tiny", "dev", "ai"]),
        0..4_u8,
        prop::option::weighted(0.3, any_port()),
        prop::option::weighted(0.3, any_port()),
        0..4_u8,
        prop::bool::weighted(0.1),
        (0..6_u32, prop::option::of(1..200_000_u64)),
        prop::bool::weighted(0.1),
    );
    ask.prop_map(
        |(service_type, project, preferred, default, spares, strict, (owner, ttl), dry_run)| Ask {
            service_type,
            project,
            preferred,
            default,
            spares,
            strict,
            owner,
            ttl,
            dry_run,
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let index = any::<Index>;
    prop_oneof![
        10 => any_ask().prop_map(Event::Allocate),
        1 => (any_ask(), 2..16_usize).prop_map(|(ask, count)| Event::AllocateMany(ask, count)),
        3 => index().prop_map(Event::Release),
        1 => index().prop_map(Event::Renew),
        1 => (0..6_u32).prop_map(Event::OwnerEnds),
        3 => index().prop_map(Event::Binds),
        2 => index().prop_map(Event::Unbinds),
        2 => (index(), any_port()).prop_map(|(at, port)| Event::Report(at, port)),
        2 => any_port().prop_map(Event::ForeignBinds),
        2 => any_port().prop_map(Event::ForeignUnbinds),
        1 => any_port().prop_map(Event::Adopts),
        1 => (0..100_000_u32).prop_map(Event::TimePasses),
        3 => Just(Event::Look),
        1 => prop::bool::weighted(0.2).prop_map(Event::Cleanup),
        1 => (0..4_u8, any::<bool>()).prop_map(|(number, has_pid)| Event::Registers(number, has_pid)),
        1 => (0..4_u8).prop_map(Event::Heartbeat),
        1 => any::<u64>().prop_map(Event::WallClockSteps),
        1 => (any_ask(), index()).prop_map(|(ask, cut)| Event::CrashesInAllocate(ask, cut)),
        1 => Just(Event::DaemonRestarts),
        1 => Just(Event::MachineRestarts),
    ]
}

impl Machine {
    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Allocate(ask) => return self.allocate(ask),
            Event::AllocateMany(ask, count) => {
                return (0..count).try_for_each(|_| self.allocate(ask));
            }
            Event::Release(index) => return self.release(index),
            Event::Renew(index) => self.renew(index),
            Event::OwnerEnds(number) => self.owner_ends(number),
            Event::Binds(index) => self.bind(index),
            Event::Unbinds(index) => self.unbind(index),
            Event::Report(index, port) => self.report(index, port),
            Event::ForeignBinds(port) => self.foreign_binds(port),
            Event::ForeignUnbinds(port) => self.foreign_unbinds(port),
            Event::Adopts(port) => return self.adopt(port),
            Event::TimePasses(seconds) => return self.time_passes(seconds),
            Event::Look => self.look(),
            Event::Cleanup(force) => return self.cleanup(force),
            Event::Registers(number, has_pid) => self.register(number, has_pid),
            Event::Heartbeat(number) => self.heartbeat(number),
            Event::WallClockSteps(wall) => return self.wall_clock_steps(wall),
            Event::CrashesInAllocate(ask, cut) => return self.crash_in_allocate(ask, cut),
            Event::DaemonRestarts => return self.restart(),
            Event::MachineRestarts => return self.reboot(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_any_sequence_of_events(events in prop::collection::vec(any_event(), 1..80)) {
        let mut machine = Machine::new();
        for event in events {
            machine.happen(&event)?;
            machine.check()?;
        }
    }
}

#[test]
fn a_crash_at_any_byte_of_a_write_loses_nothing_that_was_acknowledged() {
    let mut machine = Machine::new();
    let ask = Ask {
        service_type: "storybook",
        project: 1,
        preferred: None,
        default: None,
        spares: 1,
        strict: false,
        owner: 2,
        ttl: None,
        dry_run: false,
    };
    for project in 0..3 {
        machine.allocate(Ask { project, ..ask }).unwrap();
    }
    machine.register(1, true);
    let last = machine.unacknowledged(Ask { project: 3, ..ask });
    assert!(last.len() > 100);
    for length in 0..=last.len() {
        machine.recovers_from(&last[..length]).unwrap();
    }
}

#[test]
fn ten_thousand_leases_that_have_ended_leave_nothing_behind() {
    let mut machine = Machine::new();
    for number in 0..10_000_u32 {
        machine.live_through_one_lease(number);
    }
    machine.assert_empty();
}
