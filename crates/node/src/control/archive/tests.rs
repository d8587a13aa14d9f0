use super::{open, plan, unpack};
use crate::control::Limits;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An entry as it stands in the archive, whatever it claims.
#[derive(Clone, Debug)]
struct Item {
    name: Vec<u8>,
    /// Unix mode with file type.
    mode: u32,
    data: Vec<u8>,
    method: u16,
    flags: u16,
    /// Length that the headers declare, when it is not the data's.
    declared: Option<u32>,
    /// Made on Windows: without a Unix mode.
    dos: bool,
}

fn file(name: &str, data: &str) -> Item {
    let (name, data) = (name.as_bytes().to_vec(), data.as_bytes().to_vec());
    Item { name, mode: 0o100_644, data, method: 0, flags: 0, declared: None, dos: false }
}

fn with_mode(mode: u32, name: &str) -> Item {
    Item { mode, ..file(name, "x") }
}

fn link(name: &str, target: &str) -> Item {
    Item { mode: 0o120_777, ..file(name, target) }
}

fn folder(name: &str) -> Item {
    Item { mode: 0o040_755, ..file(name, "") }
}

/// A zip of these entries, each byte as told.
fn zip(items: &[Item]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for item in items {
        let offset = body.len() as u32;
        let mut crc = flate2_crc(&item.data).to_le_bytes().to_vec();
        crc.extend((item.data.len() as u32).to_le_bytes());
        crc.extend(item.declared.unwrap_or(item.data.len() as u32).to_le_bytes());
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes()); // version needed
        common.extend(item.flags.to_le_bytes());
        common.extend(item.method.to_le_bytes());
        common.extend([0, 0, 0x21, 0]); // 1980-01-01
        common.extend(crc);
        common.extend((item.name.len() as u16).to_le_bytes());
        common.extend([0, 0]); // no extra field
        body.extend(b"PK\x03\x04");
        body.extend(&common);
        body.extend(&item.name);
        body.extend(&item.data);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, if item.dos { 0 } else { 3 }]);
        directory.extend(&common);
        directory.extend([0; 6]); // no comment, first disk, no internal attributes
        directory.extend((if item.dos { 0x20 } else { item.mode << 16 }).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&item.name);
    }
    let start = body.len() as u32;
    body.extend(&directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend((items.len() as u16).to_le_bytes());
    body.extend((items.len() as u16).to_le_bytes());
    body.extend((directory.len() as u32).to_le_bytes());
    body.extend(start.to_le_bytes());
    body.extend([0, 0]);
    body
}

fn flate2_crc(data: &[u8]) -> u32 {
    data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    }) ^ !0
}

fn limits() -> Limits {
    Limits { unzipped_bytes: 1_000, package_entries: 20, ..Limits::default() }
}

/// What unpacking comes to: the tree (`path mode content`, `path -> target`, `path/`) or the refusal.
fn check(zip: &[u8]) -> String {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir(&root).unwrap();
    let outcome = unpack(zip, &root, &limits());
    let beside: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["root"], "something was written outside");
    match outcome {
        Ok(()) => {
            let mut lines = Vec::new();
            tree(&root, "", &mut lines);
            lines.sort();
            lines.join("\n")
        }
        Err(error) => error.to_string(),
    }
}

fn tree(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            lines.push(format!("{path} -> {}", fs::read_link(entry.path()).unwrap().display()));
        } else if metadata.is_dir() {
            assert_eq!(mode, 0o755, "{path}");
            lines.push(format!("{path}/"));
            tree(&entry.path(), &format!("{path}/"), lines);
        } else {
            let content = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            lines.push(format!("{path} {mode:o} {content}"));
        }
    }
}

#[test]
fn a_package_is_unpacked_with_modes_that_every_user_can_read() {
    let unpacked = check(&zip(&[
        with_mode(0o100_600, "private.py"),
        with_mode(0o100_700, "bootstrap"),
        with_mode(0o106_755, "setuid"),
        with_mode(0o100_000, "none"),
        with_mode(0, "untyped"),
        folder("lib/"),
        folder("lib/"),
        file("./lib//deep/er.py", "x"),
        Item { dos: true, ..file("windows.txt", "x") },
        file("A.py", "x"),
        file("a.py", "x"),
        file("ünï.py", "x"),
        link("lib/up", "../bootstrap"),
        link("here", "."),
        link("dangling", "lib/nothing"),
    ]));
    let expected = "A.py 644 x
a.py 644 x
bootstrap 755 x
dangling -> lib/nothing
here -> .
lib/
lib/deep/
lib/deep/er.py 644 x
lib/up -> ../bootstrap
none 644 x
private.py 644 x
setuid 755 x
untyped 644 x
windows.txt 644 x
ünï.py 644 x";
    assert_eq!(unpacked, expected);
}

