//! Real programs under the preload library, beside the same programs without it.
//!
//! Ports: the requested one is held by the test itself or was free a moment ago, and all of them lie below the
//! kernel's ephemeral range, so that no connection of another test takes one by chance.

mod sandbox;

use std::fs;
use std::path::Path;

use styxy_protocol::table::Entry;

use super::SessionPlan;
use sandbox::{Sandbox, free_port, has_ipv6, hold, hook, lines, program};

const EVERYWHERE: [&str; 4] = ["127.0.0.1", "0.0.0.0", "::1", "::"];

/// Breaks the table at a path.
type Damage = fn(&Path);

/// What the table says of a port that nobody foresaw, once a program has it.
fn learned(requested: u16, real: u16) -> Entry {
    Entry {
        real,
        ..Entry::attempt(requested)
    }
    .bound()
}

#[test]
fn a_server_comes_up_elsewhere_whichever_address_its_port_is_held_on() {
    let Some(sandbox) = Sandbox::new(8) else {
        return;
    };
    for holder in EVERYWHERE {
        for server in EVERYWHERE {
            if !has_ipv6() && (holder.contains(':') || server.contains(':')) {
                continue;
            }
            let (_held, port) = hold(holder);
            let session = sandbox.session();
            let output = lines(sandbox.python(&session, &format!("bind('{server}', {port})")));
            assert_eq!(
                output,
                [sandbox.spare(0).to_string()],
                "held on {holder}, server on {server}"
            );
            assert_eq!(
                session.table().entry(port),
                Some(learned(port, sandbox.spare(0)))
            );
        }
    }
}

#[test]
fn a_free_port_is_used_as_it_is_and_made_known() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let session = sandbox.session();
    let port = free_port();
    let output = lines(sandbox.python(&session, &format!("bind('127.0.0.1', {port})")));
    assert_eq!(output, [port.to_string()]);
    assert_eq!(session.table().entry(port), Some(learned(port, port)));
}

#[test]
fn both_halves_of_a_server_meet_on_one_port() {
    if !has_ipv6() {
        return;
    }
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, port) = hold("0.0.0.0");
    let session = sandbox.session();
    let spare = sandbox.spare(0).to_string();
    let script = format!("a = bind('::', {port}, v6only=1)\nb = bind('0.0.0.0', {port})");
    assert_eq!(lines(sandbox.python(&session, &script)), [&*spare, &*spare]);
}

#[test]
fn a_restarted_server_keeps_its_port() {
    let Some(sandbox) = Sandbox::new(3) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let script = format!("bind('127.0.0.1', {port}, reuse=0)");
    for _ in 0..3 {
        let output = lines(sandbox.python(&session, &script));
        assert_eq!(output, [sandbox.spare(0).to_string()]);
    }
}

#[test]
fn a_second_server_of_the_run_is_refused_as_it_would_be_without_us() {
    let Some(sandbox) = Sandbox::new(3) else {
        return;
    };
    let session = sandbox.session();
    let (_held, taken) = hold("0.0.0.0");
    let spare = sandbox.spare(0);
    for (port, real) in [(free_port(), None), (taken, Some(spare))] {
        let script = format!(
            "a = bind('127.0.0.1', {port})\n\
             child(\"bind('127.0.0.1', {port})\")\n\
             child(\"bind('127.0.0.1', {port}, reuse=0)\")"
        );
        let first = real.unwrap_or(port).to_string();
        assert_eq!(
            lines(sandbox.python(&session, &script)),
            [&*first, "EADDRINUSE", "EADDRINUSE"]
        );
    }
}

#[test]
fn a_pinned_port_is_bound_under_the_hold_that_keeps_it() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, taken) = hold("127.0.0.1");
    let leased = free_port();
    let hold = sandbox::soft_hold(leased);
    let session = sandbox.session_with(&SessionPlan {
        pinned: vec![sandbox::pin(taken, leased), sandbox::pin(leased, leased)],
        ..sandbox.plan()
    });
    for port in [taken, leased] {
        // Without SO_REUSEADDR of its own, and twice: a restart finds the hold again.
        let script = format!("bind('0.0.0.0', {port}, reuse=0)");
        let output = lines(sandbox.python(&session, &script));
        assert_eq!(output, [leased.to_string()], "asked for {port}");
    }
    drop(hold);
}

