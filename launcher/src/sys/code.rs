//! The program's own code in memory.
#![expect(unsafe_code, reason = "madvise, and the linker's own names")]

/// Larger than or equal to every page size that it has to be a multiple of.
const PAGE: usize = 64 << 10;

unsafe extern "C" {
    /// Where the linker has put the program's first byte.
    #[link_name = "__executable_start"]
    static START: u8;
    /// What follows its last instruction.
    #[link_name = "etext"]
    static END: u8;
}

/// Lets go of the code that was needed until now: it is in the page cache, and what is needed once more comes back from there.
///
/// A launcher lives as long as its command and does next to nothing meanwhile, as a daemon does. Between the two names there is nothing that
/// anybody writes to: relocated data lies behind the code.
pub(crate) fn let_go() {
    let (start, end) = (&raw const START, &raw const END);
    let start = start.map_addr(|start| start.next_multiple_of(PAGE));
    let length = end.addr().saturating_sub(start.addr()) / PAGE * PAGE;
    // SAFETY: pages of a file that are mapped for reading only come back as they were.
    unsafe {
        libc::madvise(start.cast_mut().cast(), length, libc::MADV_DONTNEED);
    }
}
