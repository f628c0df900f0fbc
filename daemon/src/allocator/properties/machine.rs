//! A machine with one daemon, its user's processes and listeners, and everything that the daemon has written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use styxy_protocol::Port;
use styxy_protocol::api::{AllocateRequest, ListenerReport, Metadata};

use super::super::indexes::Indexes;
use super::super::{
    Allocator, Applicant, Client, Grant, Hold, Lease, LeaseId, Looks, Owner, OwnerKind, Record,
    Refusal, Release, Sight,
};
use crate::instances::{Instance, Instances, Seen};
use crate::journal::{self, Entry};
use crate::kernel::ProcessIdentity;
use crate::service_types::{Definition, ServiceTypes};

const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;
const MAX_LEASES: usize = 12;
const INSTANCE_TTL: Duration = Duration::from_mins(5);
/// The range of the type `tiny`, which one client can use up, and nine tenths of it.
const TINY: std::ops::RangeInclusive<u16> = 7000..=7007;
const SHARE: usize = 7;

/// Somebody wants a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) service_type: &'static str,
    pub(super) project: u8,
    pub(super) preferred: Option<u16>,
    pub(super) default: Option<u16>,
    pub(super) spares: u8,
    pub(super) strict: bool,
    /// 0 is nobody, 1 a process that cannot be watched.
    pub(super) owner: u32,
    pub(super) ttl: Option<u64>,
    pub(super) dry_run: bool,
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
            ttl_seconds: self.ttl,
            dry_run: self.dry_run,
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

    fn client(&self) -> Client {
        // Several owners of one client, so that it comes to have more than an owner may.
        Client::Session(self.owner % 2)
    }
}

