//! The dead-letter file: every line that did not become a row, with the reason, to be read, mended
//! and sent again.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use load_aware_batcher::Failed;

use super::row::Row;

/// One line a dead letter: kind, reason, the row as it was read, with tabs in between. Kinds:
/// `malformed`, `failed`, `in-doubt` (check whether it is stored before you send it again) and
/// `unsent`.
#[derive(Clone)]
pub struct DeadLetters(Arc<Mutex<Open>>);

struct Open {
    file: File,
    written: u64,
    lost: u64,
}

impl DeadLetters {
    /// Opens the file, at its end.
    ///
    /// # Errors
    /// It cannot be opened for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(Open {
            file,
            written: 0,
            lost: 0,
        }))))
    }

    /// Writes one at once: a crash loses none.
    pub fn write(&self, kind: &str, reason: &dyn Display, line: &dyn Display) {
        let reason = reason.to_string().replace(['\t', '\n'], " ");
        let mut open = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match open
            .file
            .write_all(format!("{kind}\t{reason}\t{line}\n").as_bytes())
        {
            Ok(()) => open.written += 1,
            // Nowhere left to keep it: at least it is said and counted.
            Err(error) => {
                open.lost += 1;
                eprintln!("{kind}\t{reason}\t{line}\n(and the dead-letter file: {error})");
            }
        }
    }

    /// For `on_failed`.
    pub fn failed(&self, failed: &Failed<Row>) {
        let kind = if failed.in_doubt {
            "in-doubt"
        } else {
            "failed"
        };
        self.write(kind, &failed.error, &failed.item);
    }

    /// How many were written and how many could not be.
    pub fn counts(&self) -> (u64, u64) {
        let open = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        (open.written, open.lost)
    }
}
