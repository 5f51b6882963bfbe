//! The rows that every way writes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A row of `readings`.
pub struct Reading {
    pub id: i64,
    pub value: f64,
    pub text: String,
}

/// Makes the first `count` rows one by one, so that no way needs them all in memory.
pub fn readings(count: usize) -> impl Iterator<Item = Reading> {
    (0..count as i64).map(|id| Reading {
        id,
        value: id as f64 / 4.0,
        text: format!("reading number {id}"),
    })
}

/// Writes the same rows as a file for the loaders.
pub fn write_csv(path: &Path, count: usize) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for row in readings(count) {
        writeln!(out, "{},{},{}", row.id, row.value, row.text)?;
    }
    out.flush()
}
