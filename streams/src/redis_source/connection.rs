//! One server or a cluster, both blocking and with time-outs.

use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Client, Cmd, RedisResult, Value};

const CONNECT: Duration = Duration::from_secs(2);
/// More than any `BLOCK`.
const ANSWER: Duration = Duration::from_secs(5);

pub enum Connection {
    Server(redis::Connection),
    Cluster(Box<ClusterConnection>),
}

impl Connection {
    pub fn open(urls: &[String], cluster: bool) -> RedisResult<Self> {
        if cluster {
            let client = ClusterClient::builder(urls.iter().map(String::as_str))
                .connection_timeout(CONNECT)
                .response_timeout(ANSWER)
                // The client would send a command again whose answer is lost. Entries that the first
                // one delivered would stay pending under this consumer's name, and nobody read them.
                // It would also wait for seconds between two attempts, without an end to ask for.
                .retries(0)
                .build()?;
            return Ok(Self::Cluster(Box::new(client.get_connection()?)));
        }
        let url = urls.first().map_or("", String::as_str);
        let connection = Client::open(url)?.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(Self::Server(connection))
    }

    pub fn query(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => command.query(connection),
            Self::Cluster(connection) => command.query(&mut **connection),
        }
    }
}
