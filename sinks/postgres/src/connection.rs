//! Connections: the driver's own, a pool's, and what every new session is set to.

use std::error::Error as StdError;
use std::fmt;
use std::ops::DerefMut;
use std::time::Duration;

use postgres::config::Host;
use postgres::{Client, Config, Error};

/// Any error of a connection: the driver's or a pool's.
pub(crate) type AnyError = Box<dyn StdError + Send + Sync>;
pub(crate) type Link = Box<dyn DerefMut<Target = Client> + Send>;
type ConnectBy = Box<dyn Fn(&Config) -> Result<Client, Error> + Send + Sync>;

/// Where connections come from.
pub(crate) enum Source {
    Config {
        config: Box<Config>,
        by: ConnectBy,
    },
    /// The URL was refused.
    BadUrl(Error),
    Made(Box<dyn Fn() -> Result<Link, AnyError> + Send + Sync>),
}

/// The settings of every session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) statements: Vec<String>,
}

/// How long a connection may take to come about, where the user's configuration does not say.
const CONNECT: Duration = Duration::from_secs(10);
/// How long sent data may stay without an acknowledgement by the other machine, where the user's
/// configuration does not say.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

impl Source {
    /// A connection with the user's own time-outs, or else the defaults.
    pub(crate) fn connect(&self) -> Result<Link, AnyError> {
        match self {
            Self::Config { config, by } => {
                let mut config = (**config).clone();
                if config.get_connect_timeout().is_none() {
                    config.connect_timeout(CONNECT);
                }
                if config.get_tcp_user_timeout().is_none() {
                    config.tcp_user_timeout(UNACKNOWLEDGED);
                }
                Ok(Box::new(Owned(by(&config)?)))
            }
            Self::BadUrl(error) => Err(crate::failure::text(error).into()),
            Self::Made(connect) => connect(),
        }
    }
}

/// A connection of the sink's own.
struct Owned(Client);

impl std::ops::Deref for Owned {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}

/// As a sentence names it; without the password.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Config { config, .. } = self else {
            return f.write_str("the server");
        };
        let ports = config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let hosts = config.get_hosts();
        if hosts.is_empty() {
            return f.write_str("the server");
        }
        for (at, host) in hosts.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match host {
                Host::Tcp(name) => write!(f, "{name}:{}", port(at))?,
                #[cfg(unix)]
                Host::Unix(folder) => write!(f, "{}/.s.PGSQL.{}", folder.display(), port(at))?,
            }
        }
        Ok(())
    }
}

impl Session {
    /// No statement and no lock is waited for without end.
    pub(crate) fn set(&self, client: &mut Client) -> Result<(), Error> {
        client.batch_execute(&format!(
            "SET statement_timeout = {}; SET lock_timeout = {}",
            milliseconds(self.statement_timeout),
            milliseconds(self.lock_timeout)
        ))?;
        for statement in &self.statements {
            client.batch_execute(statement)?;
        }
        Ok(())
    }
}

/// As the server takes it: 0 would be no time-out at all.
fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}
