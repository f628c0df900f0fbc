//! What the preload library may ask of the programs that it is loaded into. One undefined symbol too many, and
//! every program of every run would fail to start somewhere.

use std::collections::BTreeSet;

use object::elf::{DT_NEEDED, PT_LOAD, PT_TLS};
use object::read::elf::{Dyn, ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use super::image::IMAGE;

/// Every symbol that the library replaces.
const HOOKS: [&str; 1] = ["bind"];
/// Both in glibc and in musl, in every version.
const MAY_IMPORT: [&str; 3] = ["__errno_location", "environ", "dlsym"];
/// Bytes of the whole file.
const MAX_LEN: usize = 12 * 1024;

fn library() -> Option<ElfFile64<'static>> {
    let expected = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    assert_eq!(
        !IMAGE.is_empty(),
        expected,
        "whether this target has a library"
    );
    if IMAGE.is_empty() {
        return None;
    }
    Some(ElfFile64::parse(IMAGE).expect("the image is a 64-bit ELF file"))
}

fn segments(library: &ElfFile64<'_>, kind: u32) -> usize {
    library
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(Endianness::Little) == kind)
        .count()
}

#[test]
fn it_imports_nothing_that_some_libc_lacks() {
    let Some(library) = library() else { return };
    let imported: BTreeSet<&str> = library
        .dynamic_symbols()
        .filter(ObjectSymbol::is_undefined)
        .map(|symbol| symbol.name().expect("a name"))
        .filter(|name| !name.is_empty())
        .collect();
    let allowed = BTreeSet::from(MAY_IMPORT);
    let surplus: Vec<_> = imported.difference(&allowed).collect();
    assert!(surplus.is_empty(), "undefined symbols: {surplus:?}");
    assert!(imported.contains("environ"), "the gate sees symbols at all");
}

#[test]
fn it_exports_the_hooks_and_nothing_else() {
    let Some(library) = library() else { return };
    let exported: BTreeSet<&str> = library
        .dynamic_symbols()
        .filter(|symbol| !symbol.is_undefined() && !symbol.is_local())
        .map(|symbol| symbol.name().expect("a name"))
        .collect();
    assert_eq!(exported, BTreeSet::from(HOOKS));
}

#[test]
fn it_needs_no_other_library_and_no_thread_local_storage() {
    let Some(library) = library() else { return };
    let mut entries = 0;
    for header in library.elf_program_headers() {
        let Ok(Some(dynamic)) = header.dynamic(Endianness::Little, IMAGE) else {
            continue;
        };
        for entry in dynamic {
            entries += 1;
            assert_ne!(entry.d_tag(Endianness::Little), DT_NEEDED);
        }
    }
    assert!(entries > 0, "the gate sees the dynamic section at all");
    assert_eq!(segments(&library, PT_TLS), 0);
}

#[test]
fn it_is_small_and_quick_to_map() {
    let Some(library) = library() else { return };
    assert!(IMAGE.len() <= MAX_LEN, "{} bytes", IMAGE.len());
    let load = segments(&library, PT_LOAD);
    assert!((1..=2).contains(&load), "{load} segments");
}
