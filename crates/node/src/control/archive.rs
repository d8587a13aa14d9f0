//! Zip archives from strangers: checked entry by entry before the first byte is written, and unpacked with a
//! budget of real bytes.
//!
//! Nothing is written outside the target folder, for three reasons of which each would do: names are plain
//! relative paths, no entry lies below a link, and every file is made anew.

use super::ControlError;
use super::registry::Limits;
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

/// Unpacks `zip` into the existing, empty folder `into`. Files get mode 0644, or 0755 when anyone may execute
/// them, folders 0755, whatever the archive says.
pub(super) fn unpack(zip: &[u8], into: &Path, limits: &Limits) -> Result<(), ControlError> {
    let mut archive = open(zip, limits)?;
    let plan = plan(&mut archive, limits)?;
    let mut budget = limits.unzipped_bytes;
    let mut buffer = vec![0; 64 << 10];
    for (path, entry) in &plan {
        let target = into.join(path);
        match entry {
            Entry::Folder => make_folder(&target)?,
            Entry::Link(to) => symlink(to, &target).map_err(|error| disk(path, &error))?,
            Entry::File { index, executable } => {
                let mut source = archive.by_index(*index).map_err(|error| broken(&error))?;
                let mode = if *executable { 0o755 } else { 0o644 };
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&target);
                let mut file = file.map_err(|error| disk(path, &error))?;
                copy(&mut source, &mut file, &mut budget, &mut buffer, path, limits)?;
            }
        }
    }
    Ok(())
}

/// What an entry becomes on disk.
enum Entry {
    Folder,
    File { index: usize, executable: bool },
    Link(String),
}

fn open<'a>(zip: &'a [u8], limits: &Limits) -> Result<ZipArchive<Cursor<&'a [u8]>>, ControlError> {
    if zip.is_empty() {
        return Err(empty());
    }
    refuse_too_many(declared_entries(zip), limits)?;
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(|error| match error {
        // The library tells which of its structures it missed, which helps nobody who sent the wrong file.
        ZipError::InvalidArchive(_) => refused("it is not a zip archive, or a part of it is missing"),
        error => broken(&error),
    })?;
    if archive.is_empty() {
        return Err(empty());
    }
    refuse_too_many(archive.len() as u64, limits)?;
    if archive.has_duplicate_names() {
        refuse_files_named_twice(zip, archive.central_directory_start())?;
    }
    if archive.has_overlapping_entries().map_err(|error| broken(&error))? {
        return Err(refused("entries share the same bytes of the archive"));
    }
    Ok(archive)
}

fn refuse_too_many(entries: u64, limits: &Limits) -> Result<(), ControlError> {
    match entries > limits.package_entries as u64 {
        true => {
            Err(refused(format!("it has {entries} entries, at most {} are allowed", limits.package_entries)))
        }
        false => Ok(()),
    }
}

/// How many entries the archive says that it has, where that can be more than 65,535; zero otherwise. Its reader holds some
/// 400 bytes of each before it can be asked. It believes a record of the 64-bit form only if that ends where a locator
/// begins. Source: APPNOTE.TXT, sections 4.3.14 and 4.3.15.
fn declared_entries(zip: &[u8]) -> u64 {
    const BEFORE_THE_REST: usize = 12;
    let number = |at: usize| Some(u64::from_le_bytes(zip.get(at..at + 8)?.try_into().ok()?));
    let entries = |record: usize| {
        let rest = usize::try_from(number(record + 4)?).ok()?;
        let end = record.checked_add(BEFORE_THE_REST)?.checked_add(rest)?;
        zip.get(end..)?.starts_with(b"PK\x06\x07").then(|| number(record + 32)).flatten()
    };
    memmem::find_iter(zip, b"PK\x06\x06").filter_map(entries).max().unwrap_or(0)
}