#[test]
fn a_pinned_port_that_a_stranger_took_first_is_given_up() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    for (stranger, server) in [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::1")] {
        if !has_ipv6() && server.contains(':') {
            continue;
        }
        let (_stranger, leased) = hold(stranger);
        let session = sandbox.session_with(&SessionPlan {
            pinned: vec![sandbox::pin(leased, leased)],
            ..sandbox.plan()
        });
        let output = lines(sandbox.python(&session, &format!("bind('{server}', {leased})")));
        assert_eq!(output, [sandbox.spare(0).to_string()], "{server}");
    }
}

#[test]
fn what_is_not_ours_behaves_as_without_us() {
    let Some(sandbox) = Sandbox::new(4) else {
        return;
    };
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = udp.local_addr().unwrap().port();
    let free = free_port();
    let unix = sandbox.path("socket");
    let script = format!(
        "bind('127.0.0.1', {taken}, kind=socket.SOCK_DGRAM, reuse=0)\n\
         bind('127.0.0.1', {free}, kind=socket.SOCK_DGRAM)\n\
         u = socket.socket(socket.AF_UNIX); u.bind('{}'); print(u.getsockname() == '{}')\n\
         z = bind('127.0.0.1', 0, quiet=1); print(z.getsockname()[1] > 0)\n\
         bind('192.0.2.1', {free})\n",
        unix.display(),
        unix.display()
    );
    let session = sandbox.session();
    let hooked = lines(sandbox.python(&session, &script));
    fs::remove_file(&unix).unwrap();
    let bare = lines(sandbox.bare_python(&script));
    assert_eq!(hooked, bare);
    assert_eq!(
        hooked,
        [
            "EADDRINUSE",
            &*free.to_string(),
            "True",
            "True",
            "EADDRNOTAVAIL"
        ]
    );
}

#[test]
fn errno_and_the_callers_memory_are_left_alone() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, taken) = hold("127.0.0.1");
    let session = sandbox.session();
    let script = format!(
        "def raw(fd, address, length=16):\n\
         \x20   before = bytes(address)\n\
         \x20   ctypes.set_errno(77)\n\
         \x20   result = libc.bind(fd, address, length)\n\
         \x20   print(result, ctypes.get_errno(), bytes(address) == before)\n\
         s = socket.socket()\n\
         v4 = bytearray(struct.pack('=H', 2) + struct.pack('!H', {taken}) + bytes([127, 0, 0, 1]) + bytes(8))\n\
         v4 = (ctypes.c_char * 16).from_buffer(v4)\n\
         raw(s.fileno(), v4)\n\
         raw(s.fileno(), v4)\n\
         raw(-1, v4)\n\
         t = socket.socket(); raw(t.fileno(), v4, 8)\n\
         raw(os.open('/dev/null', os.O_RDONLY), v4)\n\
         ctypes.set_errno(77)\n\
         print(libc.bind(s.fileno(), None, 16), ctypes.get_errno())\n"
    );
    let hooked = lines(sandbox.python(&session, &script));
    let expected = [
        "0 77 True",  // moved: a success leaves errno as it was
        "-1 22 True", // EINVAL: bound already
        "-1 9 True",  // EBADF
        "-1 22 True", // EINVAL: too short
        "-1 88 True", // ENOTSOCK
        "-1 14",      // EFAULT
    ];
    assert_eq!(hooked, expected);
    let bare = lines(sandbox.bare_python(&script));
    assert_eq!(bare[0], "-1 98 True");
    assert_eq!(bare[2..], expected[2..]);
}

#[test]
fn no_descriptor_stays_open() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let script = format!(
        "s = socket.socket()\n\
         before = os.listdir('/proc/self/fd')\n\
         s.bind(('127.0.0.1', {port}))\n\
         print(before == os.listdir('/proc/self/fd'), s.getsockname()[1])"
    );
    let output = lines(sandbox.python(&session, &script));
    assert_eq!(output, [format!("True {}", sandbox.spare(0))]);
}

