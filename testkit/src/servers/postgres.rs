//! A PostgreSQL server of the test's own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

use super::process::{Account, Process, START, folder, program, run, said};
use super::skip;

pub struct Postgres {
    binaries: PathBuf,
    account: Account,
    settings: Vec<String>,
    process: Option<Process>,
    folder: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.quit();
        }
    }
}

impl Postgres {
    /// One for all tests of this process that leave it as it is, each in a database of its own.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::find(&[]).map(Self::started))
            .as_ref()
            .or_else(|| skip("there is no PostgreSQL, or nobody to run it as"))
    }

    /// One of the test's own, with these settings.
    pub fn own(settings: &[&str]) -> Option<Self> {
        Self::find(settings)
            .map(Self::started)
            .or_else(|| skip("there is no PostgreSQL, or nobody to run it as"))
    }

    fn find(settings: &[&str]) -> Option<Self> {
        // Debian keeps one folder a version and none of them in the path; the newest first.
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten();
        let mut versions: Vec<PathBuf> = versions.map(|version| version.path()).collect();
        versions.sort_by(|a, b| version(b).total_cmp(&version(a)));
        let folders: Vec<PathBuf> = versions.iter().map(|version| version.join("bin")).collect();
        let binaries = program(&folders, &["postgres"])?.parent()?.to_owned();
        let account = Account::find(&["postgres", "nobody"])?;
        let mut settings: Vec<String> = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        if binaries
            .parent()
            .is_some_and(|folder| version(folder) >= 14.0)
        {
            // What was killed begins with an fsync of each of its thousand files: on a slow disk
            // that takes a minute.
            settings.push("recovery_init_sync_method=syncfs".to_owned());
        }
        Some(Self {
            binaries,
            account,
            settings,
            process: None,
            folder: folder(account),
        })
    }

    fn started(mut self) -> Self {
        let data = self.folder.path().join("data");
        run(self
            .account
            .command(&self.binaries.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
            ]));
        self.start();
        self
    }

    /// Starts it, again if need be: the shared memory of one that was killed may take a moment to
    /// go.
    pub fn start(&mut self) {
        let log = self.folder.path().join("log");
        let begun = Instant::now();
        while begun.elapsed() < START {
            let mut command = self.account.command(&self.binaries.join("postgres"));
            command
                .arg("-D")
                .arg(self.folder.path().join("data"))
                .arg("-k")
                .arg(self.folder.path());
            let common = [
                "listen_addresses=",
                "shared_buffers=64MB",
                "max_connections=64",
                "dynamic_shared_memory_type=mmap",
                "max_parallel_workers=0",
                // Nobody starts in the middle of a measurement.
                "autovacuum=off",
                "max_wal_size=2GB",
            ];
            for setting in common
                .into_iter()
                .chain(self.settings.iter().map(String::as_str))
            {
                command.args(["-c", setting]);
            }
            let mut process = Process::start(command, &log, self.folder.path());
            let config = self.config("postgres");
            if process.wait_until(&log, || config.connect(NoTls).is_ok()) {
                self.process = Some(process);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("PostgreSQL does not start: {}", said(&log));
    }

    /// SIGKILL to the server and all its backends.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// Over the socket.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.folder.path())
            .user("postgres")
            .dbname(database)
            .connect_timeout(Duration::from_secs(5));
        config
    }

    /// The socket, for a proxy.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// A new database, and a connection to it.
    pub fn database(&self, name: &str) -> (Config, Client) {
        let mut admin = self
            .config("postgres")
            .connect(NoTls)
            .expect("the server answers");
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a new database");
        let config = self.config(name);
        let client = config.connect(NoTls).expect("the server answers");
        (config, client)
    }

    /// Makes a folder the server's own.
    pub fn own_folder(&self, folder: &Path) {
        self.account.own(folder).expect("its owner");
    }
}

/// The number that a folder is named after; 0 if it is none.
fn version(folder: &Path) -> f64 {
    folder
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0.0)
}
