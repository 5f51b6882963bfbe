//! A MariaDB server of the test's own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use tempfile::TempDir;

use super::process::{Account, Process, START, folder, program, run, said};
use super::skip;

pub struct Mariadb {
    server: PathBuf,
    account: Account,
    settings: Vec<String>,
    process: Option<Process>,
    folder: TempDir,
}

impl Mariadb {
    /// One for all tests of this process that leave it as it is, each in a database of its own.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Mariadb>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::find(&[]))
            .as_ref()
            .or_else(|| skip("there is no MariaDB, or nobody to run it as"))
    }

    /// One of the test's own, with these settings.
    pub fn own(settings: &[&str]) -> Option<Self> {
        Self::find(settings).or_else(|| skip("there is no MariaDB, or nobody to run it as"))
    }

    fn find(settings: &[&str]) -> Option<Self> {
        let folders = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
        let server = program(&folders, &["mariadbd"])?;
        let install = program(&folders, &["mariadb-install-db"])?;
        let account = Account::find(&["mysql", "nobody"])?;
        let settings = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        let mut new = Self {
            server,
            account,
            settings,
            process: None,
            folder: folder(account),
        };
        run(account
            .command(&install)
            .args([
                "--no-defaults",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ])
            .args(new.storage()));
        new.start();
        Some(new)
    }

    fn storage(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        vec![
            format!("--datadir={folder}/data"),
            // Two that start at once must not meet in a common one.
            format!("--tmpdir={folder}"),
            "--innodb-log-file-size=32M".to_owned(),
            "--innodb-data-file-path=ibdata1:8M:autoextend".to_owned(),
        ]
    }

    pub fn start(&mut self) {
        let log = self.folder.path().join("log");
        let begun = Instant::now();
        while begun.elapsed() < START {
            let mut command = self.account.command(&self.server);
            command
                .arg("--no-defaults")
                .args(self.storage())
                .arg(format!("--socket={}", self.socket().display()))
                .arg(format!("--pid-file={}/pid", self.folder.path().display()))
                .args([
                    "--skip-networking",
                    "--skip-name-resolve",
                    "--innodb-buffer-pool-size=128M",
                ])
                .args(["--max-allowed-packet=64M", "--max-connections=100"])
                .args(&self.settings);
            let mut process = Process::start(command, &log, self.folder.path());
            let opts = self.opts(None);
            if process.wait_until(&log, || Conn::new(opts.clone()).is_ok()) {
                self.process = Some(process);
                return;
            }
        }
        panic!("MariaDB does not start: {}", said(&log));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// The socket, for a proxy.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Over the socket.
    pub fn opts(&self, database: Option<&str>) -> Opts {
        let socket = self.socket().display().to_string();
        OptsBuilder::new()
            .socket(Some(socket))
            .user(Some("root"))
            .db_name(database)
            .into()
    }

    /// A new database, and a connection to it.
    pub fn database(&self, name: &str) -> (Opts, Conn) {
        let mut admin = Conn::new(self.opts(None)).expect("the server answers");
        admin
            .query_drop(format!("CREATE DATABASE {name}"))
            .expect("a new database");
        let opts = self.opts(Some(name));
        let conn = Conn::new(opts.clone()).expect("the server answers");
        (opts, conn)
    }

    /// Makes a folder the server's own.
    pub fn own_folder(&self, folder: &Path) {
        self.account.own(folder).expect("its owner");
    }
}
