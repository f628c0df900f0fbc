//! What a hooked `bind()` does: the whole decision, over a socket and the shared table.
//!
//! Invariant: the program sees either a success on the port that the table then names, or the kernel's own
//! answer to what it asked for. `SO_REUSEADDR` stays set only on a socket that was bound with it.
//!
//! Three things in here look as if they could be simpler, and cannot:
//!
//! * An unforeseen port is **claimed in the table before it is probed**. Workers that share a port by
//!   `SO_REUSEPORT` start together; the first one alone asks whether the port is free, the others join it, and
//!   say so in the table before they bind. Otherwise one would take another for a stranger.
//! * A spare is **entered in the table before it is bound**, so that two processes that lose the same port
//!   at the same moment end up on one spare, and so do the IPv4 and the IPv6 half of one server.
//! * `EADDRINUSE` is never answered by a second try with `SO_REUSEADDR`. It would win against a port
//!   that lingers after a server which had set that option, but just as well against the hold that another
//!   run of styxy keeps on its announced port. A spare port is right in both cases.
//!
//! Known limit: siblings without `SO_REUSEADDR` that ask for one unforeseen port within the same few microseconds
//! can still meet the first one's probe, and move to a spare although the port is theirs.

use styxy_protocol::table::{Claim, Entry, PortTable, SPARES};

use crate::address::{Address, Scope};