/// The archive's reader keeps the last entry of each name and does not tell which names came twice. A folder
/// named twice is common and harmless; of a file, nobody can say which one was meant.
fn refuse_files_named_twice(zip: &[u8], directory: u64) -> Result<(), ControlError> {
    const HEADER: usize = 46;
    let mut seen = HashSet::new();
    let mut rest = usize::try_from(directory).ok().and_then(|start| zip.get(start..)).unwrap_or_default();
    while rest.starts_with(b"PK\x01\x02") && rest.len() >= HEADER {
        let length = |at: usize| usize::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
        let (name, extra, comment) = (length(28), length(30), length(32));
        let Some(name) = rest.get(HEADER..HEADER + name) else { break };
        if !seen.insert(name) && !name.ends_with(b"/") {
            return Err(refused(format!("it holds {:?} twice", String::from_utf8_lossy(name))));
        }
        rest = rest.get(HEADER + name.len() + extra + comment..).unwrap_or_default();
    }
    Ok(())
}

/// Every path to make, parents before children (which is the order of the map).
type Plan = BTreeMap<String, Entry>;

fn plan(archive: &mut ZipArchive<Cursor<&[u8]>>, limits: &Limits) -> Result<Plan, ControlError> {
    let mut plan = Plan::new();
    let mut declared: u64 = 0;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(|error| broken(&error))?;
        let Some((path, entry)) = classify(&mut file, index)? else { continue };
        declared = declared.saturating_add(file.size());
        if declared > limits.unzipped_bytes {
            return Err(too_large(limits));
        }
        let is_folder = matches!(entry, Entry::Folder);
        match plan.insert(path.clone(), entry) {
            None => {}
            // A folder named twice is common and harmless.
            Some(Entry::Folder) if is_folder => {}
            Some(_) => return Err(refused(format!("it holds {path:?} twice"))),
        }
    }
    add_parents(&mut plan, limits)?;
    check_links(&plan, limits)?;
    Ok(plan)
}

fn classify(
    file: &mut ZipFile<'_, Cursor<&[u8]>>,
    index: usize,
) -> Result<Option<(String, Entry)>, ControlError> {
    let path = plain_path(file.name_raw())?;
    if path.is_empty() {
        return Ok(None); // the folder itself, `./`
    }
    let mode = file.unix_mode().unwrap_or(0o644);
    let entry = match mode & 0o170_000 {
        _ if file.name_raw().ends_with(b"/") => Entry::Folder,
        0o040_000 => Entry::Folder,
        0o120_000 => Entry::Link(link_target(file, &path)?),
        0 | 0o100_000 => Entry::File { index, executable: mode & 0o111 != 0 },
        _ => return Err(refused(format!("{path:?} is a device, pipe or socket"))),
    };
    Ok(Some((path, entry)))
}

/// The longest path and the longest name that Linux takes.
const MAX_PATH: usize = 1_024;
const MAX_NAME: usize = 255;

/// An entry's name as a relative path without `.`, `..` and doubled separators; empty for the root.
fn plain_path(raw: &[u8]) -> Result<String, ControlError> {
    let Ok(name) = std::str::from_utf8(raw) else {
        return Err(refused(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(raw))));
    };
    let outside = || refused(format!("{name:?} points outside the package"));
    if name.starts_with('/') || name.get(1..3).is_some_and(|drive| drive == ":/" || drive == ":\\") {
        return Err(outside());
    }
    if name.contains('\\') {
        return Err(refused(format!(
            "{name:?} uses backslashes; separate folders with / (zip made by an old Windows tool?)"
        )));
    }
    if name.contains('\0') {
        return Err(refused(format!("the name {name:?} holds a zero byte")));
    }
    let mut path = String::with_capacity(name.len());
    for part in name.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(outside()),
            part if part.len() > MAX_NAME => {
                return Err(refused(format!("a name in {name:?} is longer than {MAX_NAME} bytes")));
            }
            part => {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(part);
            }
        }
    }
    match path.len() <= MAX_PATH {
        true => Ok(path),
        false => Err(refused(format!("the path {name:?} is longer than {MAX_PATH} bytes"))),
    }
}

fn link_target(file: &mut impl Read, path: &str) -> Result<String, ControlError> {
    let mut target = Vec::new();
    file.take(MAX_PATH as u64 + 1).read_to_end(&mut target).map_err(|error| broken(&error))?;
    match String::from_utf8(target) {
        Ok(target) if !target.is_empty() && target.len() <= MAX_PATH && !target.contains('\0') => Ok(target),
        _ => Err(refused(format!("the link {path:?} has no usable target"))),
    }
}

