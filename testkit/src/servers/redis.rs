//! A Redis server of the test's own, with every write on the disk before its answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Account, Process, folder, program, said};
use super::skip;

pub struct Redis {
    server: PathBuf,
    account: Account,
    settings: Vec<String>,
    process: Option<Process>,
    folder: TempDir,
}

impl Redis {
    /// One of the test's own, with these settings.
    pub fn own(settings: &[&str]) -> Option<Self> {
        Self::find(settings).or_else(|| skip("there is no Redis, or nobody to run it as"))
    }

    fn find(settings: &[&str]) -> Option<Self> {
        let folders = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
        let server = program(&folders, &["redis-server"])?;
        let account = Account::find(&["redis", "nobody"])?;
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        let mut new = Self {
            server,
            account,
            settings,
            process: None,
            folder: folder(account),
        };
        new.start();
        Some(new)
    }

    pub fn start(&mut self) {
        let log = self.folder.path().join("log");
        let mut command = self.account.command(&self.server);
        command.args(["--port", "0", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--unixsocket"]);
        command
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path());
        command.args(&self.settings);
        let mut process = Process::start(command, &log, self.folder.path());
        let up = process.wait_until(&log, || self.answers());
        assert!(up, "Redis does not start: {}", said(&log));
        self.process = Some(process);
    }

    /// Whether it has read its files and answers.
    fn answers(&self) -> bool {
        let ping = || {
            let mut stream = UnixStream::connect(self.socket()).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            stream.write_all(b"PING\r\n").ok()?;
            let mut answer = [0];
            stream.read_exact(&mut answer).ok()?;
            // An error, such as while it loads its files, or for want of a login.
            (answer == *b"+" || !self.settings.is_empty()).then_some(())
        };
        ping().is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Over the socket.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}
