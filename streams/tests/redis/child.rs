//! A consumer as a process of its own: this test program again.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use load_aware_batcher_postgres::postgres::Config;

use crate::setup::{Setup, consumer};

/// Set for the child alone.
const URL: &str = "CONSUMER_URL";

/// What the child runs, until its standard input ends. In the run of all tests, where no parent has
/// set the variables, there is nothing to do.
#[test]
fn process() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let variable = |name| std::env::var(name).expect("set by the parent");
    let config: Config = variable("CONSUMER_INTO").parse().expect("a configuration");
    let consumer = consumer(&url, config, &variable("CONSUMER_NAME"));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let report = consumer.stop(Duration::from_secs(60));
    assert!(report.is_clean, "{report:?}");
}

pub struct Process(Child);

impl Process {
    pub fn start(setup: &Setup, name: &str) -> Self {
        let folder = setup.database.socket();
        let folder = folder.parent().expect("a folder").display();
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child::process", "--nocapture"])
            .env(URL, setup.redis.url())
            .env(
                "CONSUMER_INTO",
                format!("host={folder} user=postgres dbname=streams"),
            )
            .env("CONSUMER_NAME", name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self(child)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_some()
    }

    /// Ends it in order; whether its report was clean.
    pub fn stop(mut self) -> bool {
        drop(self.0.stdin.take());
        self.0.wait().expect("our own child").success()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s $1 $2", "kill", signal, &pid])
            .status();
        assert!(sent.expect("sh").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