#[test]
fn a_package_compressed_by_others_is_unpacked() {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default();
    writer.start_file("zeros", deflated).unwrap();
    writer.write_all("0".repeat(500).as_bytes()).unwrap();
    writer.start_file("large", deflated.large_file(true)).unwrap();
    writer.write_all(b"zip64").unwrap();
    let unpacked = check(&writer.finish().unwrap().into_inner());
    assert_eq!(unpacked, format!("large 644 zip64\nzeros 644 {}", "0".repeat(500)));
}

#[test]
fn each_hostile_archive_is_refused_with_its_reason() {
    let long_name = "n".repeat(256);
    let long_path = "d/".repeat(600) + "f";
    let many: Vec<Item> = (0..21).map(|n| file(&n.to_string(), "")).collect();
    let links: Vec<Item> = (0..15)
        .map(|n| link(&format!("l{n}"), &format!("l{0}/l{0}/l{0}/l{0}", n + 1)))
        .chain([link("l15", ".")])
        .collect();
    let good = zip(&[file("a.py", "x = 1")]);
    let middle = good.len() / 2;
    let mut wrong_sum = good.clone();
    wrong_sum[34] ^= 1; // the first byte of a.py
    let mut shared_bytes = zip(&[file("a", "x"), file("b", "x")]);
    let second = shared_bytes.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    shared_bytes[second + 42] = 0; // the offset of b
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("an absolute path", zip(&[file("/etc/passwd", "x")]), "\"/etc/passwd\" points outside the package"),
        ("a parent", zip(&[file("../evil", "x")]), "\"../evil\" points outside the package"),
        ("a parent within", zip(&[file("a/../../evil", "x")]), "\"a/../../evil\" points outside the package"),
        ("even a harmless parent", zip(&[file("a/../b", "x")]), "\"a/../b\" points outside the package"),
        ("a drive", zip(&[file("c:/evil", "x")]), "\"c:/evil\" points outside the package"),
        ("a drive, backslashed", zip(&[file("C:\\evil", "x")]), "\"C:\\\\evil\" points outside the package"),
        (
            "backslashes",
            zip(&[file("..\\evil", "x")]),
            "\"..\\\\evil\" uses backslashes; separate folders with / (zip made by an old Windows tool?)",
        ),
        ("a zero byte", zip(&[file("a\0b", "x")]), "the name \"a\\0b\" holds a zero byte"),
        (
            "no UTF-8",
            zip(&[Item { name: vec![b'a', 0xff], ..file("", "x") }]),
            "the name \"a\u{fffd}\" is not UTF-8",
        ),
        (
            "a long name",
            zip(&[file(&long_name, "x")]),
            &format!("a name in {long_name:?} is longer than 255 bytes"),
        ),
        (
            "a long path",
            zip(&[file(&long_path, "x")]),
            &format!("the path {long_path:?} is longer than 1024 bytes"),
        ),
        ("a file twice", zip(&[file("a", "x"), file("a", "y")]), "it holds \"a\" twice"),
        ("a file twice in disguise", zip(&[file("a", "x"), file(".//a", "y")]), "it holds \"a\" twice"),
        ("a file and a folder", zip(&[file("a", "x"), folder("a/")]), "it holds \"a\" twice"),
        (
            "a file as a folder",
            zip(&[file("a", "x"), file("a/b", "y")]),
            "\"a/b\" lies below \"a\", which is not a folder",
        ),
        (
            "a link as a folder",
            zip(&[link("a", "/etc"), file("a/passwd", "y")]),
            "\"a/passwd\" lies below \"a\", which is not a folder",
        ),
        (
            "a link to an absolute path",
            zip(&[link("a", "/etc/passwd")]),
            "the link \"a\" leads to \"/etc/passwd\", outside the package; use a relative link to a place in it",
        ),
        (
            "a link out",
            zip(&[link("d/a", "../../x")]),
            "the link \"d/a\" leads to \"../../x\", outside the package; use a relative link to a place in it",
        ),
        (
            "a link out through a link",
            zip(&[link("a/b/c", "../.."), link("out", "a/b/c/../x")]),
            "the link \"out\" leads to \"a/b/c/../x\", outside the package; use a relative link to a place in it",
        ),
        ("a link to itself", zip(&[link("a", "a")]), "the link \"a\" leads through too many links"),
        ("links that multiply", zip(&links), "the link \"l0\" leads through too many links"),
        ("a link to nothing", zip(&[link("a", "")]), "the link \"a\" has no usable target"),
        (
            "a long link",
            zip(&[link("a", &"x".repeat(900)), link("b", &"y".repeat(1_025))]),
            "the link \"b\" has no usable target",
        ),
        ("a device", zip(&[with_mode(0o020_666, "null")]), "\"null\" is a device, pipe or socket"),
        ("a pipe", zip(&[with_mode(0o010_666, "pipe")]), "\"pipe\" is a device, pipe or socket"),
        ("a socket", zip(&[with_mode(0o140_666, "socket")]), "\"socket\" is a device, pipe or socket"),
        ("too many entries", zip(&many), "it has 21 entries, at most 20 are allowed"),
        (
            "too many folders",
            zip(&[file("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z", "x")]),
            "it has more than 20 folders",
        ),
        ("too large", zip(&[file("a", &"x".repeat(1_001))]), "SIZE"),
        ("too large in parts", zip(&[file("a", &"x".repeat(600)), file("b", &"x".repeat(600))]), "SIZE"),
        ("a bomb", bomb(10_000, None), "SIZE"),
        (
            "a bomb that understates itself",
            bomb(10_000, Some(10)),
            "File is larger than its declared uncompressed size",
        ),
        (
            "encrypted",
            zip(&[Item { flags: 1, ..file("a", "0123456789abc") }]),
            "unsupported Zip archive: Password required to decrypt file",
        ),
        (
            "an unknown method",
            zip(&[Item { method: 99, ..file("a", "x") }]),
            "compression method not supported: 99",
        ),
        ("entries that share bytes", shared_bytes, "entries share the same bytes of the archive"),
        ("a wrong checksum", wrong_sum, "Invalid checksum"),
        ("half of it", good[..middle].to_vec(), "it is not a zip archive, or a part of it is missing"),
        ("its second half", good[middle..].to_vec(), "it is not a zip archive, or a part of it is missing"),
        (
            "not a zip",
            b"#!/bin/sh\necho hello\n".to_vec(),
            "it is not a zip archive, or a part of it is missing",
        ),
    ];
    for (what, archive, reason) in rows {
        let expected = match *reason {
            "SIZE" => "Unzipped size must be smaller than 1000 bytes".to_owned(),
            reason => format!(
                "Could not unzip uploaded file. Please check your file, then try to upload again. ({reason})"
            ),
        };
        assert_eq!(check(archive), expected, "{what}");
    }
    let empty = "Uploaded file must be a non-empty zip";
    assert_eq!(check(b""), empty);
    assert_eq!(check(&zip(&[])), empty);
}