pub(super) struct Machine {
    allocator: Allocator,
    instances: Instances,
    looks: Looks,
    /// What is in the file. Every byte of it was written before an answer.
    journal: Vec<u8>,
    /// Ports that foreign processes listen on.
    foreign: BTreeSet<u16>,
    /// Ports that the trees of leases listen on.
    own: BTreeMap<Port, LeaseId>,
    dead: BTreeSet<u64>,
    /// Each owner number stands for one process at a time; a new one has a new start time.
    start_times: BTreeMap<u32, u64>,
    boot: u32,
    now: Duration,
    wall: u64,
    ids: u128,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            allocator: fresh(),
            instances: Instances::default(),
            looks: Looks::default(),
            journal: Vec::new(),
            foreign: BTreeSet::new(),
            own: BTreeMap::new(),
            dead: BTreeSet::new(),
            start_times: BTreeMap::new(),
            boot: 0,
            now: Duration::from_secs(1),
            wall: 0,
            ids: 0,
        }
    }

    fn commit(&mut self, records: impl IntoIterator<Item = impl Into<Entry>>) {
        for record in records {
            let entry = record.into();
            self.journal
                .extend(journal::encode(std::slice::from_ref(&entry)));
            apply(&mut self.allocator, &mut self.instances, &entry);
        }
        // What has lost its owner and listens on nothing is buried at once.
        let gone =
            |lease: &&Lease| matches!(lease.hold, Hold::Detached { .. }) && !self.listens(lease.id);
        let gone: Vec<_> = self
            .allocator
            .leases()
            .filter(gone)
            .map(|it| it.id)
            .collect();
        for id in gone {
            let ended = self.allocator.tree_ended(id).expect("it is detached");
            self.commit([ended]);
        }
    }

    fn listens(&self, id: LeaseId) -> bool {
        self.own.values().any(|owner| *owner == id)
    }

    fn is_listening(&self, port: Port) -> bool {
        self.foreign.contains(&port.get()) || self.own.contains_key(&port)
    }

    fn pick(&self, index: Index) -> Option<LeaseId> {
        let ids: Vec<_> = self.allocator.leases().map(|lease| lease.id).collect();
        (!ids.is_empty()).then(|| *index.get(&ids))
    }

    fn seen(&self) -> Seen {
        Seen {
            at: self.now,
            wall: self.wall,
        }
    }

    fn decide(&mut self, ask: Ask) -> Result<Grant, Refusal> {
        self.ids += 1;
        let next_start = u64::try_from(self.ids).expect("few");
        let start_time = *self.start_times.entry(ask.owner).or_insert(next_start);
        let applicant = Applicant {
            id: LeaseId::from_random(self.ids << 80),
            owner: ask.owner(start_time),
            client: ask.client(),
            user_agent: None,
            max_leases: MAX_LEASES,
            boot: &self.boot.to_string(),
            now: self.now,
            wall: self.wall,
            is_free: &|port| !self.is_listening(port),
        };
        self.allocator.allocate(&ask.request(), &applicant)
    }

    pub(super) fn allocate(&mut self, ask: Ask) -> Result<(), TestCaseError> {
        let request = ask.request();
        let before: BTreeSet<Port> = self.allocator.indexes.by_port.keys().copied().collect();
        let Ok(grant) = self.decide(ask) else {
            return Ok(());
        };
        if grant.existing.is_none() {
            // Where nothing else is left, a port that somebody has asked for before, or one beside the tool's own,
            // is better than none.
            let last = self
                .allocator
                .sticky
                .values()
                .map(|sticky| sticky.port.get());
            let beside = ask.default.into_iter().flat_map(|port| port..port + 10);
            let asked: Vec<u16> = ask
                .preferred
                .into_iter()
                .chain(last)
                .chain(beside)
                .collect();
            for port in std::iter::once(grant.port).chain(grant.spares.iter().copied()) {
                prop_assert!(!self.is_listening(port), "V5: {port} is taken");
                prop_assert!(!before.contains(&port), "V1: {port} is leased");
                let ephemeral = EPHEMERAL.contains(&port.get());
                prop_assert!(port.get() >= 1024 && (!ephemeral || asked.contains(&port.get())));
            }
            prop_assert!(!ask.strict || Some(grant.port) == request.preferred_port);
            let missed = request.preferred_port.filter(|port| *port != grant.port);
            if missed.is_some() {
                let conflict = grant.conflict.as_ref().map(|conflict| conflict.port);
                prop_assert_eq!(conflict, missed);
            }
        }
        if ask.dry_run {
            prop_assert!(grant.records.is_empty(), "a dry run changes nothing");
            return Ok(());
        }
        let id = grant.id.expect("no dry run");
        self.commit(grant.records);
        let port = self.allocator.lease(id).map(|lease| lease.port);
        prop_assert_eq!(port, Some(grant.port));
        let chosen = grant.existing.is_none() && request.preferred_port != Some(grant.port);
        if chosen && TINY.contains(&grant.port.get()) && ask.service_type == "tiny" {
            let leases = self.allocator.leases();
            let own = leases.filter(|lease| lease.client == ask.client());
            let ports = own.flat_map(Lease::ports);
            let in_range = ports.filter(|port| TINY.contains(&port.get()));
            prop_assert!(in_range.count() <= SHARE, "more than its share");
        }
        Ok(())
    }

    pub(super) fn release(&mut self, index: Index) -> Result<(), TestCaseError> {
        let Some(id) = self.pick(index) else {
            return Ok(());
        };
        let release = self.allocator.release(id, &|port| self.is_listening(port));
        match release {
            Some(Release::Ends(record)) => {
                let lease = self.allocator.lease(id).expect("it was picked").clone();
                self.commit([record]);
                let is_left = |port| self.allocator.lease_on(port).is_some();
                prop_assert!(!lease.ports().any(is_left), "V4: it is gone");
            }
            Some(Release::Detaches(record)) => self.commit([record]),
            Some(Release::IsDetached) | None => {}
        }
        Ok(())
    }

    pub(super) fn renew(&mut self, index: Index) {
        let id = self.pick(index);
        let renewed = id.and_then(|id| self.allocator.renew(id, self.now));
        self.commit(renewed.and_then(|(_, record)| record));
        id.inspect(|id| self.looks.forgive(*id));
    }

    pub(super) fn owner_ends(&mut self, number: u32) {
        let start = self.start_times.remove(&number);
        self.dead.extend(start);
        let is_its = |lease: &&Lease| matches!(lease.hold, Hold::Owner(owner) if Some(owner.process.start_time) == start);
        let ended: Vec<_> = self
            .allocator
            .leases()
            .filter(is_its)
            .map(|it| it.id)
            .collect();
        for id in ended {
            self.commit(self.allocator.owner_ended(id));
        }
    }

    /// The tree of a lease binds its port.
    pub(super) fn bind(&mut self, index: Index) {
        let lease = self.pick(index).and_then(|id| self.allocator.lease(id));
        if let Some((port, id)) = lease.map(|lease| (lease.port, lease.id))
            && !self.is_listening(port)
        {
            self.own.insert(port, id);
        }
    }

    pub(super) fn unbind(&mut self, index: Index) {
        let ports: Vec<_> = self.own.keys().copied().collect();
        if !ports.is_empty() {
            self.own.remove(index.get(&ports));
            self.commit(None::<Record>);
        }
    }

    pub(super) fn report(&mut self, index: Index, number: u16) {
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

    pub(super) fn foreign_binds(&mut self, number: u16) {
        if Port::new(number).is_some_and(|port| !self.is_listening(port)) {
            self.foreign.insert(number);
        }
    }

    pub(super) fn foreign_unbinds(&mut self, number: u16) {
        self.foreign.remove(&number);
    }

    /// A run that the journal has forgotten listens on this port.
    pub(super) fn adopt(&mut self, number: u16) -> Result<(), TestCaseError> {
        self.ids += 1;
        let port = Port::new(number).expect("not 0");
        if self.is_listening(port) {
            return Ok(());
        }
        let lease = Lease {
            id: LeaseId::from_random(self.ids << 80),
            port,
            spares: Vec::new(),
            reports: Vec::new(),
            hold: Hold::Detached {
                owner: None,
                was_killed: false,
            },
            boot: self.boot.to_string(),
            allocated_at: self.wall,
            service_type: self.allocator.type_of(port),
            service_name: None,
            instance_id: None,
            project_path: None,
            package_dir: None,
            command: None,
            client: Client::Unknown,
            user_agent: None,
            listened: true,
        };
        let is_leased = self.allocator.lease_on(port).is_some();
        let id = lease.id;
        let record = self.allocator.adopt(lease);
        prop_assert_eq!(record.is_none(), is_leased);
        if record.is_some() {
            self.own.insert(port, id);
            self.commit(record);
        }
        Ok(())
    }

    pub(super) fn time_passes(&mut self, seconds: u32) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(u64::from(seconds));
        let listened: BTreeSet<LeaseId> = self.own.values().copied().collect();
        let before: BTreeSet<LeaseId> = self.allocator.leases().map(|it| it.id).collect();
        let due = self
            .allocator
            .expire(self.now, &|port| self.is_listening(port));
        self.commit(due);
        let next = self.allocator.next_deadline();
        prop_assert!(next.is_none_or(|deadline| deadline > self.now));
        for id in before.intersection(&listened) {
            prop_assert!(
                self.allocator.lease(*id).is_some(),
                "its age ends no lease that is used"
            );
        }
        let silent = self
            .instances
            .expire(self.seen(), INSTANCE_TTL, &|process| {
                !self.dead.contains(&process.start_time)
            });
        self.commit(silent);
        let next = self.instances.next_deadline(INSTANCE_TTL);
        prop_assert!(next.is_none_or(|deadline| deadline > self.now));
        Ok(())
    }

    pub(super) fn look(&mut self) {
        let listening = self.own.keys().copied().collect();
        let records = self
            .allocator
            .look(&mut self.looks, &listening, self.now, 3);
        self.commit(records);
    }

    pub(super) fn cleanup(&mut self, force: bool) -> Result<(), TestCaseError> {
        let sight = Sight {
            now: self.now,
            is_listening: &|port| self.is_listening(port),
            is_alive: &|owner| !self.dead.contains(&owner.process.start_time),
        };
        let unused = self.allocator.cleanup(force, &sight);
        for id in &unused {
            prop_assert!(!self.listens(*id), "something listens");
        }
        self.commit(unused.into_iter().map(Record::Ended));
        let sight_again = self
            .allocator
            .leases()
            .filter(|lease| !lease.ports().any(|port| self.is_listening(port)));
        prop_assert!(!force || sight_again.count() == 0);
        Ok(())
    }

    pub(super) fn register(&mut self, number: u8, has_pid: bool) {
        self.ids += 1;
        let start_time = u64::try_from(self.ids).expect("few");
        let instance = Instance {
            id: format!("instance-{number}").parse().expect("a valid name"),
            working_directory: None,
            pid: None,
            process: has_pid.then_some(ProcessIdentity { pid: 9, start_time }),
            metadata: Metadata::new(),
            boot: self.boot.to_string(),
            registered_at: self.wall,
            seen: self.seen(),
        };
        let record = self.instances.register(instance).expect("few and small");
        self.commit([record]);
    }

    pub(super) fn heartbeat(&mut self, number: u8) {
        let id = format!("instance-{number}").parse().expect("a valid name");
        let record = self.instances.heartbeat(&id, self.seen());
        self.commit(record);
    }

    pub(super) fn wall_clock_steps(&mut self, wall: u64) -> Result<(), TestCaseError> {
        self.wall = wall;
        let before: Vec<Lease> = self.allocator.leases().cloned().collect();
        let instances = self.instances.len();
        self.time_passes(0)?;
        prop_assert!(self.allocator.leases().eq(before.iter()));
        prop_assert_eq!(self.instances.len(), instances);
        Ok(())
    }

    pub(super) fn crash_in_allocate(&mut self, ask: Ask, cut: Index) -> Result<(), TestCaseError> {
        let bytes = self.unacknowledged(ask);
        self.recovers_from(&bytes[..cut.index(bytes.len() + 1)])?;
        self.restart()
    }

    /// What is written for this request before the daemon is killed.
    pub(super) fn unacknowledged(&mut self, ask: Ask) -> Vec<u8> {
        let grant = self.decide(ask);
        let records = grant.map_or_else(|_| Vec::new(), |grant| grant.records);
        let entries: Vec<Entry> = records.into_iter().map(Entry::from).collect();
        journal::encode(&entries)
    }

    /// V3: with so much of a write that nobody got an answer to, everything else is there.
    pub(super) fn recovers_from(&self, torn: &[u8]) -> Result<(), TestCaseError> {
        let decoded = journal::decode(&[&self.journal, torn].concat());
        let (mut allocator, mut instances) = (fresh(), Instances::default());
        for entry in &decoded.records {
            apply(&mut allocator, &mut instances, entry);
        }
        for lease in self.allocator.leases() {
            prop_assert_eq!(allocator.lease(lease.id), Some(lease), "V3");
        }
        prop_assert!(allocator.len() <= self.allocator.len() + 1);
        prop_assert!(instances.iter().eq(self.instances.iter()), "V3");
        Ok(())
    }

    pub(super) fn restart(&mut self) -> Result<(), TestCaseError> {
        self.recovers_from(b"")?;
        let (mut allocator, mut instances) = (fresh(), Instances::default());
        for entry in &journal::decode(&self.journal).records {
            apply(&mut allocator, &mut instances, entry);
        }
        (self.allocator, self.instances) = (allocator, instances);
        self.looks = Looks::default();
        // As a journal that is written anew.
        let leases = self.allocator.snapshot().into_iter().map(Entry::from);
        let entries: Vec<Entry> = leases
            .chain(self.instances.snapshot().map(Entry::from))
            .collect();
        self.journal = journal::encode(&entries);
        let boot = self.boot.to_string();
        let records = self.allocator.recover(&boot, &|owner| {
            !self.dead.contains(&owner.process.start_time)
        });
        self.commit(records);
        self.commit(self.instances.recover(&boot));
        let unused = self
            .allocator
            .doubles(&|port| self.is_listening(port))
            .unused;
        self.commit(unused.into_iter().map(Record::Ended));
        Ok(())
    }

    pub(super) fn reboot(&mut self) -> Result<(), TestCaseError> {
        self.boot += 1;
        self.start_times.clear();
        self.foreign.clear();
        self.own.clear();
        self.now = Duration::from_secs(1);
        self.restart()?;
        prop_assert_eq!((self.allocator.len(), self.instances.len()), (0, 0));
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), TestCaseError> {
        let mut seen = BTreeSet::new();
        for lease in self.allocator.leases() {
            for port in lease.ports() {
                prop_assert!(seen.insert(port), "V1: {port} is in two leases");
            }
            let stands = match lease.hold {
                Hold::Owner(owner) => !self.dead.contains(&owner.process.start_time),
                Hold::Heartbeat { deadline, .. } => deadline > self.now,
                Hold::Detached { .. } => self.listens(lease.id),
            };
            prop_assert!(stands, "V2: {lease:?}");
        }
        let right = Indexes::of(self.allocator.leases());
        prop_assert_eq!(&self.allocator.indexes, &right);
        let by_owner = self.allocator.indexes.by_owner.values();
        prop_assert!(
            by_owner.copied().all(|count| count <= MAX_LEASES),
            "a quota"
        );
        let mut replayed = fresh();
        for record in self.allocator.snapshot() {
            replayed.apply(&record);
        }
        prop_assert!(replayed.leases().eq(self.allocator.leases()));
        prop_assert_eq!(sticky(&replayed), sticky(&self.allocator));
        Ok(())
    }

    /// A lease with everything that can happen to one until it has ended.
    pub(super) fn live_through_one_lease(&mut self, number: u32) {
        let ask = Ask {
            service_type: "dev",
            project: 1,
            preferred: None,
            default: Some(5173),
            spares: 2,
            strict: false,
            owner: number % 7,
            ttl: Some(60),
            dry_run: false,
        };
        let grant = self.decide(ask).expect("everything is free");
        let id = grant.id.expect("no dry run");
        let reported = Port::new(9000).expect("not 0");
        let report = ListenerReport {
            requested: reported,
            port: reported,
        };
        // Applied and not written: the journal is not what this is about.
        let do_all = |machine: &mut Self, records: Vec<Record>| {
            for record in records {
                machine.allocator.apply(&record);
            }
        };
        do_all(self, grant.records);
        let record = self.allocator.report(id, report).expect("it is there");
        do_all(
            self,
            record.expect("the port is free").into_iter().collect(),
        );
        let listening = BTreeSet::from([reported]);
        let records = self
            .allocator
            .look(&mut self.looks, &listening, self.now, 3);
        do_all(self, records);
        for _ in 0..2 {
            let records = self
                .allocator
                .look(&mut self.looks, &BTreeSet::new(), self.now, 3);
            do_all(self, records);
        }
        let ended = match number % 3 {
            0 => self
                .allocator
                .release(id, &|_| false)
                .map(|release| match release {
                    Release::Ends(record) | Release::Detaches(record) => record,
                    Release::IsDetached => panic!("nobody has detached it"),
                }),
            1 => Some(Record::Ended(id)),
            _ => self.allocator.owner_ended(id),
        };
        do_all(self, ended.into_iter().collect());
        do_all(self, self.allocator.tree_ended(id).into_iter().collect());
        self.now += Duration::from_mins(2);
        do_all(self, self.allocator.expire(self.now, &|_| false));
        self.start_times.clear();
        let records = self
            .allocator
            .look(&mut self.looks, &BTreeSet::new(), self.now, 3);
        do_all(self, records);
        self.register(1, true);
        self.journal.clear();
        let everyone = self.instances.expire(
            Seen {
                at: self.now + INSTANCE_TTL,
                wall: 0,
            },
            INSTANCE_TTL,
            &|_| false,
        );
        self.commit(everyone);
        self.journal.clear();
    }

    /// V7.
    pub(super) fn assert_empty(&self) {
        assert_eq!(self.allocator.len(), 0);
        assert_eq!(self.allocator.indexes, Indexes::default());
        assert_eq!(self.instances.len(), 0);
        assert_eq!(self.instances.next_deadline(INSTANCE_TTL), None);
        assert!(self.looks.is_empty());
        assert_eq!(
            self.allocator.sticky.len(),
            1,
            "one service, one port of last time"
        );
    }
}

fn fresh() -> Allocator {
    let mut types = ServiceTypes::builtin();
    let dev = types.get(&"dev".parse().expect("a valid name"));
    let tiny = Definition {
        name: "tiny".parse().expect("a valid name"),
        preferred: Vec::new(),
        range: TINY,
        ..dev.expect("it is built in").clone()
    };
    types.insert(tiny);
    Allocator::new(types, EPHEMERAL, 0)
}

fn apply(allocator: &mut Allocator, instances: &mut Instances, entry: &Entry) {
    match entry {
        Entry::Lease(record) => allocator.apply(record),
        Entry::Instance(record) => instances.apply(record),
    }
}

fn sticky(allocator: &Allocator) -> BTreeMap<super::super::Identity, Port> {
    let sticky = allocator.sticky.iter();
    sticky
        .map(|(identity, sticky)| (identity.clone(), sticky.port))
        .collect()
}
