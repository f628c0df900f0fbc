//! The shared port table: 4 KiB of memory mapped by the launcher and by every hooked process of its tree.
//!
//! It answers two questions without a system call: *which port does a program get that asks for this
//! one*, and *which spare port is still free*. Invariant: an entry is never removed and never changes the
//! port that it was requested for, so readers need no lock: they walk the entries until the first empty one.
//!
//! Every word is an atomic and every bit pattern is valid, so a torn, hostile or stale table can give a
//! wrong port but never undefined behaviour; the kernel still decides whether the port can be bound.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// First word of a table: `STXY`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"STXY");
/// Version of this layout.
pub const VERSION: u32 = 1;
/// Bytes of the file that is mapped.
pub const FILE_LEN: usize = 4096;
/// How many requested ports a table can hold.
pub const ENTRIES: usize = 64;
/// How many spare ports a table can hold.
pub const SPARES: usize = 16;
/// Name of the table's file in a session directory.
pub const FILE_NAME: &str = "tab";
/// Name of the preload library in a session directory.
pub const LIBRARY_NAME: &str = "styxy.so";

/// Bytes that the path of a session directory may have. The library copies it to memory of its own.
pub const MAX_DIRECTORY_LEN: usize = 512;

/// Flag of a table: before a bind, ask the kernel whether the port is free on both address families.
pub const STRICT: u32 = 1;

/// What happens to a program that asks for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The port that programs ask for; never 0.
    pub requested: u16,
    /// The port that they get.
    pub real: u16,
    /// The run plan put it there: the port is leased and held, and was free when it was.
    pub pinned: bool,
    /// A process of the tree has bound it. An entry that is neither pinned nor bound is an attempt
    /// that has not succeeded (yet): nobody may be told of its `real` port.
    pub bound: bool,
    /// Before it was bound, a second process of the tree asked for it: what looks like a stranger on the
    /// port may be a sibling.
    pub contested: bool,
}

impl Entry {
    /// The entry of a port that the run plan did not foresee, before anybody has bound it.
    pub const fn attempt(requested: u16) -> Self {
        Self {
            requested,
            real: requested,
            pinned: false,
            bound: false,
            contested: false,
        }
    }

    /// The same entry once a process has bound it.
    #[must_use]
    pub const fn bound(self) -> Self {
        Self {
            bound: true,
            ..self
        }
    }

    /// Whether programs get another port than the one they ask for.
    pub const fn is_moved(self) -> bool {
        self.requested != self.real
    }

    const PINNED: u64 = 1 << 32;
    const BOUND: u64 = 1 << 33;
    const CONTESTED: u64 = 1 << 34;

    const fn to_bits(self) -> u64 {
        self.requested as u64
            | (self.real as u64) << 16
            | if self.pinned { Self::PINNED } else { 0 }
            | if self.bound { Self::BOUND } else { 0 }
            | if self.contested { Self::CONTESTED } else { 0 }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each field is cut out of its own bits"
    )]
    const fn from_bits(bits: u64) -> Self {
        Self {
            requested: bits as u16,
            real: (bits >> 16) as u16,
            pinned: bits & Self::PINNED != 0,
            bound: bits & Self::BOUND != 0,
            contested: bits & Self::CONTESTED != 0,
        }
    }
}

/// How an attempt to add an entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// The entry is in the table, and this call put it there.
    Won,
    /// Somebody else was first for the same requested port; this is what the table says.
    Lost(Entry),
    /// No room.
    Full,
}

/// The table as it lies in memory. All zero is an empty table without a magic number.
#[repr(C)]
#[derive(Debug)]
pub struct PortTable {
    magic: AtomicU32,
    version: AtomicU32,
    flags: AtomicU32,
    doorbell: AtomicU32,
    spares: [AtomicU32; SPARES],
    entries: [AtomicU64; ENTRIES],
}

const _: () = assert!(size_of::<PortTable>() <= FILE_LEN);

/// A spare port that is given out has this bit.
const TAKEN: u32 = 1 << 16;

impl PortTable {
    /// An empty table in its own memory, for tests and for filling a file.
    pub const fn new(flags: u32) -> Self {
        Self {
            magic: AtomicU32::new(MAGIC),
            version: AtomicU32::new(VERSION),
            flags: AtomicU32::new(flags),
            doorbell: AtomicU32::new(0),
            spares: [const { AtomicU32::new(0) }; SPARES],
            entries: [const { AtomicU64::new(0) }; ENTRIES],
        }
    }

    /// Makes zeroed memory an empty table. The magic number is written last.
    pub fn initialise(&self, flags: u32) {
        self.version.store(VERSION, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// Whether this memory is a table of this layout.
    pub fn is_valid(&self) -> bool {
        self.magic.load(Ordering::Acquire) == MAGIC
            && self.version.load(Ordering::Relaxed) == VERSION
    }

    /// Whether both address families are asked before a bind.
    pub fn is_strict(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & STRICT != 0
    }

    /// The futex word that changes whenever an entry does. Wait for it to leave a value seen before.
    pub fn doorbell(&self) -> &AtomicU32 {
        &self.doorbell
    }

    /// Every entry, in the order in which they came.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries
            .iter()
            .map(|slot| slot.load(Ordering::Acquire))
            .take_while(|&bits| bits != 0)
            .map(Entry::from_bits)
    }

    /// What a program gets that asks for `requested`.
    pub fn entry(&self, requested: u16) -> Option<Entry> {
        self.entries().find(|entry| entry.requested == requested)
    }

    /// Adds `entry` unless its requested port has one already, and tells which of the two happened.
    pub fn claim(&self, entry: Entry) -> Claim {
        for slot in &self.entries {
            match slot.compare_exchange(0, entry.to_bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.ring();
                    return Claim::Won;
                }
                Err(bits) if Entry::from_bits(bits).requested == entry.requested => {
                    return Claim::Lost(Entry::from_bits(bits));
                }
                Err(_) => {}
            }
        }
        Claim::Full
    }

