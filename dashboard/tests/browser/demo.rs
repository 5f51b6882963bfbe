//! The demo as people run it: a process of its own, whose buttons are pressed in the page.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::webdriver::{Page, Tested};

/// One demo at a time: each keeps a processor busy.
static ONE: Mutex<()> = Mutex::new(());

/// The demo, killed with this.
pub struct Demo {
    child: Child,
    pub url: String,
    _one: MutexGuard<'static, ()>,
}

fn command() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || testkit::example::binary_of("load-aware-batcher-dashboard", "demo");
    Command::new(BINARY.get_or_init(build))
}

/// The process, and the address of its page.
fn run(address: &str, options: &[&str]) -> Tested<(Child, String)> {
    let mut child = command()
        .arg(address)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.split_whitespace().next() {
        Some(url) => Ok((child, url.to_owned())),
        None => Err(format!("the demo ended: {}", child.wait()?).into()),
    }
}

impl Demo {
    /// Runs it until its page is there.
    pub fn start(options: &[&str]) -> Tested<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (child, url) = run("127.0.0.1:0", options)?;
        Ok(Self {
            child,
            url,
            _one: one,
        })
    }

    /// Runs it again at the same address, after a kill.
    fn start_again(&mut self) -> Tested {
        let address = self.url.trim_start_matches("http://");
        (self.child, self.url) = run(address.trim_end_matches('/'), &[])?;
        Ok(())
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Presses Enter, and waits for the end.
    pub fn end(&mut self) -> Tested<ExitStatus> {
        let mut keyboard = self.child.stdin.take().ok_or("no input")?;
        keyboard.write_all(b"\n")?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Page {
    /// Presses the button, and waits for a frame in which it is in force.
    pub fn choose(&self, choice: &str) -> Tested {
        self.run(&format!(
            "document.querySelector('[data-choice=\"{choice}\"]').click()"
        ))?;
        self.until(&format!("state.frames.at(-1).chosen.includes('{choice}')"))
    }
}

#[test]
fn the_button_that_breaks_the_backend_shows_within_four_frames_and_mending_goes() -> Tested {
    let demo = Demo::start(&[])?;
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(());
    };
    let pill = "document.getElementById('state').textContent";
    page.until(&format!("{pill}.startsWith('open')"))?;
    // The length of the history when the pill first says so.
    page.run(
        "window.shown = null;
        const pill = document.getElementById('state');
        new MutationObserver(() => {
            if (pill.textContent.startsWith('failing')) window.shown ??= state.frames.length;
        }).observe(pill, { childList: true, characterData: true, subtree: true })",
    )?;
    page.choose("break the backend")?;
    page.until("window.shown !== null")?;
    // A frame comes every half a second: two seconds, whatever else the machine does.
    let frames = page.run(
        "const broken = state.frames.findIndex((f) => f.chosen.includes('break the backend'));
        return window.shown - broken - 1",
    )?;
    assert!(
        frames.as_i64().is_some_and(|frames| frames <= 4),
        "{frames}"
    );
    page.until("state.frames.at(-1).batchers.every((b) => b.failing_for != null)")?;
    page.choose("works")?;
    page.until("state.frames.at(-1).batchers.every((b) => b.failing_for == null)")?;
    page.until(&format!("{pill}.startsWith('open')"))?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_policy_buttons_change_the_policies_of_the_running_batchers() -> Tested {
    let demo = Demo::start(&[])?;
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(());
    };
    let policies = |expected: [&str; 3]| {
        let list = expected.join(",");
        format!("state.frames.at(-1).batchers.map((b) => b.policy).join() === '{list}'")
    };
    let side_by_side = policies(["Fixed", "LoadThreshold", "CostModel"]);
    page.until(&side_by_side)?;
    page.choose("Fixed(50)")?;
    page.until(&policies(["Fixed"; 3]))?;
    page.until("state.frames.at(-1).batchers.every((b) => b.batch_size === 50)")?;
    page.choose("CostModel")?;
    page.until(&policies(["CostModel"; 3]))?;
    page.until("state.frames.at(-1).batchers.every((b) => b.batch_size > 50)")?;
    page.choose("LoadThreshold")?;
    page.until(&policies(["LoadThreshold"; 3]))?;
    page.choose("side by side")?;
    page.until(&side_by_side)?;
    page.until("state.frames.at(-1).batchers[0].batch_size === 50")?;
    // The log of the first tab has it.
    page.until("document.getElementById('decisions').textContent.includes('the size is fixed')")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_page_whose_process_is_killed_is_stale_and_its_history_goes_on_when_it_runs_again() -> Tested {
    let mut demo = Demo::start(&[])?;
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(());
    };
    page.until("state.frames.length >= 4")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    page.run("window.oldest = state.frames[0].at; window.ofRun = state.run")?;
    demo.kill();
    page.until("document.getElementById('state').textContent.startsWith('stale')")?;
    page.until("document.body.classList.contains('stale')")?;
    page.run("window.newest = state.frames.at(-1).at")?;
    demo.start_again()?;
    page.until("state.run !== window.ofRun && state.frames.at(-1).at > window.newest")?;
    page.until("document.getElementById('state').textContent.startsWith('open')")?;
    page.until("!document.body.classList.contains('stale')")?;
    page.until("state.frames[0].at === window.oldest")?;
    // What was drawn stays, and so does the curve: no rate is negative.
    page.until(
        "plots.get('rate').u.data[0][0] * 1000 === window.oldest
        && plots.get('rate').u.data[1].every((rate) => rate === null || rate >= 0)",
    )?;
    assert_eq!(page.errors(true)?, Vec::<String>::new());
    Ok(())
}

/// It refuses in one line that begins so, and with the exit code 2.
#[track_caller]
fn refuses(options: &[&str], problem: &str) {
    let mut child = command()
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not refuse ends with this.
    let _ = child.stdin.take().unwrap().write_all(b"\n");
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{options:?}: {said}");
    let line = said.strip_suffix('\n').unwrap();
    assert!(line.starts_with(problem), "{line:?} is not {problem:?}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn a_command_line_or_a_url_that_does_not_do_is_refused_in_one_line() {
    let must = "must be postgres://… or sqlite:FILE";
    refuses(
        &["--url", "mysql://here"],
        &format!("demo: --url is \"mysql://here\": {must}"),
    );
    refuses(&["--url"], "demo: --url needs a value");
    refuses(
        &["--url", "sqlite:"],
        "demo: --url is \"sqlite:\": the file is missing",
    );
    refuses(
        &["--url", "sqlite:/no/such/folder/demo.db"],
        "demo: cannot open the database \"/no/such/folder/demo.db\": ",
    );
    refuses(
        &["--url", "postgres://localhost:port/x"],
        "demo: cannot connect to the server: invalid ",
    );
    refuses(
        &["--url", "postgres://me@127.0.0.1:1/x"],
        "demo: cannot connect to the server: ",
    );
    refuses(
        &["here"],
        "demo: \"here\" is neither an option nor an address",
    );
}
