//! A row, and how a file name becomes a value of SQLite without losing a byte.
//!
//! A name that is UTF-8 is stored as TEXT, as it is. Any other name is stored as a BLOB of its
//! bytes. SQLite never holds a TEXT and a BLOB for equal, whatever their bytes, so two files never
//! share a key, and nothing needs an escape: `CAST(path AS BLOB)` is the exact name of every file,
//! `typeof(path)` says which kind it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

pub struct Row {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// `None` where the file system keeps no time, or one that 64 bits of nanoseconds do not reach
    /// (1677 to 2262).
    pub modified_unix_ns: Option<i64>,
    pub blake3: Option<blake3::Hash>,
}

/// A name as SQLite stores it.
pub struct Name<'a>(pub &'a OsStr);

impl<'a> Name<'a> {
    pub fn of(path: &'a Path) -> Self {
        Self(path.as_os_str())
    }
}

impl ToSql for Name<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let bytes = self.0.as_encoded_bytes();
        let value = if self.0.to_str().is_some() {
            ValueRef::Text(bytes)
        } else {
            ValueRef::Blob(bytes)
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// The name back from its value, if this system can have such a name.
pub fn path_of(value: ValueRef<'_>) -> Option<PathBuf> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).ok().map(PathBuf::from),
        #[cfg(unix)]
        ValueRef::Blob(bytes) => Some(PathBuf::from(
            <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes),
        )),
        _ => None,
    }
}

/// A path for people: on one line, whatever is in its name.
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// The same text without control characters.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
