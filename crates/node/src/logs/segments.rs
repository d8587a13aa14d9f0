//! A function's log on disk: a few files of JSON lines, of which the oldest goes when a new one is begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Segments that what is kept is divided into.
const SEGMENTS: u64 = 4;

/// The newest segment of a function's log, open for appending.
pub struct Segment {
    dir: PathBuf,
    /// Bytes of all segments together.
    kept: u64,
    number: u64,
    file: File,
    length: u64,
}

impl Segment {
    /// The newest segment in `dir`, or the first. All segments together are kept to `kept` bytes.
    pub fn open(dir: PathBuf, kept: u64) -> io::Result<Segment> {
        std::fs::create_dir_all(&dir)?;
        let newest = list(&dir).last().and_then(|path| number(path)).unwrap_or(1);
        let (file, length) = open_at_a_line(&path(&dir, newest))?;
        let mut segment = Segment { dir, kept, number: newest, file, length };
        if segment.room() == 0 {
            segment.next()?;
        }
        Ok(segment)
    }

    /// Bytes that still fit in.
    pub fn room(&self) -> u64 {
        (self.kept / SEGMENTS).saturating_sub(self.length)
    }

    /// Appends whole lines.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Goes on with a new segment, after old ones have made room for it.
    pub fn next(&mut self) -> io::Result<()> {
        let paths = list(&self.dir);
        let lengths = paths.iter().map(|path| path.metadata().map_or(0, |meta| meta.len()));
        let mut held: u64 = lengths.clone().sum();
        for (path, length) in paths.iter().zip(lengths) {
            if held + self.kept / SEGMENTS <= self.kept {
                break;
            }
            std::fs::remove_file(path)?;
            held -= length;
        }
        self.number += 1;
        (self.file, self.length) = open_at_a_line(&path(&self.dir, self.number))?;
        Ok(())
    }
}

/// A function's segments, oldest first.
pub fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(|path| number(path).is_some()).collect();
    paths.sort();
    paths
}

/// Opens for appending, and gives the length. A server that was killed may have left half a line at the end: what
/// follows begins on a line of its own.
pub fn open_at_a_line(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.ndjson"))
}

fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}