/// Archives need not name the folders that their files lie in.
fn add_parents(plan: &mut Plan, limits: &Limits) -> Result<(), ControlError> {
    let mut missing = BTreeSet::new();
    for path in plan.keys() {
        let mut parent = path.as_str();
        while let Some((above, _)) = parent.rsplit_once('/') {
            match plan.get(above) {
                None if missing.insert(above.to_owned()) => {}
                None | Some(Entry::Folder) => break,
                Some(_) => {
                    return Err(refused(format!("{path:?} lies below {above:?}, which is not a folder")));
                }
            }
            parent = above;
        }
        if missing.len() > limits.package_entries {
            return Err(refused(format!("it has more than {} folders", limits.package_entries)));
        }
    }
    plan.extend(missing.into_iter().map(|path| (path, Entry::Folder)));
    Ok(())
}

/// How many links one path may lead through, as in Linux.
const MAX_LINKS: usize = 40;

/// How many folders and links all links of a package may lead through, for each entry that it may have: most lead through
/// a handful, and some that were made for it through tens of thousands.
const STEPS_OF_LINKS: usize = 10;

/// Each link must lead to a place inside the package when it is followed as the kernel would, through other
/// links: `..` after a link goes up from where the link leads, so looking at the text alone does not do.
fn check_links(plan: &Plan, limits: &Limits) -> Result<(), ControlError> {
    let mut steps = STEPS_OF_LINKS * limits.package_entries;
    for (path, entry) in plan {
        let Entry::Link(target) = entry else { continue };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let leads_out = || {
            refused(format!(
                "the link {path:?} leads to {target:?}, outside the package; use a relative link to a place in it"
            ))
        };
        let mut place: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
        let mut todo: Vec<&str> = target.split('/').rev().collect();
        let mut links = 0;
        if target.starts_with('/') {
            return Err(leads_out());
        }
        while let Some(part) = todo.pop() {
            steps = steps.checked_sub(1).ok_or_else(|| refused("its links lead through too many folders"))?;
            match part {
                "" | "." => {}
                ".." => {
                    place.pop().ok_or_else(leads_out)?;
                }
                part => {
                    place.push(part);
                    let here = place.join("/");
                    if here.len() > MAX_PATH {
                        return Err(refused(format!(
                            "the link {path:?} leads to a path longer than {MAX_PATH} bytes"
                        )));
                    }
                    if let Some(Entry::Link(next)) = plan.get(&here) {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(refused(format!("the link {path:?} leads through too many links")));
                        }
                        if next.starts_with('/') {
                            return Err(leads_out());
                        }
                        place.pop();
                        todo.extend(next.split('/').rev());
                    }
                }
            }
        }
    }
    Ok(())
}

fn make_folder(target: &Path) -> Result<(), ControlError> {
    let path = target.display().to_string();
    fs::DirBuilder::new().mode(0o755).create(target).map_err(|error| disk(&path, &error))
}

/// Copies an entry's real bytes, whatever length it declares, as long as the budget lasts.
fn copy(
    source: &mut impl Read,
    file: &mut fs::File,
    budget: &mut u64,
    buffer: &mut [u8],
    path: &str,
    limits: &Limits,
) -> Result<(), ControlError> {
    loop {
        let n = source.read(buffer).map_err(|error| broken(&error))?;
        if n == 0 {
            return Ok(());
        }
        *budget = budget.checked_sub(n as u64).ok_or_else(|| too_large(limits))?;
        file.write_all(&buffer[..n]).map_err(|error| disk(path, &error))?;
    }
}

/// Lambda's words, then the reason.
fn refused(reason: impl std::fmt::Display) -> ControlError {
    ControlError::invalid(
        "ZipFile",
        format!(
            "Could not unzip uploaded file. Please check your file, then try to upload again. ({reason})"
        ),
    )
}

fn broken(error: &dyn std::fmt::Display) -> ControlError {
    refused(error)
}

fn empty() -> ControlError {
    ControlError::invalid("ZipFile", "Uploaded file must be a non-empty zip")
}

fn too_large(limits: &Limits) -> ControlError {
    ControlError::invalid(
        "ZipFile",
        format!("Unzipped size must be smaller than {} bytes", limits.unzipped_bytes),
    )
}

fn disk(path: &str, error: &std::io::Error) -> ControlError {
    ControlError::failed(format!("Cannot unpack {path:?} of the deployment package: {error}"))
}

#[cfg(test)]
mod tests;
