//! What holds after any sequence of events: the state is driven beside a model of the machine.
//!
//! V1: no port in two leases. V5: a port that somebody listens on is never handed out. Further: a restart at
//! any moment changes nothing, and what is released can be had again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use styxy_protocol::Port;
use styxy_protocol::api::{AllocateRequest, ListenerReport};

use super::grant::{Applicant, OwnerKind};
use super::lease::{Hold, LeaseId, Owner, Record};
use super::{Allocator, Release};
use crate::kernel::ProcessIdentity;
use crate::service_types::ServiceTypes;

const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

#[derive(Clone, Copy, Debug)]
struct Ask {
    service_type: &'static str,
    project: u8,
    preferred: Option<u16>,
    default: Option<u16>,
    spares: u8,
    strict: bool,
    owner: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Allocate(Ask),
    Release(prop::sample::Index),
    Renew(prop::sample::Index),
    OwnerEnds(u32),
    TreeEnds(prop::sample::Index),
    Report(prop::sample::Index, u16),
    ForeignBinds(u16),
    ForeignUnbinds(u16),
    TimePasses(u32),
    DaemonRestarts,
    MachineRestarts,
}

impl Ask {
    fn request(&self) -> AllocateRequest {
        AllocateRequest {
            service_type: self.service_type.parse().expect("a valid name"),
            service_name: None,
            instance_id: None,
            project_path: Some(format!("/project/{}", self.project)),
            package_dir: None,
            preferred_port: self.preferred.and_then(Port::new),
            default_port: self.default.and_then(Port::new),
            strict: self.strict,
            spare_ports: self.spares,
            pid: None,
            command: None,
            ttl_seconds: None,
            dry_run: false,
        }
    }

    fn owner(&self, start_time: u64) -> OwnerKind {
        let pid = self.owner;
        match pid {
            0 => OwnerKind::Nobody,
            1 => OwnerKind::Unwatched(1),
            _ => OwnerKind::Watched(Owner {
                process: ProcessIdentity { pid, start_time },
                session: 1,
                group: Some(1),
            }),
        }
    }
}

/// Few ports, so that they collide.
fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![6004..6031_u16, 20_000..20_006_u16, Just(80), Just(40_000)]
}

fn any_event() -> impl Strategy<Value = Event> {
    let allocate = (
        prop::sample::select(vec!["storybook", "dev", "ai"]),
        0..4_u8,
        prop::option::of(any_port()),
        prop::option::of(any_port()),
        0..4_u8,
        prop::bool::weighted(0.1),
        0..6_u32,
    );
    let allocate = allocate.prop_map(
        |(service_type, project, preferred, default, spares, strict, owner)| {
            Event::Allocate(Ask {
                service_type,
                project,
                preferred,
                default,
                spares,
                strict,
                owner,
            })
        },
    );
    prop_oneof![
        8 => allocate,
        3 => any::<prop::sample::Index>().prop_map(Event::Release),
        1 => any::<prop::sample::Index>().prop_map(Event::Renew),
        1 => (0..6_u32).prop_map(Event::OwnerEnds),
        2 => any::<prop::sample::Index>().prop_map(Event::TreeEnds),
        2 => (any::<prop::sample::Index>(), any_port()).prop_map(|(at, port)| Event::Report(at, port)),
        2 => any_port().prop_map(Event::ForeignBinds),
        2 => any_port().prop_map(Event::ForeignUnbinds),
        1 => (0..100_000_u32).prop_map(Event::TimePasses),
        1 => Just(Event::DaemonRestarts),
        1 => Just(Event::MachineRestarts),
    ]
}

/// A machine with one daemon, and everything that the daemon has written.
struct Machine {
    allocator: Allocator,
    journal: Vec<Record>,
    /// Ports that foreign processes listen on.
    foreign: BTreeSet<u16>,
    dead: BTreeSet<u64>,
    /// Each owner number stands for one process at a time; a new one has a new start time.
    start_times: BTreeMap<u32, u64>,
    boot: u32,
    now: Duration,
    ids: u128,
}

impl Machine {
    fn new() -> Self {
        Self {
            allocator: Allocator::new(ServiceTypes::builtin(), EPHEMERAL, 0),
            journal: Vec::new(),
            foreign: BTreeSet::new(),
            dead: BTreeSet::new(),
            start_times: BTreeMap::new(),
            boot: 0,
            now: Duration::from_secs(1),
            ids: 0,
        }
    }

