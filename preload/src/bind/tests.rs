//! The decision against a kernel made of sets: every case is a state of the world, an address, what must
//! come back, and what the table must say afterwards.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use styxy_protocol::table::STRICT;

const REFUSED: Errno = Errno(13);

/// A kernel in which some ports are taken.
struct World {
    kind: Kind,
    /// `bind()` answers EADDRINUSE on these, with or without `SO_REUSEADDR`.
    in_use: HashSet<u16>,
    /// A holder with `SO_REUSEADDR` that does not listen: `bind()` conflicts only without the option.
    held: HashSet<u16>,
    /// The dual-stack probe finds somebody here (also on everything in `in_use`).
    elsewhere: HashSet<u16>,
    /// `bind()` answers EACCES on these.
    refused: HashSet<u16>,
    option: Cell<bool>,
    bound_to: Cell<Option<u16>>,
    probed: RefCell<Vec<u16>>,
    wakes: Cell<u32>,
    /// What another process does while this one probes.
    meanwhile: Option<fn(&PortTable)>,
    shared: Option<&'static PortTable>,
}

impl World {
    fn new() -> Self {
        Self {
            kind: Kind::Stream,
            in_use: HashSet::new(),
            held: HashSet::new(),
            elsewhere: HashSet::new(),
            refused: HashSet::new(),
            option: Cell::new(false),
            bound_to: Cell::new(None),
            probed: RefCell::new(Vec::new()),
            wakes: Cell::new(0),
            meanwhile: None,
            shared: None,
        }
    }

    fn in_use(mut self, ports: &[u16]) -> Self {
        self.in_use.extend(ports);
        self
    }

    fn held(mut self, port: u16) -> Self {
        self.held.insert(port);
        self
    }

    fn elsewhere(mut self, port: u16) -> Self {
        self.elsewhere.insert(port);
        self
    }

    fn refused(mut self, port: u16) -> Self {
        self.refused.insert(port);
        self
    }

    fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

impl Socket for World {
    fn bind(&self, address: &Address) -> Result<(), Errno> {
        let port = address.port();
        if self.refused.contains(&port) {
            return Err(REFUSED);
        }
        if self.in_use.contains(&port) || (self.held.contains(&port) && !self.option.get()) {
            return Err(Errno::ADDRESS_IN_USE);
        }
        self.bound_to.set(Some(port));
        Ok(())
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn reuses_address(&self) -> bool {
        self.option.get()
    }

    fn reuse_address(&self, on: bool) {
        self.option.set(on);
    }

    fn probe(&self, port: u16) -> Probe {
        self.probed.borrow_mut().push(port);
        if let (Some(meanwhile), Some(table)) = (self.meanwhile, self.shared) {
            meanwhile(table);
        }
        if self.in_use.contains(&port) || self.elsewhere.contains(&port) {
            Probe::Taken
        } else {
            Probe::Free
        }
    }

    fn wake_watcher(&self, _: &PortTable) {
        self.wakes.set(self.wakes.get() + 1);
    }
}

const fn pin(requested: u16, real: u16) -> Entry {
    Entry {
        requested,
        real,
        pinned: true,
        bound: false,
        contested: false,
    }
}

const fn learned(requested: u16, real: u16) -> Entry {
    Entry {
        requested,
        real,
        pinned: false,
        bound: true,
        contested: false,
    }
}

fn table(flags: u32, entries: &[Entry], spares: &[u16]) -> PortTable {
    let table = PortTable::new(flags);
    for &entry in entries {
        assert_eq!(table.claim(entry), Claim::Won);
    }
    for &spare in spares {
        assert!(table.add_spare(spare));
    }
    table
}

struct Case {
    name: &'static str,
    world: World,
    flags: u32,
    entries: Vec<Entry>,
    spares: &'static [u16],
    result: Result<u16, Errno>,
    /// What the table says of port 8000 in the end.
    entry: Option<Entry>,
    probed: &'static [u16],
    option: bool,
}

/// Asks for port 8000 of every address.
#[expect(
    clippy::needless_pass_by_value,
    reason = "cases are written at the call"
)]
fn check(case: Case) {
    let name = case.name;
    let table = table(case.flags, &case.entries, case.spares);
    let before = table.entry(8000);
    let result = bind(&case.world, &table, &Address::any_v4(8000));
    let result = result.map(|()| case.world.bound_to.get().expect("bound"));
    assert_eq!(result, case.result, "{name}: result");
    assert_eq!(table.entry(8000), case.entry, "{name}: entry");
    assert_eq!(*case.world.probed.borrow(), case.probed, "{name}: probes");
    assert_eq!(case.world.option.get(), case.option, "{name}: option");
    let news = table.entry(8000) != before && table.entry(8000).is_some_and(|entry| entry.bound);
    assert_eq!(case.world.wakes.get(), u32::from(news), "{name}: wakes");
}

const ATTEMPT: Entry = Entry::attempt(8000);

