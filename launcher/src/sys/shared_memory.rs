//! A port table in a file, mapped so that other processes see every change.
#![expect(unsafe_code, reason = "mmap has no safe wrapper")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use styxy_protocol::table::{FILE_LEN, PortTable};

/// A mapped table. It stays mapped after the file is closed or removed.
#[derive(Debug)]
pub(crate) struct SharedTable(NonNull<PortTable>);

// SAFETY: the table is made of atomics, and the mapping belongs to no thread.
unsafe impl Send for SharedTable {}
// SAFETY: all access to the table goes through its atomics.
unsafe impl Sync for SharedTable {}

impl SharedTable {
    /// Maps `file`, which is open for reading and writing and has [`FILE_LEN`] bytes. Nobody may shorten it later.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < FILE_LEN as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new mapping where the kernel finds room; it replaces none.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                FILE_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(Self)
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

impl Deref for SharedTable {
    type Target = PortTable;

    fn deref(&self) -> &PortTable {
        // SAFETY: the mapping is page-aligned, larger than a table, lives as long as `self`, and every bit
        // pattern is a table.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedTable {
    fn drop(&mut self) {
        // SAFETY: the whole mapping that `map` made; every reference to it borrows `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), FILE_LEN) };
    }
}
