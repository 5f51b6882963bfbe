//! CPU time and bytes written of a process and its children, as Linux counts them.

use std::fs;
use std::ops::Sub;

/// What was used. `None` where the system does not report it.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu_s: Option<f64>,
    /// Bytes that the system has to write to the disk. Two writes to one page may count once.
    pub written: Option<f64>,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let less = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
        Self {
            cpu_s: less(self.cpu_s, before.cpu_s),
            written: less(self.written, before.written),
        }
    }
}

impl Usage {
    /// Of this process and of the children that have ended and been waited for.
    pub fn of_this_process() -> Self {
        Self::of_one("self")
    }

    /// Of a server, of its children, and of those that have ended: a process that has been waited
    /// for is counted by its parent.
    pub fn of_server(pid: &str) -> Self {
        let mut parent = Self::of_one(pid);
        loop {
            let children = children(pid);
            let mut all = parent;
            for child in &children {
                let one = Self::of_one(child);
                all.cpu_s = all.cpu_s.map(|sum| sum + one.cpu_s.unwrap_or(0.0));
                all.written = all.written.map(|sum| sum + one.written.unwrap_or(0.0));
            }
            // A child that ended meanwhile, as the loader's does, may be in neither figure.
            let again = Self::of_one(pid);
            if children.is_empty() || again == parent {
                return all;
            }
            parent = again;
        }
    }

    fn of_one(pid: &str) -> Self {
        Self {
            cpu_s: cpu_s(pid),
            written: written(pid),
        }
    }
}

/// The fields of `/proc/PID/stat` after the program's name, which may contain blanks.
fn stat(pid: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// User and system time, its own and that of the children that were waited for.
fn cpu_s(pid: &str) -> Option<f64> {
    // The system counts in hundredths of a second on every platform that is in use.
    const TICKS_A_SECOND: f64 = 100.0;
    let fields = stat(pid)?;
    let ticks: Option<Vec<f64>> = fields
        .get(11..15)?
        .iter()
        .map(|field| field.parse().ok())
        .collect();
    Some(ticks?.iter().sum::<f64>() / TICKS_A_SECOND)
}

fn written(pid: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"))?;
    value.trim().parse().ok()
}

fn children(pid: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|name| stat(name).is_some_and(|fields| fields.get(1).is_some_and(|p| p == pid)))
        .collect()
}