fn case(name: &'static str, world: World) -> Case {
    Case {
        name,
        world,
        flags: STRICT,
        entries: vec![],
        spares: &[20001, 20002],
        result: Ok(8000),
        entry: Some(learned(8000, 8000)),
        probed: &[8000],
        option: false,
    }
}

#[test]
fn an_unforeseen_port_is_used_when_it_is_free_and_moved_when_it_is_not() {
    check(case("free", World::new()));
    check(Case {
        result: Ok(20001),
        entry: Some(learned(8000, 20001)),
        probed: &[8000, 20001],
        option: true,
        ..case("taken", World::new().in_use(&[8000]))
    });
    check(Case {
        result: Ok(20001),
        entry: Some(learned(8000, 20001)),
        probed: &[8000, 20001],
        option: true,
        ..case(
            "taken on the other family only",
            World::new().elsewhere(8000),
        )
    });
    check(Case {
        flags: 0,
        probed: &[],
        ..case(
            "not strict: the kernel's word is enough",
            World::new().elsewhere(8000),
        )
    });
    check(Case {
        result: Ok(20001),
        entry: Some(learned(8000, 20001)),
        probed: &[8000, 20001],
        option: true,
        ..case(
            "held by another run: no second try with the option",
            World::new().held(8000),
        )
    });
    check(Case {
        result: Ok(20002),
        entry: Some(learned(8000, 20002)),
        probed: &[8000, 20001, 20002],
        option: true,
        ..case(
            "the first spare is taken too",
            World::new().in_use(&[8000, 20001]),
        )
    });
}

#[test]
fn without_a_usable_spare_the_kernel_answers() {
    check(Case {
        spares: &[],
        result: Err(Errno::ADDRESS_IN_USE),
        entry: Some(ATTEMPT),
        ..case("no spare", World::new().in_use(&[8000]))
    });
    check(Case {
        result: Err(Errno::ADDRESS_IN_USE),
        entry: Some(Entry {
            real: 20002,
            ..ATTEMPT
        }),
        probed: &[8000, 20001, 20002],
        ..case(
            "both spares taken",
            World::new().in_use(&[8000, 20001, 20002]),
        )
    });
    check(Case {
        spares: &[],
        ..case(
            "no spare, and taken on the other family only",
            World::new().elsewhere(8000),
        )
    });
    check(Case {
        result: Err(REFUSED),
        entry: Some(ATTEMPT),
        ..case("another error is final", World::new().refused(8000))
    });
    check(Case {
        result: Err(REFUSED),
        entry: Some(Entry {
            real: 20001,
            ..ATTEMPT
        }),
        probed: &[8000, 20001],
        ..case(
            "and clears the option",
            World::new().in_use(&[8000]).refused(20001),
        )
    });
}

#[test]
fn a_pinned_port_is_taken_from_under_the_launchers_hold() {
    check(Case {
        entries: vec![pin(8000, 8000)],
        entry: Some(Entry {
            bound: true,
            ..pin(8000, 8000)
        }),
        option: true,
        ..case("held", World::new().held(8000))
    });
    check(Case {
        entries: vec![pin(8000, 8001)],
        result: Ok(8001),
        entry: Some(Entry {
            bound: true,
            ..pin(8000, 8001)
        }),
        probed: &[8001],
        option: true,
        ..case("held elsewhere", World::new().held(8001).in_use(&[8000]))
    });
    check(Case {
        entries: vec![pin(8000, 8001)],
        result: Ok(20001),
        entry: Some(Entry {
            bound: true,
            ..pin(8000, 20001)
        }),
        probed: &[8001, 20001],
        option: true,
        ..case("a stranger was faster", World::new().in_use(&[8000, 8001]))
    });
}

#[test]
fn a_port_that_the_run_has_bound_is_its_own() {
    const BOUND: Entry = Entry {
        pinned: true,
        ..learned(8000, 8001)
    };
    check(Case {
        entries: vec![learned(8000, 8000)],
        result: Err(Errno::ADDRESS_IN_USE),
        probed: &[],
        ..case(
            "a second server sees what it would see",
            World::new().in_use(&[8000]),
        )
    });
    check(Case {
        entries: vec![BOUND],
        result: Err(Errno::ADDRESS_IN_USE),
        entry: Some(BOUND),
        probed: &[],
        ..case(
            "also on a moved port, and the option is cleared",
            World::new().in_use(&[8001]),
        )
    });
    check(Case {
        entries: vec![learned(8000, 20009)],
        result: Ok(20009),
        entry: Some(learned(8000, 20009)),
        probed: &[],
        option: true,
        ..case(
            "a restart finds its port again",
            World::new().in_use(&[8000]),
        )
    });
}

