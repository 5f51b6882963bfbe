//! A small client of the W3C WebDriver protocol over a plain `TcpStream`, and a Chromium under it.

use std::error::Error;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub type Tested<T = ()> = Result<T, Box<dyn Error>>;

/// No promise: so that a broken page fails a test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions to the page, which cannot signal to the test.
const POLL: Duration = Duration::from_millis(50);

/// One browser at a time: each takes several processes.
static ONE: Mutex<()> = Mutex::new(());

/// A page in a browser of its own.
pub struct Page {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Page {
    /// Opens the address. `None`, with a word on standard error, where there is no browser; with
    /// `REQUIRE_SERVERS=1` that is a panic.
    pub fn open(url: &str, width: u32, height: u32) -> Tested<Option<Self>> {
        let chromium = ["chromium", "google-chrome", "chromium-browser"].into_iter();
        let (Some(driver), Some(chromium)) =
            (find("chromedriver"), chromium.filter_map(find).next())
        else {
            let is_asked = std::env::var_os("REQUIRE_SERVERS").is_some_and(|value| value == "1");
            assert!(
                !is_asked,
                "REQUIRE_SERVERS=1, but there is no chromium or no chromedriver"
            );
            // Not by eprintln: the test runner would keep it to itself.
            writeln!(
                std::io::stderr(),
                "SKIPPED: there is no chromium or no chromedriver"
            )?;
            return Ok(None);
        };
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(driver);
        command
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut page = Self {
            driver: command.spawn()?,
            port: 0,
            session: String::new(),
            _profile: profile,
            _one: one,
        };
        page.port = page.announced_port()?;
        let folder = page._profile.path().display();
        let options = json!({
            "binary": chromium,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--no-first-run", format!("--user-data-dir={folder}"),
            ],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = page.ask("POST", "/session", &wanted)?;
        page.session = answer["sessionId"].as_str().ok_or("no session")?.to_owned();
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        page.devtools("Emulation.setDeviceMetricsOverride", &metrics)?;
        page.of_session("POST", "/url", &json!({ "url": url }))?;
        Ok(Some(page))
    }

    /// The same at a usual size.
    pub fn wide(url: &str) -> Tested<Option<Self>> {
        Self::open(url, 1280, 900)
    }

    /// The server announces the port that it got on its standard output.
    fn announced_port(&mut self) -> Tested<u16> {
        let output = self.driver.stdout.take().ok_or("no output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        Err("chromedriver ended".into())
    }

    /// What the body of a function returns in the page.
    pub fn run(&self, script: &str) -> Tested<Value> {
        self.of_session(
            "POST",
            "/execute/sync",
            &json!({ "script": script, "args": [] }),
        )
    }

    /// Waits until the expression is true in the page.
    pub fn until(&self, condition: &str) -> Tested {
        let deadline = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({condition})"))? != Value::Bool(true) {
            if Instant::now() > deadline {
                let state = self.run("return document.body.innerText")?;
                return Err(format!("never: {condition}; the page says {state}").into());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub fn press(&self, key: &str) -> Tested {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] });
        self.of_session("POST", "/actions", &actions).map(drop)
    }

    pub fn dark(&self, yes: bool) -> Tested {
        let value = if yes { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", &features)
    }

    /// The errors on the console since the last call, those of the network aside if `offline`.
    pub fn errors(&self, offline: bool) -> Tested<Vec<String>> {
        let entries = self.of_session("POST", "/se/log", &json!({ "type": "browser" }))?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let bad = entries.iter().filter(|entry| {
            entry["level"] == "SEVERE" && !(offline && entry["source"] == "network")
        });
        Ok(bad.map(ToString::to_string).collect())
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Tested {
        let body = json!({ "cmd": command, "params": parameters });
        self.of_session("POST", "/goog/cdp/execute", &body)
            .map(drop)
    }

    fn of_session(&self, method: &str, path: &str, body: &Value) -> Tested<Value> {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Tested<Value> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.to_string();
        let (port, length) = (self.port, body.len());
        write!(
            &stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        // The server keeps the connection open: the length says where the answer ends.
        let (mut reader, mut length) = (BufReader::new(&stream), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        let mut answer: Value = serde_json::from_slice(&bytes)?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"]).into()),
            None => Ok(value),
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The browser ends with its session, and chromedriver at the kill.
        if !self.session.is_empty() {
            let _ = self.of_session("DELETE", "", &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