    fn commit(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            self.allocator.apply(&record);
            self.journal.push(record);
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<LeaseId> {
        let ids: Vec<_> = self.allocator.leases().map(|lease| lease.id).collect();
        (!ids.is_empty()).then(|| *index.get(&ids))
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Allocate(ask) => return self.allocate(ask),
            Event::Release(index) => self.release(index),
            Event::Renew(index) => {
                let renewed = self
                    .pick(index)
                    .and_then(|id| self.allocator.renew(id, self.now));
                self.commit(renewed.and_then(|(_, record)| record));
            }
            Event::OwnerEnds(number) => {
                let start = self.start_times.remove(&number);
                self.dead.extend(start);
                let ended: Vec<_> = self.allocator.leases().map(|lease| lease.id).collect();
                for id in ended {
                    let is_its = |hold: &Hold| matches!(hold, Hold::Owner(owner) if Some(owner.process.start_time) == start);
                    if self
                        .allocator
                        .lease(id)
                        .is_some_and(|lease| is_its(&lease.hold))
                    {
                        self.commit(self.allocator.owner_ended(id));
                    }
                }
            }
            Event::TreeEnds(index) => {
                let ended = self
                    .pick(index)
                    .and_then(|id| self.allocator.tree_ended(id));
                self.commit(ended);
            }
            Event::Report(index, number) => {
                let port = Port::new(number).expect("not 0");
                let report = ListenerReport {
                    requested: port,
                    port,
                };
                let reported = self
                    .pick(index)
                    .and_then(|id| self.allocator.report(id, report));
                self.commit(reported.and_then(Result::ok).flatten());
            }
            Event::ForeignBinds(port) => {
                self.foreign.insert(port);
            }
            Event::ForeignUnbinds(port) => {
                self.foreign.remove(&port);
            }
            Event::TimePasses(seconds) => {
                self.now += Duration::from_secs(u64::from(seconds));
                let foreign = &self.foreign;
                let due = self
                    .allocator
                    .expire(self.now, &|port| foreign.contains(&port.get()));
                self.commit(due);
                let next = self.allocator.next_deadline();
                prop_assert!(next.is_none_or(|deadline| deadline > self.now));
            }
            Event::DaemonRestarts => self.restart(),
            Event::MachineRestarts => {
                self.boot += 1;
                self.start_times.clear();
                self.foreign.clear();
                self.now = Duration::from_secs(1);
                self.restart();
                prop_assert_eq!(self.allocator.len(), 0);
            }
        }
        Ok(())
    }

    fn release(&mut self, index: prop::sample::Index) {
        let Some(id) = self.pick(index) else { return };
        let foreign = &self.foreign;
        match self
            .allocator
            .release(id, &|port| foreign.contains(&port.get()))
        {
            Some(Release::Ends(record) | Release::Detaches(record)) => self.commit([record]),
            Some(Release::IsDetached) | None => {}
        }
    }

    fn restart(&mut self) {
        let mut reborn = Allocator::new(ServiceTypes::builtin(), EPHEMERAL, 0);
        for record in &self.journal {
            reborn.apply(record);
        }
        self.allocator = reborn;
        let boot = self.boot.to_string();
        let dead = &self.dead;
        let records = self
            .allocator
            .recover(&boot, &|owner| !dead.contains(&owner.process.start_time));
        self.commit(records);
    }

    fn allocate(&mut self, ask: Ask) -> Result<(), TestCaseError> {
        self.ids += 1;
        let request = ask.request();
        let next_start = u64::try_from(self.ids).expect("few");
        let start_time = *self.start_times.entry(ask.owner).or_insert(next_start);
        let before: BTreeSet<Port> = self.allocator.by_port.keys().copied().collect();
        let foreign = &self.foreign;
        let is_free = |port: Port| !foreign.contains(&port.get());
        let applicant = Applicant {
            id: LeaseId::from_random(self.ids << 80),
            owner: ask.owner(start_time),
            boot: &self.boot.to_string(),
            now: self.now,
            wall: 0,
            is_free: &is_free,
        };
        let Ok(grant) = self.allocator.allocate(&request, &applicant) else {
            return Ok(());
        };
        if grant.existing.is_none() {
            let asked = [request.preferred_port, request.default_port];
            for port in std::iter::once(grant.port).chain(grant.spares.iter().copied()) {
                prop_assert!(is_free(port), "V5: {port} is taken");
                prop_assert!(!before.contains(&port), "V1: {port} is leased");
                let ephemeral = EPHEMERAL.contains(&port.get());
                prop_assert!(port.get() >= 1024 && (!ephemeral || asked.contains(&Some(port))));
            }
            prop_assert!(!ask.strict || Some(grant.port) == request.preferred_port);
            let missed = request.preferred_port.filter(|port| *port != grant.port);
            if missed.is_some() {
                let conflict = grant.conflict.as_ref().map(|conflict| conflict.port);
                prop_assert_eq!(conflict, missed);
            }
        }
        let id = grant.id.expect("no dry run");
        self.commit(grant.records);
        let port = self.allocator.lease(id).map(|lease| lease.port);
        prop_assert_eq!(port, Some(grant.port));
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut seen = BTreeSet::new();
        for lease in self.allocator.leases() {
            for port in lease.ports() {
                prop_assert!(seen.insert(port), "V1: {port} is in two leases");
                prop_assert_eq!(self.allocator.by_port.get(&port), Some(&lease.id));
            }
        }
        prop_assert_eq!(seen.len(), self.allocator.by_port.len());
        let mut replayed = Allocator::new(ServiceTypes::builtin(), EPHEMERAL, 0);
        for record in self.allocator.snapshot() {
            replayed.apply(&record);
        }
        prop_assert!(replayed.leases().eq(self.allocator.leases()));
        prop_assert_eq!(&replayed.by_port, &self.allocator.by_port);
        prop_assert_eq!(&replayed.by_owner, &self.allocator.by_owner);
        prop_assert_eq!(&replayed.deadlines, &self.allocator.deadlines);
        let ports = |allocator: &Allocator| -> BTreeMap<_, _> {
            let sticky = allocator.sticky.iter();
            sticky
                .map(|(identity, sticky)| (identity.clone(), sticky.port))
                .collect()
        };
        prop_assert_eq!(ports(&replayed), ports(&self.allocator));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_any_sequence_of_events(events in prop::collection::vec(any_event(), 1..80)) {
        let mut machine = Machine::new();
        for event in events {
            machine.happen(&event)?;
            machine.check()?;
        }
    }
}
