//! A tree of files in its own folder, the example that walks it, and its table as another program
//! reads it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

pub fn example() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| testkit::example::binary("file_index"))
}

/// A separate folder for each test, with the tree in it and the database next to the tree.
pub struct Tree {
    pub folder: TempDir,
    pub root: PathBuf,
    pub db: PathBuf,
}

impl Tree {
    pub fn new(files: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let (root, db) = (folder.path().join("tree"), folder.path().join("x.db"));
        fs::create_dir(&root).unwrap();
        let tree = Self { folder, root, db };
        files
            .iter()
            .for_each(|name| tree.write(OsStr::new(name), name));
        tree
    }

    pub fn write(&self, name: &OsStr, content: &str) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(example());
        command
            .arg(&self.root)
            .arg("--db")
            .arg(&self.db)
            .args(options)
            .current_dir(&self.folder);
        command
    }

    /// Runs it and asserts its exit code. Returns its output on stdout and on stderr.
    #[track_caller]
    pub fn run(&self, options: &[&str], code: i32) -> (String, String) {
        ended(self.command(options).output().unwrap(), code)
    }

    /// Asserts that the table has exactly one row for each file that the tree has now.
    #[track_caller]
    pub fn assert_indexed(&self) {
        let mut expected = BTreeMap::new();
        find(&self.root, &mut expected);
        let rows = rows(
            &self.db,
            "SELECT CAST(path AS BLOB), size_bytes, modified_unix_ns FROM files",
        );
        let found: BTreeMap<Vec<u8>, (i64, i64)> = rows
            .iter()
            .map(|row| match &row[..] {
                [
                    Value::Blob(path),
                    Value::Integer(size),
                    Value::Integer(modified),
                ] => (path.clone(), (*size, *modified)),
                row => panic!("{row:?}"),
            })
            .collect();
        assert_eq!(found.len(), rows.len());
        let missing: Vec<_> = expected
            .keys()
            .filter(|path| !found.contains_key(*path))
            .map(|path| shown(path))
            .collect();
        let surplus: Vec<_> = found
            .keys()
            .filter(|path| !expected.contains_key(*path))
            .map(|path| shown(path))
            .collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "missing {missing:?}, surplus {surplus:?}"
        );
        assert_eq!(found, expected);
    }
}

/// The files that `find DIR -type f` prints, with size and modification time. It does not use the
/// walker of the example.
fn find(dir: &Path, files: &mut BTreeMap<Vec<u8>, (i64, i64)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            find(&path, files);
        } else if metadata.is_file() {
            let modified = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
            files.insert(
                path.as_os_str().as_bytes().to_vec(),
                (metadata.len() as i64, modified),
            );
        }
    }
}

pub fn rows(db: &Path, query: &str) -> Vec<Vec<Value>> {
    let connection = Connection::open(db).unwrap();
    let mut query = connection.prepare(query).unwrap();
    let columns = query.column_count();
    query
        .query_map([], |row| {
            (0..columns).map(|column| row.get(column)).collect()
        })
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn ended(output: Output, code: i32) -> (String, String) {
    let (stdout, stderr) = (shown(&output.stdout), shown(&output.stderr));
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout: {stdout}\nstderr: {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// Asserts that the output is one line that contains `about`.
#[track_caller]
pub fn assert_one_line(output: Output, about: &str) {
    let (stdout, stderr) = ended(output, 2);
    assert_eq!(stdout, "");
    assert!(
        stderr.starts_with("file_index: ") && stderr.contains(about),
        "{about:?} in {stderr:?}"
    );
    assert!(
        stderr.ends_with('\n') && stderr.lines().count() == 1,
        "{stderr:?}"
    );
}
