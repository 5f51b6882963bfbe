//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

pub const USAGE: &str = "usage: demo [ADDRESS] [--url URL]\n\n\
    ADDRESS                   where the page is [127.0.0.1:4700]\n\
    --url postgres://…        write into this PostgreSQL database instead of a simulated backend\n\
    --url sqlite:FILE         write into this SQLite file, which is made if it is missing\n\n\
    The demo makes the tables load_aware_batcher_demo_1 to 3 anew, and drops them at its end.";

/// What was asked for.
pub struct Options {
    pub address: SocketAddr,
    pub backend: Backend,
}

/// Where the rows go.
pub enum Backend {
    Simulated,
    /// A URL, or a text such as `host=/run/postgresql user=me`.
    Postgres(String),
    Sqlite(PathBuf),
}

impl Options {
    /// The options, or `None` if the usage is asked for.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 4700)),
            backend: Backend::Simulated,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-h" | "--help" => return Ok(None),
                "--url" => {
                    let url = arguments.next().ok_or("--url needs a value")?;
                    options.backend = backend(&url)?;
                }
                text => {
                    options.address = text.parse().map_err(|_| {
                        format!("{text:?} is neither an option nor an address (try --help)")
                    })?;
                }
            }
        }
        Ok(Some(options))
    }
}

fn backend(url: &str) -> Result<Backend, String> {
    let is_postgres = ["postgres://", "postgresql://", "host="]
        .iter()
        .any(|begin| url.starts_with(begin));
    match url.strip_prefix("sqlite:") {
        Some("") => Err("--url is \"sqlite:\": the file is missing".to_owned()),
        Some(file) => Ok(Backend::Sqlite(file.into())),
        None if is_postgres => Ok(Backend::Postgres(url.to_owned())),
        None => Err(format!(
            "--url is {url:?}: must be postgres://… or sqlite:FILE"
        )),
    }
}