/// An error number of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// `EADDRINUSE` on Linux (every architecture that is supported).
    pub const ADDRESS_IN_USE: Self = Self(98);
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SOCK_STREAM`: TCP.
    Stream,
    /// `SOCK_DGRAM`: UDP.
    Datagram,
    /// Anything else, and whatever is no socket.
    Other,
}

/// What the kernel says of a port on both address families together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody listens on it, on any address.
    Free,
    /// Somebody does.
    Taken,
    /// It could not be found out; the program's own `bind()` will tell.
    Unknown,
}

/// The socket that the program wants to bind, and the kernel around it.
pub trait Socket {
    /// The kernel's own `bind()`.
    fn bind(&self, address: &Address) -> Result<(), Errno>;
    /// The socket's type.
    fn kind(&self) -> Kind;
    /// Whether `SO_REUSEADDR` is set.
    fn reuses_address(&self) -> bool;
    /// Sets or clears `SO_REUSEADDR`.
    fn reuse_address(&self, on: bool);
    /// Asks for a port with a socket of our own.
    fn probe(&self, port: u16) -> Probe;
    /// Wakes whoever waits for a change of the table.
    fn wake_watcher(&self, table: &PortTable);
}

/// Binds `socket` to the port that the run has for the one in `address`.
pub fn bind(socket: &impl Socket, table: &PortTable, address: &Address) -> Result<(), Errno> {
    match socket.kind() {
        Kind::Stream => bind_stream(socket, table, address),
        Kind::Datagram => bind_datagram(socket, table, address),
        Kind::Other => socket.bind(address),
    }
}

/// A datagram socket goes where the TCP port of the same number went (HTTP/3 beside HTTP/2), or nowhere.
fn bind_datagram(socket: &impl Socket, table: &PortTable, address: &Address) -> Result<(), Errno> {
    match table.entry(address.port()) {
        Some(entry) if entry.is_moved() && (entry.pinned || entry.bound) => socket
            .bind(&address.with_port(entry.real))
            .or_else(|_| socket.bind(address)),
        _ => socket.bind(address),
    }
}

fn bind_stream(socket: &impl Socket, table: &PortTable, address: &Address) -> Result<(), Errno> {
    let attempt = Entry::attempt(address.port());
    let (entry, ours) = match table.entry(address.port()) {
        Some(entry) => (join(table, entry), false),
        None => match table.claim(attempt) {
            Claim::Won => (attempt, true),
            Claim::Lost(entry) => (join(table, entry), false),
            Claim::Full => return socket.bind(address),
        },
    };
    StreamBind {
        socket,
        table,
        address,
        entry,
        ours,
        option_set: false,
    }
    .run()
}

/// Follows an entry of somebody else. If nobody has bound it yet, whoever put it there may be asking the kernel
/// for the port at this moment, and must not take our bind for a stranger's.
fn join(table: &PortTable, entry: Entry) -> Entry {
    if entry.bound || entry.pinned || entry.contested {
        return entry;
    }
    let contested = Entry {
        contested: true,
        ..entry
    };
    if table.replace(entry, contested) {
        contested
    } else {
        table.entry(entry.requested).unwrap_or(entry)
    }
}

/// How one try ended.
enum Try {
    /// The call is over.
    Done(Result<(), Errno>),
    /// The port is taken, by somebody who is not of this run.
    Conflict,
}

/// One `bind()` of a stream socket on its way through the table.
struct StreamBind<'a, S> {
    socket: &'a S,
    table: &'a PortTable,
    address: &'a Address,
    /// The table's entry for the requested port, as last seen.
    entry: Entry,
    /// The entry is this call's own doing, so it is this call that asks whether its port is free.
    ours: bool,
    /// `SO_REUSEADDR` was clear and is now set.
    option_set: bool,
}

impl<S: Socket> StreamBind<'_, S> {
    fn run(mut self) -> Result<(), Errno> {
        // Every round either ends, uses up a spare, or follows somebody who did.
        for _ in 0..=2 * SPARES {
            match self.try_entry() {
                Try::Done(result) => return result,
                Try::Conflict if self.move_to_spare() => {}
                Try::Conflict => break,
            }
        }
        self.give_up()
    }

    /// Binds the port that the entry names, after a look at both address families where that is called for.
    fn try_entry(&mut self) -> Try {
        if self.wants_probe() && self.socket.probe(self.entry.real) == Probe::Taken {
            return Try::Conflict;
        }
        // The launcher's hold on a pinned port gives way only to SO_REUSEADDR, and a server on a port that
        // styxy chose must be able to come back to it after a restart.
        if self.entry.pinned || self.entry.is_moved() {
            self.set_option();
        }
        match self.socket.bind(&self.address.with_port(self.entry.real)) {
            Ok(()) => {
                self.record(self.entry.real);
                Try::Done(Ok(()))
            }
            // A port that the run has bound is most likely still its own: a second server of the
            // same run sees what it would see without styxy.
            Err(Errno::ADDRESS_IN_USE) if !self.entry.bound => Try::Conflict,
            Err(errno) => {
                self.clear_option();
                Try::Done(Err(errno))
            }
        }
    }

    /// A bind to one address says nothing of the other family, where `localhost` may lead as well. Only
    /// the first bind asks: later the run's own listener would be in the way.
    fn wants_probe(&self) -> bool {
        !self.entry.bound
            && (self.ours || self.entry.pinned)
            && self.table.is_strict()
            && self.address.scope() == Scope::Local
    }

    /// Points the entry to a spare port, or follows whoever changed the entry in the meantime.
    /// False when there is no spare left.
    fn move_to_spare(&mut self) -> bool {
        let Some(spare) = self.table.take_spare() else {
            return false;
        };
        let moved = Entry {
            real: spare,
            ..self.entry
        };
        self.ours = self.table.replace(self.entry, moved);
        if self.ours {
            self.entry = moved;
            return true;
        }
        self.table.return_spare(spare);
        match self.table.entry(self.entry.requested) {
            Some(theirs) => {
                self.entry = theirs;
                true
            }
            None => false,
        }
    }

    /// No port of ours would do: the kernel answers what the program asked.
    fn give_up(&mut self) -> Result<(), Errno> {
        self.clear_option();
        self.socket.bind(self.address)?;
        self.record(self.entry.requested);
        Ok(())
    }

    /// Makes known that the program has `real`, unless somebody has moved the entry elsewhere.
    fn record(&mut self, real: u16) {
        let bound = Entry {
            real,
            ..self.entry.bound()
        };
        if bound == self.entry {
            return;
        }
        if self.table.replace(self.entry, bound) {
            self.socket.wake_watcher(self.table);
            return;
        }
        // Somebody joined; it is still the same port.
        if let Some(now) = self.table.entry(bound.requested)
            && now.real == real
            && !now.bound
            && self.table.replace(now, now.bound())
        {
            self.socket.wake_watcher(self.table);
        }
    }

    fn set_option(&mut self) {
        if !self.option_set && !self.socket.reuses_address() {
            self.socket.reuse_address(true);
            self.option_set = true;
        }
    }

    fn clear_option(&mut self) {
        if self.option_set {
            self.socket.reuse_address(false);
            self.option_set = false;
        }
    }
}

#[cfg(test)]
mod tests;