    /// Adds `entry`, or finds the one that somebody else added for the same requested port.
    /// `None` when the table is full.
    pub fn publish(&self, entry: Entry) -> Option<Entry> {
        match self.claim(entry) {
            Claim::Won => Some(entry),
            Claim::Lost(theirs) => Some(theirs),
            Claim::Full => None,
        }
    }

    /// Replaces `old` by `new`, which has the same requested port. False if `old` is no longer there.
    pub fn replace(&self, old: Entry, new: Entry) -> bool {
        debug_assert_eq!(old.requested, new.requested);
        for slot in &self.entries {
            if slot.load(Ordering::Acquire) == old.to_bits() {
                let done = slot
                    .compare_exchange(
                        old.to_bits(),
                        new.to_bits(),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    )
                    .is_ok();
                if done {
                    self.ring();
                }
                return done;
            }
        }
        false
    }

    /// Puts a port into the pool of spares. False when the pool is full.
    pub fn add_spare(&self, port: u16) -> bool {
        self.spares.iter().any(|slot| {
            slot.compare_exchange(0, u32::from(port), Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        })
    }

    /// Takes a port out of the pool, for good. `None` when there is none left.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the port is the low half of the word"
    )]
    pub fn take_spare(&self) -> Option<u16> {
        self.spares.iter().find_map(|slot| {
            let word = slot.load(Ordering::Acquire);
            let free = word != 0 && word & TAKEN == 0;
            let taken = free
                && slot
                    .compare_exchange(word, word | TAKEN, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            taken.then_some(word as u16)
        })
    }

    /// Puts a spare back that was taken and then not needed.
    pub fn return_spare(&self, port: u16) {
        for slot in &self.spares {
            let taken = u32::from(port) | TAKEN;
            let free = u32::from(port);
            if slot
                .compare_exchange(taken, free, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return;
            }
        }
    }

    fn ring(&self) {
        self.doorbell.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, feature = "api"))]
mod tests {
    use super::*;

    const fn learned(requested: u16, real: u16) -> Entry {
        Entry {
            requested,
            real,
            pinned: false,
            bound: true,
            contested: false,
        }
    }

    #[test]
    fn zeroed_memory_is_no_table_until_it_is_initialised() {
        let table = PortTable::new(0);
        table.magic.store(0, Ordering::Relaxed);
        assert!(!table.is_valid());
        table.initialise(STRICT);
        assert!(table.is_valid() && table.is_strict());
    }

    #[test]
    fn the_first_to_publish_a_port_decides() {
        let table = PortTable::new(0);
        assert_eq!(
            table.publish(learned(8000, 8001)),
            Some(learned(8000, 8001))
        );
        assert_eq!(
            table.publish(learned(8000, 9000)),
            Some(learned(8000, 8001))
        );
        assert_eq!(table.entry(8000), Some(learned(8000, 8001)));
        assert_eq!(table.entry(8001), None);
        assert_eq!(table.doorbell().load(Ordering::Relaxed), 1);
    }

    #[test]
    fn only_the_first_claim_of_a_port_is_won() {
        let table = PortTable::new(0);
        assert_eq!(table.claim(Entry::attempt(8000)), Claim::Won);
        assert_eq!(
            table.claim(Entry::attempt(8000)),
            Claim::Lost(Entry::attempt(8000)),
            "an equal entry of somebody else is not ours"
        );
    }

    #[test]
    fn a_returned_spare_is_given_out_again() {
        let table = PortTable::new(0);
        assert!(table.add_spare(20000));
        assert_eq!(table.take_spare(), Some(20000));
        assert_eq!(table.take_spare(), None);
        table.return_spare(20000);
        table.return_spare(20000);
        assert_eq!(table.take_spare(), Some(20000));
        assert_eq!(table.take_spare(), None);
    }

    #[test]
    fn a_full_table_takes_no_more_but_keeps_answering() {
        let table = PortTable::new(0);
        for n in 0..ENTRIES {
            let port = 1024 + u16::try_from(n).unwrap();
            assert!(table.publish(learned(port, port)).is_some());
        }
        assert_eq!(table.publish(learned(9, 9)), None);
        assert_eq!(table.publish(learned(1024, 5)), Some(learned(1024, 1024)));
        assert_eq!(table.entries().count(), ENTRIES);
    }

    #[test]
    fn an_entry_is_replaced_only_by_someone_who_has_seen_it() {
        let table = PortTable::new(0);
        let pinned = Entry {
            requested: 6006,
            real: 6006,
            pinned: true,
            bound: false,
            contested: false,
        };
        table.publish(pinned);
        let moved = Entry {
            real: 20000,
            bound: true,
            ..pinned
        };
        assert!(table.replace(pinned, moved));
        assert!(!table.replace(pinned, Entry { real: 1, ..pinned }));
        assert_eq!(table.entry(6006), Some(moved));
    }

    #[test]
    fn every_spare_is_given_out_once_even_to_many_threads() {
        let table = PortTable::new(0);
        for port in 1..=16 {
            assert!(table.add_spare(port));
        }
        assert!(!table.add_spare(17));
        let mut taken: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| table.take_spare()).collect::<Vec<_>>())
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        taken.sort_unstable();
        assert_eq!(taken, (1..=16).collect::<Vec<_>>());
    }
}
