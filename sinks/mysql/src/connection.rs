//! Connections: the driver's own, a pool's, and what every new session is set to.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error, Opts, OptsBuilder, PooledConn, UrlError};

/// What holds a connection of the driver, for [`Mysql::from_fn`](crate::Mysql::from_fn).
///
/// The driver's own pool's connections hold one. For another pool it takes a type of one's own:
///
/// ```
/// use load_aware_batcher_mysql::{Connection, mysql::Conn};
///
/// /// Of some pool that derefs to `Conn`.
/// struct Mine<C>(C);
///
/// impl<C: std::ops::DerefMut<Target = Conn> + Send> Connection for Mine<C> {
///     fn conn(&mut self) -> &mut Conn {
///         &mut self.0
///     }
/// }
/// ```
pub trait Connection: Send {
    /// The connection.
    fn conn(&mut self) -> &mut Conn;
}

impl Connection for Conn {
    fn conn(&mut self) -> &mut Conn {
        self
    }
}

impl Connection for PooledConn {
    fn conn(&mut self) -> &mut Conn {
        self.as_mut()
    }
}

/// Any error of a connection: the driver's or a pool's.
pub(crate) type AnyError = Box<dyn StdError + Send + Sync>;
pub(crate) type Link = Box<dyn Connection>;

/// Where connections come from.
pub(crate) enum Source {
    Opts(Opts),
    /// The URL was refused.
    BadUrl(UrlError),
    Made(Box<dyn Fn() -> Result<Link, AnyError> + Send + Sync>),
}

/// The settings of every session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) answer_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) statements: Vec<String>,
}

/// How long a connection may take to come about, where the user's options do not say.
const CONNECT: Duration = Duration::from_secs(10);

impl Source {
    /// A connection with the user's own time-outs, or else these.
    pub(crate) fn connect(&self, answer_timeout: Duration) -> Result<Link, AnyError> {
        match self {
            Self::Opts(opts) => {
                let answer = Some(answer_timeout);
                let opts = OptsBuilder::from_opts(opts.clone())
                    .tcp_connect_timeout(opts.get_tcp_connect_timeout().or(Some(CONNECT)))
                    .read_timeout(opts.get_read_timeout().copied().or(answer))
                    .write_timeout(opts.get_write_timeout().copied().or(answer));
                Ok(Box::new(Conn::new(opts)?))
            }
            Self::BadUrl(error) => Err(error.to_string().into()),
            Self::Made(connect) => connect(),
        }
    }
}

/// As a sentence names it; without the password.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opts(opts) => match opts.get_socket() {
                Some(socket) => f.write_str(socket),
                None => write!(f, "{}:{}", opts.get_ip_or_hostname(), opts.get_tcp_port()),
            },
            Self::BadUrl(_) => f.write_str("the server"),
            Self::Made(_) => f.write_str("the server"),
        }
    }
}

impl Session {
    /// Bad values are errors, two writers lock rows and not the gaps between them, and no lock is
    /// waited for without end.
    pub(crate) fn set(&self, conn: &mut Conn) -> Result<(), Error> {
        let seconds = self.lock_timeout.as_secs().max(1);
        conn.query_drop(format!(
            "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_ALL_TABLES'),
             SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds}"
        ))?;
        if !logs_statements(conn)? {
            conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
        }
        for statement in &self.statements {
            conn.query_drop(statement)?;
        }
        Ok(())
    }
}

/// A server that logs statements refuses writes under READ COMMITTED.
fn logs_statements(conn: &mut Conn) -> Result<bool, Error> {
    let query = "SELECT @@log_bin, @@SESSION.binlog_format";
    match conn.query_first::<(i64, String), _>(query) {
        Ok(logged) => {
            Ok(logged
                .is_some_and(|(on, format)| on == 1 && format.eq_ignore_ascii_case("statement")))
        }
        // A server without the variable has no such format.
        Err(Error::MySqlError(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
