//! One worker, from the bench's side.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::database::Database;
use crate::report::Report;
use crate::way::Way;
use crate::worker::{GO, READY, STOP, arguments};

/// How long a worker may take to answer. A net, not a measure: a statement has 60 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running worker. It is killed if it is dropped before it has reported.
pub struct Process {
    child: Child,
    /// Its end is the worker's, also where the bench is killed.
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts worker `number`; it connects by itself.
    pub fn start(database: &Database, number: usize, way: Way) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments(database.folder(), number, way))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err("a worker without its two pipes".into());
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            // Ends with the worker's output, or when nobody listens any more.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input,
            lines,
        })
    }

    /// Waits until it is connected.
    pub fn wait_until_ready(&self) -> Result<(), Failure> {
        match &*self.line()? {
            READY => Ok(()),
            line => Err(format!("a worker says {line:?} instead of {READY:?}").into()),
        }
    }

    pub fn go(&mut self) -> Result<(), Failure> {
        self.tell(GO)
    }

    /// The worker stops; [`report`](Self::report) has the rest.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.tell(STOP)
    }

    pub fn report(self) -> Result<Report, Failure> {
        let mut report = Report::default();
        while !report.take(&self.line()?)? {}
        Ok(report)
    }

    fn tell(&mut self, word: &str) -> Result<(), Failure> {
        Ok(writeln!(self.input, "{word}")?)
    }

    fn line(&self) -> Result<String, Failure> {
        let problem = |_| format!("worker {} does not answer", self.child.id());
        Ok(self.lines.recv_timeout(PATIENCE).map_err(problem)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has reported is about to end by itself: it holds nothing that counts.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