#[test]
fn without_a_sound_table_the_kernel_answers() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let script = format!("bind('127.0.0.1', {port})\nbind('127.0.0.1', {port})");
    let damages: [(&str, Damage); 5] = [
        ("missing", |table| fs::remove_file(table).unwrap()),
        ("short", |table| fs::write(table, "STXY").unwrap()),
        ("empty", |table| fs::write(table, "").unwrap()),
        ("garbage", |table| fs::write(table, [0xa5; 4096]).unwrap()),
        ("a directory", |table| {
            fs::remove_file(table).unwrap();
            fs::create_dir(table).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let session = sandbox.session();
        let table = session.directory().join("tab");
        // A copy with the same name, since the session's own mapping must not be cut short.
        let copy = sandbox.copy_of(&session);
        damage(&copy.join("tab"));
        let output = lines(sandbox.python_from(&copy, &script));
        assert_eq!(output, ["EADDRINUSE", "EADDRINUSE"], "{name}");
        assert!(table.exists());
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn garbage_entries_lead_to_an_answer_all_the_same() {
    let Some(sandbox) = Sandbox::new(1) else {
        return;
    };
    let session = sandbox.session();
    let copy = sandbox.copy_of(&session);
    let mut table = fs::read(copy.join("tab")).unwrap();
    // Everything after the header: spares, entries, the rest of the page.
    table[16..].fill(0xff);
    fs::write(copy.join("tab"), table).unwrap();
    let port = free_port();
    let script = format!("bind('127.0.0.1', {port})");
    let output = lines(sandbox.python_from(&copy, &script));
    assert_eq!(output, [port.to_string()]);
}

#[test]
fn a_child_started_by_vfork_is_covered() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    // CPython starts children by vfork where it can.
    let script = format!("child(\"bind('127.0.0.1', {port})\")\nbind('127.0.0.1', {port})");
    let spare = sandbox.spare(0).to_string();
    assert_eq!(lines(sandbox.python(&session, &script)), [&*spare, &*spare]);
}

#[test]
fn bind_between_vfork_and_exec_harms_neither_process() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let Some(binary) = sandbox.compile_c(include_str!("programs/vfork.c")) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let mut command = program(&binary);
    command.arg(port.to_string());
    hook(&mut command, session.directory());
    let spare = sandbox.spare(0);
    assert_eq!(
        lines(command),
        [format!("child {spare}"), format!("parent {spare}")]
    );
}

#[test]
fn threads_that_bind_at_once_agree_on_one_port() {
    let Some(sandbox) = Sandbox::new(8) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let script = format!(
        "import threading\n\
         gate = threading.Barrier(8); ports = []\n\
         def work():\n\
         \x20   s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n\
         \x20   gate.wait(); s.bind(('127.0.0.1', {port})); s.listen(); ports.append(s)\n\
         threads = [threading.Thread(target=work) for _ in range(8)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         print(len(ports), len({{s.getsockname()[1] for s in ports}}))"
    );
    assert_eq!(lines(sandbox.python(&session, &script)), ["8 1"]);
    let entry = session.table().entry(port).expect("an entry");
    assert!(entry.bound && sandbox.is_spare(entry.real), "{entry:?}");
}

#[test]
fn node_comes_up_elsewhere_and_says_where() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let Some(node) = sandbox::find("node") else {
        eprintln!("skipped: there is no node");
        return;
    };
    if !has_ipv6() {
        return;
    }
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let mut command = program(&node);
    command.arg("-e").arg(format!(
        "const s = require('http').createServer((q, r) => r.end('ours'));
         s.listen({port}, () => {{
           const p = s.address().port;
           require('http').get({{ port: p, host: '::1' }}, r => {{
             r.setEncoding('utf8'); r.on('data', t => {{ console.log(p, t); s.close(); }});
           }});
         }});"
    ));
    hook(&mut command, session.directory());
    assert_eq!(lines(command), [format!("{} ours", sandbox.spare(0))]);
}

#[test]
fn the_launcher_hears_of_a_moved_port() {
    let Some(sandbox) = Sandbox::new(2) else {
        return;
    };
    let (_held, port) = hold("127.0.0.1");
    let session = sandbox.session();
    let mut watcher = session.watch();
    let waiting = std::thread::spawn(move || watcher.wait());
    lines(sandbox.python(&session, &format!("bind('127.0.0.1', {port})")));
    let news = waiting.join().unwrap();
    assert_eq!(news, Some(vec![learned(port, sandbox.spare(0))]));
}
