//! The one PostgreSQL that all processes of a run write to.

use std::path::{Path, PathBuf};

use load_aware_batcher_postgres::postgres::{Client, Config};
use testkit::servers::postgres::Postgres as Server;

use crate::Failure;

const NAME: &str = "processes";
/// The table of every run.
pub const TABLE: &str = "readings";

pub struct Database {
    client: Client,
    folder: PathBuf,
    /// It runs for as long as this is there.
    _server: Server,
}

impl Database {
    /// `None` where it is not installed.
    pub fn open() -> Option<Self> {
        let server = Server::own(&["shared_buffers=256MB"])?;
        let (_, client) = server.database(NAME);
        let folder = server.socket().parent()?.to_owned();
        Some(Self {
            client,
            folder,
            _server: server,
        })
    }

    /// The folder of the server's socket, for the workers.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty table, and nothing left to be written for the one before.
    pub fn renew(&mut self) -> Result<(), Failure> {
        self.client.batch_execute(&format!(
            "DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (id bigint PRIMARY KEY,
             value double precision NOT NULL, text text NOT NULL)"
        ))?;
        Ok(self.client.batch_execute("CHECKPOINT")?)
    }

    /// The rows in the table.
    pub fn stored(&mut self) -> Result<u64, Failure> {
        let count = format!("SELECT count(*) FROM {TABLE}");
        let count: i64 = self.client.query_one(&count, &[])?.try_get(0)?;
        Ok(u64::try_from(count)?)
    }
}

/// How a worker reaches the server whose socket is in this folder.
pub fn config(folder: &Path) -> Config {
    let mut config = Config::new();
    config.host_path(folder).user("postgres").dbname(NAME);
    config
}