/// An archive of `entries` folders in the 64-bit form: more than the other can hold.
fn many_folders(entries: u64) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for n in 0..entries {
        let name = format!("{n:x}/");
        let length = (name.len() as u16).to_le_bytes();
        let local = bytes.len() as u32;
        bytes.extend(b"PK\x03\x04\x0a\0\0\0\0\0\0\0\x21\0");
        bytes.extend([0; 12]);
        bytes.extend([length[0], length[1], 0, 0]);
        bytes.extend(name.as_bytes());
        directory.extend(b"PK\x01\x02\x0a\0\x0a\0\0\0\0\0\0\0\x21\0");
        directory.extend([0; 12]);
        directory.extend([length[0], length[1]]);
        directory.extend([0; 12]);
        directory.extend(local.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length) = (bytes.len() as u64, directory.len() as u64);
    bytes.extend(directory);
    let record = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    bytes.extend([entries, entries, length, start].map(u64::to_le_bytes).concat());
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(record.to_le_bytes());
    bytes.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0");
    bytes.extend([0xff; 12]);
    bytes.extend([0, 0]);
    bytes
}

/// What becomes of an archive with the limits that servers have, before anything of it is written.
fn judge(zip: &[u8]) -> Result<usize, String> {
    judge_by(zip, Limits::default())
}

fn judge_by(zip: &[u8], limits: Limits) -> Result<usize, String> {
    let planned = open(zip, &limits).and_then(|mut archive| plan(&mut archive, &limits));
    planned.map(|plan| plan.len()).map_err(|error| error.to_string())
}

