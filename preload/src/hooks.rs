//! The exported symbols and what surrounds them: the constructor and the table's mapping.
//!
//! Invariant: nothing here is done twice or waited for. Two threads (or a `vfork` child and its parent) that
//! look for the table at the same moment both map it; the slower one gives its mapping back.
#![expect(
    unsafe_code,
    reason = "exported C functions and the process's environment"
)]

use core::ffi::{c_char, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use styxy_protocol::table::{FILE_NAME, MAX_DIRECTORY_LEN, PortTable};

use crate::address::Address;
use crate::bind::{self, Errno};
use crate::environment::session_directory;
use crate::kernel::{self, Descriptor};

unsafe extern "C" {
    static environ: *const *const c_char;
    safe fn __errno_location() -> *mut c_int;
    /// Defined nowhere: a build with a panic left in it imports this name and fails the import gate.
    safe fn styxy_preload_must_not_panic() -> !;
}

/// `bind()` for every program that is linked dynamically.
///
/// # Safety
/// As the C function: `address` points to `len` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, address: *const c_void, len: u32) -> c_int {
    let socket = Descriptor(fd);
    // SAFETY: the caller's promise is the one that `read` asks for.
    let read = unsafe { Address::read(address, len) };
    let ours = read.and_then(|address| address.check_port().map(|()| address));
    let result = match (ours, table()) {
        (Ok(address), Some(table)) => bind::bind(&socket, table, &address),
        // SAFETY: the caller's promise, handed on.
        _ => unsafe { kernel::bind(socket, address, len) },
    };
    match result {
        Ok(()) => 0,
        Err(Errno(number)) => {
            // SAFETY: libc gives every thread an errno of its own.
            unsafe { __errno_location().write(number) };
            -1
        }
    }
}

/// Room for the directory, a slash, the file's name and the end of the string.
const PATH_LEN: usize = MAX_DIRECTORY_LEN + 1 + FILE_NAME.len() + 1;

/// Path of the table as a C string; empty in a process that no session's library path led to.
static PATH: [AtomicU8; PATH_LEN] = [const { AtomicU8::new(0) }; PATH_LEN];

/// Null: not looked for yet. [`absent`]: looked for, and not there.
static TABLE: AtomicPtr<PortTable> = AtomicPtr::new(null_mut());

fn absent() -> *mut PortTable {
    (&raw const TABLE).cast_mut().cast()
}

/// The session's table, mapped by the first call that needs it.
fn table() -> Option<&'static PortTable> {
    let known = TABLE.load(Ordering::Acquire);
    let table = if known.is_null() { find_table() } else { known };
    if table == absent() {
        return None;
    }
    // SAFETY: a whole mapping of the table's size, page-aligned, that is never undone; the table is made of
    // atomics, for which every bit pattern is valid.
    let table = unsafe { &*table };
    table.is_valid().then_some(table)
}

#[cold]
fn find_table() -> *mut PortTable {
    let mapped = match PATH.first() {
        Some(byte) if byte.load(Ordering::Relaxed) != 0 => {
            // SAFETY: the constructor left a string there that ends within the array, which starts all zero.
            unsafe { kernel::map_table(PATH.as_ptr().cast()) }
        }
        _ => None,
    };
    let found = mapped.unwrap_or(absent());
    match TABLE.compare_exchange(null_mut(), found, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => found,
        Err(theirs) => {
            if let Some(mapped) = mapped {
                // SAFETY: mapped above, and shown to nobody.
                unsafe { kernel::unmap_table(mapped) };
            }
            theirs
        }
    }
}

/// Runs before the program does. It takes no arguments: musl passes none.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = remember_session;

/// Copies the session's path out of the environment, which the program may overwrite later.
extern "C" fn remember_session() {
    // SAFETY: libc has set it, and no other thread runs yet that could change it.
    let mut variable = unsafe { environ };
    if variable.is_null() {
        return;
    }
    loop {
        // SAFETY: the environment is an array of pointers that ends with a null, which was not reached yet.
        let text = unsafe { variable.read() };
        if text.is_null() {
            return;
        }
        // SAFETY: every pointer of the environment leads to a C string.
        if let Some(value) = unsafe { value_of(text) } {
            remember(value);
            return;
        }
        // SAFETY: still inside the array, since its end was not reached.
        variable = unsafe { variable.add(1) };
    }
}

fn remember(ld_preload: &[u8]) {
    let Some(directory) = session_directory(ld_preload) else {
        return;
    };
    let path = directory.iter().chain(b"/").chain(FILE_NAME.as_bytes());
    for (slot, &byte) in PATH.iter().zip(path) {
        slot.store(byte, Ordering::Relaxed);
    }
}

/// The value, if `text` is `LD_PRELOAD=value`.
///
/// # Safety
/// `text` is a C string that lives and stays unchanged as long as the value is used.
unsafe fn value_of<'a>(text: *const c_char) -> Option<&'a [u8]> {
    let mut next = text.cast::<u8>();
    for &expected in b"LD_PRELOAD=" {
        // SAFETY: every byte before was not the string's end, as it equalled one of the name.
        let byte = unsafe { next.read() };
        if byte != expected {
            return None;
        }
        // SAFETY: the byte was not the string's end, so there is another.
        next = unsafe { next.add(1) };
    }
    let mut len = 0_usize;
    loop {
        // SAFETY: no byte before was the string's end.
        let end = unsafe { next.add(len) };
        // SAFETY: likewise, so this one is the string's as well.
        if unsafe { end.read() } == 0 {
            break;
        }
        len = len.wrapping_add(1);
    }
    // SAFETY: `len` bytes before the string's end were just read.
    Some(unsafe { core::slice::from_raw_parts(next, len) })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    styxy_preload_must_not_panic()
}
