//! Where what training runs made lies: in a folder beside the unpacked package that it belongs to. It goes with the
//! package, and is trusted as long as that: until the machine restarts.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is kept of a package goes by these names behind the package's own.
const SUFFIXES: [&str; 2] = [crate::class_archive::SUFFIX, crate::compile_cache::SUFFIX];
/// Of one package that are kept: for functions, handlers, runtimes, and options that differ.
const KEPT: usize = 16;

/// The place beside the package `code` that is called `key`.
pub fn place(code: &Path, suffix: &str, key: u64) -> PathBuf {
    let mut shelf = code.as_os_str().to_owned();
    shelf.push(suffix);
    PathBuf::from(shelf).join(format!("{key:016x}"))
}

/// Moves what was made in the folder `made` to its `place`, and takes away what was made long before.
pub fn put(made: &Path, place: &Path) -> io::Result<()> {
    let shelf = place.parent().ok_or(io::ErrorKind::NotFound)?;
    // Nobody would sweep what belongs to no package.
    if !shelf.with_extension("").is_dir() {
        return Err(io::Error::other("the package is gone"));
    }
    std::fs::create_dir_all(shelf)?;
    open_to_all(shelf)?;
    clear(place)?;
    std::fs::rename(made, place)?;
    forget_the_oldest(shelf)
}

/// Removes a folder, if it is there.
pub fn clear(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The function's user must be able to read it, whatever the server's umask.
pub fn open_to_all(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => open_to_all(&path)?,
            false => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?,
        }
    }
    Ok(())
}

fn forget_the_oldest(shelf: &Path) -> io::Result<()> {
    by_age(shelf).iter().rev().skip(KEPT).try_for_each(|path| clear(path))
}

/// Takes away of what was made for the packages in a folder until no more than `most` bytes are left: each time the oldest
/// of the package that takes most, so that whoever makes much loses its own and not that of those who make little.
pub fn make_room(packages: &Path, most: u64) -> io::Result<()> {
    let ours =
        |path: &PathBuf| SUFFIXES.iter().any(|suffix| path.extension() == Some(OsStr::new(&suffix[1..])));
    let with_sizes = |shelf: PathBuf| -> VecDeque<(u64, PathBuf)> {
        by_age(&shelf).into_iter().map(|made| (size(&made), made)).collect()
    };
    let mut shelves: Vec<_> = inside(packages).into_iter().filter(ours).map(with_sizes).collect();
    let taken = |shelf: &VecDeque<(u64, PathBuf)>| shelf.iter().map(|(size, _)| size).sum::<u64>();
    while shelves.iter().map(taken).sum::<u64>() > most {
        let oldest = shelves.iter_mut().max_by_key(|shelf| taken(shelf)).and_then(VecDeque::pop_front);
        let Some((_, oldest)) = oldest else { return Ok(()) };
        clear(&oldest)?;
    }
    Ok(())
}

/// What was made for one package, oldest first.
fn by_age(shelf: &Path) -> Vec<PathBuf> {
    let made = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified());
    let mut all = inside(shelf);
    all.sort_by_cached_key(|path| (made(path).unwrap_or(SystemTime::UNIX_EPOCH), path.clone()));
    all
}

/// The bytes of all files below a folder.
pub fn size(dir: &Path) -> u64 {
    let of = |path: PathBuf| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => size(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    inside(dir).into_iter().map(of).sum()
}

fn inside(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn of_a_package_a_few_are_kept_and_none_when_it_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let code = dir.path().join("code");
        std::fs::create_dir(&code).expect("made");
        let make = |n: u64, suffix: &str| {
            let made = dir.path().join("made");
            std::fs::create_dir_all(made.join("v22")).expect("made");
            std::fs::write(made.join("v22/file"), "1234567").expect("written");
            // Their age decides, whatever the clock's resolution.
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n + 1);
            File::open(&made).and_then(|folder| folder.set_modified(at)).expect("set");
            put(&made, &place(&code, suffix, n))
        };
        for n in 0..KEPT as u64 + 2 {
            make(n, SUFFIXES[0]).expect("put");
        }
        make(1, SUFFIXES[1]).expect("put");
        let left = |suffix: &str| {
            let shelf = dir.path().join(format!("code{suffix}"));
            let name = |path: PathBuf| path.file_name().expect("named").to_string_lossy().into_owned();
            let mut left: Vec<String> = inside(&shelf).into_iter().map(name).collect();
            left.sort();
            left.iter().map(|name| name.trim_start_matches('0').to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!([left(SUFFIXES[0]), left(SUFFIXES[1])], ["2 3 4 5 6 7 8 9 a b c d e f 10 11", "1"]);
        // What another package takes is less than that: it stays.
        let other = dir.path().join("other");
        std::fs::create_dir_all(place(&other, SUFFIXES[0], 1)).expect("made");
        std::fs::write(place(&other, SUFFIXES[0], 1).join("file"), "1234567890").expect("written");
        make_room(dir.path(), 17 * 7 + 10).expect("there is room");
        assert_eq!(left(SUFFIXES[0]).split(' ').count(), KEPT);
        make_room(dir.path(), 4 * 7 + 10).expect("made");
        assert_eq!([left(SUFFIXES[0]), left(SUFFIXES[1])], ["f 10 11", "1"]);
        assert_eq!(size(dir.path()), 4 * 7 + 10);
        clear(&code).expect("cleared");
        assert_eq!(make(9, SUFFIXES[0]).expect_err("gone").to_string(), "the package is gone");
    }
}
