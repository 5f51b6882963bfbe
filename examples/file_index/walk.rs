//! The producers: threads that walk the tree and add one row for each regular file.
//!
//! They find what `find DIR -type f` prints, under the same names: hidden files too, no ignore
//! rules, symbolic links not followed (but DIR itself may be one). What vanishes under their hands
//! or cannot be read is noted and does not stop them. A refused add means that the batcher is
//! closed, and ends the walk.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::UNIX_EPOCH;

use ignore::{DirEntry, WalkBuilder, WalkState};
use load_aware_batcher::Producer;

use crate::Event;
use crate::row::{Row, shown};

/// How many of the files in trouble are named.
const NAMED: usize = 10;
const HASH_BUFFER_BYTES: usize = 128 * 1024;

/// What the walkers came across. Each number stands alone, so Relaxed will do; the end of the
/// walk's thread orders them.
#[derive(Default)]
pub struct Findings {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    /// Found in a directory, gone a moment later.
    pub vanished: AtomicU64,
    /// Files or directories that could not be read.
    pub unreadable: AtomicU64,
    /// The first of both, with the reason.
    pub named: Mutex<Vec<String>>,
    /// Rows that walkers have or had in their hands, less those that the handler has taken: the
    /// queue and who waits for it.
    pub backlog: AtomicU64,
}

impl Findings {
    /// Whether every file under DIR was seen.
    pub fn complete(&self) -> bool {
        self.vanished.load(Relaxed) + self.unreadable.load(Relaxed) == 0
    }

    fn note(&self, path: Option<&Path>, error: &io::Error) {
        let kind = if error.kind() == ErrorKind::NotFound {
            &self.vanished
        } else {
            &self.unreadable
        };
        kind.fetch_add(1, Relaxed);
        let mut named = self.named.lock().expect("nothing panics under it");
        if named.len() < NAMED {
            named.push(format!("{}: {error}", path.map_or("?".into(), shown)));
        }
    }
}

/// Whether DIR can be walked at all.
pub fn check(dir: &Path) -> Result<(), String> {
    fs::read_dir(dir)
        .map(drop)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("{}: no such directory", shown(dir)),
            ErrorKind::NotADirectory => format!("{}: is not a directory", shown(dir)),
            _ => format!("{}: {error}", shown(dir)),
        })
}

/// Begins the walk; it says [`Event::Walked`] at its end, also should it panic.
pub fn begin(
    dir: &Path,
    threads: usize,
    walker: Walker,
    sender: Sender<Event>,
) -> io::Result<JoinHandle<()>> {
    let mut builder = WalkBuilder::new(dir);
    builder
        .standard_filters(false)
        .follow_links(false)
        .threads(threads);
    thread::Builder::new().name("walk".into()).spawn(move || {
        let _at_end = SendAtEnd(sender);
        builder.build_parallel().run(|| {
            let (walker, mut buffer) = (walker.clone(), Vec::new());
            Box::new(move |entry| walker.visit(entry, &mut buffer))
        });
    })
}

struct SendAtEnd(Sender<Event>);

impl Drop for SendAtEnd {
    fn drop(&mut self) {
        // Nobody listens any more if the main thread has given up on the walk.
        let _ = self.0.send(Event::Walked);
    }
}

/// What each walker thread has a copy of.
#[derive(Clone)]
pub struct Walker {
    pub producer: Producer<Row>,
    pub findings: Arc<Findings>,
    pub hash: bool,
    /// The database's own journals, which come and go while it is written.
    pub journals: Arc<[PathBuf]>,
}

impl Walker {
    fn visit(&self, entry: Result<DirEntry, ignore::Error>, buffer: &mut Vec<u8>) -> WalkState {
        if self.producer.is_closed() {
            return WalkState::Quit;
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                self.note(&error, None);
                return WalkState::Continue;
            }
        };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) || self.is_journal(entry.path()) {
            return WalkState::Continue;
        }
        match entry.metadata() {
            // It may be something else by now.
            Ok(metadata) if !metadata.is_file() => WalkState::Continue,
            Ok(metadata) => self.file(entry.into_path(), &metadata, buffer),
            Err(error) => {
                self.note(&error, Some(entry.path()));
                WalkState::Continue
            }
        }
    }

    fn file(&self, path: PathBuf, metadata: &Metadata, buffer: &mut Vec<u8>) -> WalkState {
        let hashed = if self.hash {
            self.blake3(&path, buffer)
        } else {
            Ok(None)
        };
        let blake3 = match hashed {
            Ok(hash) => hash,
            Err(error) => {
                self.findings.note(Some(&path), &error);
                if error.kind() == ErrorKind::NotFound {
                    return WalkState::Continue;
                }
                // It is there: it has its row, without a hash.
                None
            }
        };
        self.findings.files.fetch_add(1, Relaxed);
        self.findings.bytes.fetch_add(metadata.len(), Relaxed);
        self.findings.backlog.fetch_add(1, Relaxed);
        let row = Row {
            path,
            size_bytes: metadata.len(),
            modified_unix_ns: modified(metadata),
            blake3,
        };
        match self.producer.add(row) {
            Ok(()) => WalkState::Continue,
            Err(_closed) => WalkState::Quit,
        }
    }

    /// The hash of the file's content; `None` if the batcher is closed meanwhile, for then nobody
    /// wants it.
    fn blake3(&self, path: &Path, buffer: &mut Vec<u8>) -> io::Result<Option<blake3::Hash>> {
        buffer.resize(HASH_BUFFER_BYTES, 0);
        let (mut file, mut hasher) = (File::open(path)?, blake3::Hasher::new());
        while !self.producer.is_closed() {
            match file.read(buffer) {
                Ok(0) => return Ok(Some(hasher.finalize())),
                Ok(bytes) => drop(hasher.update(&buffer[..bytes])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Compares names first: few files are called like a journal, and only those are worth a check
    /// at their directory.
    fn is_journal(&self, path: &Path) -> bool {
        self.journals
            .iter()
            .any(|journal| path.file_name() == journal.file_name())
            && path
                .parent()
                .and_then(|parent| parent.canonicalize().ok())
                .is_some_and(|parent| {
                    self.journals.iter().any(|journal| {
                        journal.parent() == Some(&parent) && journal.file_name() == path.file_name()
                    })
                })
    }

    fn note(&self, error: &ignore::Error, path: Option<&Path>) {
        let path = path.or_else(|| path_in(error));
        match error.io_error() {
            Some(error) => self.findings.note(path, error),
            None => self
                .findings
                .note(path, &io::Error::other(error.to_string())),
        }
    }
}

fn path_in(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            path_in(err)
        }
        _ => None,
    }
}

fn modified(metadata: &Metadata) -> Option<i64> {
    let modified = metadata.modified().ok()?;
    match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos())
            .ok()
            .map(|ns| -ns),
    }
}
