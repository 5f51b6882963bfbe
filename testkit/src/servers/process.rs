//! A server as a child process: its account, its folder, its signals, its end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::not_permitted;

/// How long a server may take to start or to go. A net, not a measure.
pub const START: Duration = Duration::from_secs(120);

/// Whom the server runs as: servers refuse to run as root.
#[derive(Clone, Copy)]
pub struct Account(Option<(u32, u32)>);

impl Account {
    /// The first of these users that there is and that we may become, if we are root; ourselves
    /// otherwise.
    pub fn find(names: &[&str]) -> Option<Self> {
        if fs::metadata("/proc/self").ok()?.uid() != 0 {
            return Some(Self(None));
        }
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let of = |name: &str| {
            let fields: Vec<&str> = passwd
                .lines()
                .map(|l| l.split(':').collect())
                .find(|f: &Vec<_>| f[0] == name)?;
            Some(Self(Some((
                fields.get(2)?.parse().ok()?,
                fields.get(3)?.parse().ok()?,
            ))))
        };
        names
            .iter()
            .filter_map(|name| of(name))
            .find(|account| account.may_be_had())
    }

    /// Root in a container may have to stay root.
    fn may_be_had(self) -> bool {
        let owned = self.own(temporary().path());
        owned.is_ok()
            && self
                .command(Path::new("true"))
                .status()
                .is_ok_and(|status| status.success())
    }

    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Makes a folder this account's own.
    pub fn own(self, folder: &Path) -> io::Result<()> {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        self.0
            .map_or(Ok(()), |(uid, gid)| chown(folder, Some(uid), Some(gid)))
    }
}

/// Not where `TMPDIR` says: a socket's name has 107 bytes at most, and the server's account must
/// get there.
fn temporary() -> TempDir {
    tempfile::Builder::new()
        .prefix("batcher-")
        .tempdir_in("/tmp")
        .expect("a temporary folder")
}

/// A folder of the account's own.
pub fn folder(account: Account) -> TempDir {
    let folder = temporary();
    account.own(folder.path()).expect("its owner");
    folder
}

/// The first of these programs that there is.
pub fn program(folders: &[PathBuf], names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .collect::<Vec<_>>();
    names
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)))
        .find(|found| found.is_file())
}

/// Runs a command to its end; panics with what it said if it fails.
pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
}

/// A running server.
pub struct Process {
    child: Child,
    /// Ends the server if this process ends without having done so: by a signal, or because the
    /// server is in a static.
    guard: Child,
}

impl Process {
    /// Starts it; `log` is written anew.
    pub fn start(mut command: Command, log: &Path, folder: &Path) -> Self {
        let log = File::create(log).expect("the server's log");
        command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Its standard input ends when this process does, however that happens. SIGQUIT: PostgreSQL
        // then takes its children along; MariaDB ends in order. Ctrl-C is meant for this process,
        // and the guard has to outlive it.
        let script = "trap '' HUP INT TERM; cat >/dev/null; kill -QUIT $1; kill -CONT $1; n=0
            while kill -0 $1 && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done; kill -9 $1; rm -rf \"$2\"";
        let guard = Command::new("sh")
            .args(["-c", script, "guard", &child.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Self { child, guard }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`; false if the server has ended instead.
    pub fn wait_until(&mut self, log: &Path, mut ready: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        while !ready() {
            if self.child.try_wait().expect("our own child").is_some() {
                return false;
            }
            assert!(
                begun.elapsed() < START,
                "the server does not answer: {}",
                said(log)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// The server's own process and its children.
    pub fn family(&self) -> Vec<u32> {
        let mut family = vec![self.pid()];
        let parent_of = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name before may contain anything.
            stat.rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse::<u32>()
                .ok()
        };
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        family.extend(pids.filter(|pid| parent_of(*pid) == Some(self.pid())));
        family
    }

    /// Sends a signal to the server and its children, the server first. Returns whom.
    pub fn signal(&self, signal: &str) -> Vec<u32> {
        let family = self.family();
        // A child may be gone by now.
        let _ = Command::new("sh")
            .args([
                "-c",
                "signal=$1; shift; for pid; do kill -s $signal $pid; done",
                "kill",
                signal,
            ])
            .args(family.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
        family
    }

    /// The end by SIGKILL, as a power cut would be for the server, though not for the disk.
    pub fn kill(mut self) {
        self.end();
    }

    /// The end by SIGQUIT, also from a freeze: PostgreSQL leaves no shared memory behind then, of
    /// which a system has only so many.
    pub fn quit(mut self) {
        self.signal("QUIT");
        self.signal("CONT");
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop_forking();
            let family = self.signal("KILL");
            let _ = self.child.wait();
            // A child in the middle of an fsync dies only when the disk is done.
            let begun = Instant::now();
            while family.iter().any(|pid| is_alive(*pid)) && begun.elapsed() < START {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Process {
    /// Stops the server's own process. A child that it started after the others were listed would
    /// outlive them, and hold the shared memory that the next server asks for.
    fn stop_forking(&self) {
        let pid = self.pid();
        let _ = Command::new("sh")
            .args(["-c", "kill -s STOP $1", "kill", &pid.to_string()])
            .status();
        let begun = Instant::now();
        while !matches!(state(pid), None | Some('T' | 'Z' | 'X'))
            && begun.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether there is such a process, and not only its exit code that nobody has asked for.
fn is_alive(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The letter of a process's state; `None` if there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The end of a log, for a message.
pub fn said(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .rev()
        .take(20)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join("\n")
}

/// A small file system of the test's own, to be filled; unmounted when dropped.
pub struct SmallDisk {
    mount: TempDir,
    folder: PathBuf,
}

/// `size` as mount takes it. `None` where mounting is not permitted.
pub fn small_disk(size: &str) -> Option<SmallDisk> {
    let mount = temporary();
    let options = format!("size={size}");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(mount.path())
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return not_permitted("a small file system cannot be mounted");
    }
    let folder = mount.path().join("small");
    fs::set_permissions(mount.path(), Permissions::from_mode(0o755)).expect("passable");
    fs::create_dir(&folder).expect("a folder on it");
    Some(SmallDisk { mount, folder })
}

impl SmallDisk {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes so many bytes away, until the file is removed.
    pub fn fill(&self, bytes: usize) -> PathBuf {
        let filler = self.mount.path().join("filler");
        fs::write(&filler, vec![0; bytes]).expect("room for it");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have a file open.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.mount.path())
            .status();
    }
}