#[test]
fn datagrams_follow_a_moved_tcp_port_and_nothing_else() {
    let udp = || World::new().kind(Kind::Datagram);
    let quiet = |name, world| Case {
        entry: None,
        probed: &[],
        ..case(name, world)
    };
    check(quiet("free", udp()));
    check(Case {
        result: Err(Errno::ADDRESS_IN_USE),
        ..quiet("taken", udp().in_use(&[8000]))
    });
    check(Case {
        entries: vec![learned(8000, 20009)],
        result: Ok(20009),
        entry: Some(learned(8000, 20009)),
        ..quiet("moved", udp())
    });
    check(Case {
        entries: vec![learned(8000, 20009)],
        entry: Some(learned(8000, 20009)),
        ..quiet("moved, but that one is taken", udp().in_use(&[20009]))
    });
    check(Case {
        entries: vec![Entry {
            bound: false,
            ..learned(8000, 20009)
        }],
        entry: Some(Entry {
            bound: false,
            ..learned(8000, 20009)
        }),
        ..quiet("a move that never succeeded", udp())
    });
    check(Case {
        ..quiet("some other socket", World::new().kind(Kind::Other))
    });
}

#[test]
fn one_address_of_this_machine_is_asked_for_without_a_probe() {
    let address = specific(8000);
    let world = World::new().elsewhere(8000);
    let table = table(STRICT, &[], &[20001]);
    assert_eq!(bind(&world, &table, &address), Ok(()));
    assert_eq!(world.bound_to.get(), Some(8000));
    assert!(world.probed.borrow().is_empty());

    let world = World::new().in_use(&[8001]);
    assert_eq!(bind(&world, &table, &specific(8001)), Ok(()));
    assert_eq!(world.bound_to.get(), Some(20001));
    assert!(world.probed.borrow().is_empty());
}

#[test]
fn a_full_table_leaves_the_kernel_alone() {
    let entries: Vec<Entry> = (1..=64).map(|port| learned(port, port)).collect();
    let table = table(STRICT, &entries, &[20001]);
    let world = World::new().in_use(&[8000]);
    let result = bind(&world, &table, &Address::any_v6(8000));
    assert_eq!(result, Err(Errno::ADDRESS_IN_USE));
    assert_eq!(table.take_spare(), Some(20001));
}

#[test]
fn whoever_loses_a_race_for_an_entry_follows_the_winner() {
    static TABLE: PortTable = PortTable::new(STRICT);
    TABLE.add_spare(20001);
    TABLE.add_spare(20002);
    let mut world = World::new().in_use(&[8000]);
    world.shared = Some(&TABLE);
    world.meanwhile = Some(|table| {
        let winner = learned(8000, 20002);
        table.replace(ATTEMPT, winner);
    });
    assert_eq!(bind(&world, &TABLE, &Address::any_v4(8000)), Ok(()));
    assert_eq!(world.bound_to.get(), Some(20002));
    assert_eq!(TABLE.take_spare(), Some(20001), "the spare went back");
}

const JOINED: Entry = Entry {
    contested: true,
    ..ATTEMPT
};

#[test]
fn a_worker_joins_one_that_has_not_said_yet_that_it_has_the_port() {
    let table = table(STRICT, &[ATTEMPT], &[20001]);
    let second = World::new().elsewhere(8000);
    assert_eq!(bind(&second, &table, &Address::any_v4(8000)), Ok(()));
    assert_eq!(second.bound_to.get(), Some(8000));
    assert_eq!(table.entry(8000), Some(JOINED.bound()));
    assert_eq!(second.wakes.get(), 1);
}

#[test]
fn a_sibling_that_binds_during_the_probe_is_not_a_stranger() {
    static TABLE: PortTable = PortTable::new(STRICT);
    TABLE.add_spare(20001);
    // The probe finds the sibling; the bind succeeds, since both share the port by SO_REUSEPORT.
    let mut first = World::new().elsewhere(8000);
    first.shared = Some(&TABLE);
    first.meanwhile = Some(|table| {
        table.replace(ATTEMPT, JOINED);
    });
    assert_eq!(bind(&first, &TABLE, &Address::any_v4(8000)), Ok(()));
    assert_eq!(first.bound_to.get(), Some(8000));
    assert_eq!(TABLE.entry(8000), Some(JOINED.bound()));
    assert_eq!(TABLE.take_spare(), Some(20001), "no spare was used up");
}

#[test]
fn a_port_is_made_known_even_if_somebody_joined_in_the_meantime() {
    static TABLE: PortTable = PortTable::new(STRICT);
    let mut first = World::new();
    first.shared = Some(&TABLE);
    first.meanwhile = Some(|table| {
        table.replace(ATTEMPT, JOINED);
    });
    assert_eq!(bind(&first, &TABLE, &Address::any_v4(8000)), Ok(()));
    assert_eq!(TABLE.entry(8000), Some(JOINED.bound()));
    assert_eq!(first.wakes.get(), 1);
}

fn specific(port: u16) -> Address {
    let mut bytes = [0_u8; 16];
    bytes[..2].copy_from_slice(&crate::address::AF_INET.to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[192, 0, 2, 1]);
    read(&bytes)
}

#[expect(unsafe_code, reason = "addresses are read from memory")]
fn read(bytes: &[u8; 16]) -> Address {
    // SAFETY: the 16 bytes of an array.
    unsafe { Address::read(bytes.as_ptr().cast(), 16) }.expect("an IPv4 address")
}