#[test]
fn an_archive_of_too_many_entries_is_refused_before_they_are_read() {
    // Whoever reads them finds that they are none.
    let mut archive = many_folders(100_001);
    let record = archive.windows(4).rposition(|bytes| bytes == b"PK\x06\x06").unwrap();
    archive[..record].fill(0);
    let error = judge(&archive).unwrap_err();
    assert!(error.contains("it has 100001 entries, at most 100000 are allowed"), "{error}");
}

#[test]
fn as_many_entries_as_are_allowed_are_taken_whatever_form_tells_of_them() {
    assert_eq!(judge(&many_folders(70_000)), Ok(70_000));
}

#[test]
fn folders_that_an_archive_does_not_name_count_once() {
    let files: Vec<Item> = (0..21_000).map(|n| file(&format!("a/b/c/d/e/{n}"), "")).collect();
    assert_eq!(judge(&zip(&files)), Ok(21_005));
}

#[test]
fn links_that_lead_through_each_other_are_not_followed_for_long() {
    let deep = "d/".repeat(250);
    let one = |n: usize| match n % 40 {
        0 => link(&format!("l{n}"), &deep),
        _ => link(&format!("l{n}"), &format!("l{}/../{}x{n}", n - 1, "../d/".repeat(200))),
    };
    let items: Vec<Item> = (0..5_000).map(one).collect();
    let error = judge_by(&zip(&items), Limits { package_entries: 5_000, ..Limits::default() }).unwrap_err();
    assert!(error.contains("its links lead through too many folders"), "{error}");
    let items: Vec<Item> = (0..30)
        .map(|n| link(&format!("l{n}"), &format!("l{}/{deep}", n + 1)))
        .chain([link("l30", ".")])
        .collect();
    let error = judge(&zip(&items)).unwrap_err();
    assert!(error.contains("leads to a path longer than 1024 bytes"), "{error}");
}

/// `length` zeros, deflated; the declared length changed to `claim` in both headers.
fn bomb(length: usize, claim: Option<u32>) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("bomb", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(&vec![0; length]).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    if let Some(claim) = claim {
        let real = (length as u32).to_le_bytes();
        let places: Vec<usize> = (0..bytes.len() - 3).filter(|at| bytes[*at..at + 4] == real).collect();
        assert_eq!(places.len(), 2, "one length in each header");
        places.iter().for_each(|at| bytes[*at..at + 4].copy_from_slice(&claim.to_le_bytes()));
    }
    bytes
}

/// Paths made of what an attacker would try.
fn path(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(parts), 1..5).prop_map(|parts| parts.join("/"))
}

fn item(names: &'static [&'static str], targets: &'static [&'static str]) -> impl Strategy<Value = Item> {
    (path(names), path(targets), 0..4).prop_map(|(name, target, kind)| match kind {
        0 | 1 => link(&name, &target),
        2 => folder(&format!("{name}/")),
        _ => file(&name, "x"),
    })
}

const ODD: &[&str] = &["a", "b", "c", "..", ".", "", "c:", "\\", "a\\..\\b", "/"];
const PLAIN: &[&str] = &["a", "b"];
const TARGETS: &[&str] = &["a", "b", "..", "..", "."];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the names are: `check` asserts that nothing is written outside.
    #[test]
    fn no_entry_escapes(items in prop::collection::vec(item(ODD, ODD), 1..8)) {
        check(&zip(&items));
    }

    /// However links are chained: those that lead to something lead inside. Above the folder there is something
    /// with every name to be led to.
    #[test]
    fn no_link_escapes(items in prop::collection::vec(item(PLAIN, TARGETS), 2..8)) {
        let outside = tempfile::tempdir().unwrap();
        PLAIN.iter().for_each(|name| fs::create_dir_all(outside.path().join(name).join("a")).unwrap());
        let root = outside.path().join("root");
        fs::create_dir(&root).unwrap();
        if unpack(&zip(&items), &root, &limits()).is_ok() {
            every_link_stays_inside(&root, &root);
        }
    }

    /// Bytes that look like a zip, damaged anywhere: an error or a tree, never a panic or an escape.
    #[test]
    fn a_damaged_archive_is_an_error_at_worst(
        items in prop::collection::vec(item(ODD, ODD), 1..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = zip(&items);
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
    }
}

fn every_link_stays_inside(dir: &Path, root: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_symlink() {
            if let Ok(real) = fs::canonicalize(&path) {
                assert!(real.starts_with(root), "{} leads to {}", path.display(), real.display());
            }
        } else if metadata.is_dir() {
            every_link_stays_inside(&path, root);
        }
    }
}
