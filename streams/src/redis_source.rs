//! A consumer group of a Redis stream.

mod connection;
mod id;
mod reply;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, RedisError, RetryMethod, Value, cmd};

use self::connection::Connection;
pub use self::id::EntryId;
use self::reply::{Entry, Pending};
use crate::{Delivery, Source, SourceError};

/// Entries a command: one command holds the server up for less than a millisecond.
const COMMAND: usize = 500;

/// Acknowledges and writes the dead letter only if the entry is still pending: it is written once
/// even if the answer is lost, or if two consumers bury it.
const BURY: &str = "local fields = {'id', ARGV[2], 'why', ARGV[3], 'times', ARGV[4]}
for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  redis.call('XADD', KEYS[2], '*', unpack(fields))
end
redis.call('HDEL', KEYS[3], ARGV[2])
return 1";

/// Removes consumers that have nothing pending, in one step with the check: a consumer that reads
/// between a check and its removal would lose its pending entries.
const TIDY: &str = "for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local f = {}
  for i = 1, #c, 2 do f[c[i]] = c[i + 1] end
  if f.pending == 0 and (f.idle > tonumber(ARGV[2]) or f.name == ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name)
  end
end
return 1";

/// A consumer of a group of a Redis stream, on one server or in a Redis Cluster. Needs Redis 7.0.
///
/// The group must exist, or [`create_group`](Self::create_group) be set. Two more keys are used,
/// which a Redis Cluster keeps beside the stream: `{STREAM}:GROUP:dead`, a stream of dead letters
/// with the fields `id`, `why`, `times` and those of the entry; and `{STREAM}:GROUP:alone`, a hash of
/// the entries that are submitted alone. A stream's name that has a hash tag already gets no second
/// one.
pub struct RedisSource {
    urls: Vec<String>,
    stream: String,
    group: String,
    name: String,
    claim_idle: Duration,
    create_group: bool,
    trim_every: Option<Duration>,
    cluster: bool,
    connection: Option<Connection>,
    /// Own pending entries above this id have not been read since the connection was made.
    own: Option<EntryId>,
    claimed_at: Instant,
    trimmed_at: Instant,
    kept_at: Instant,
}

impl RedisSource {
    /// `url` as `redis://user:password@host:port/database` or `redis+unix:///path`. `name` is the
    /// consumer's: no two processes at a time may use the same. A process that returns under its
    /// name continues with its pending entries at once.
    ///
    /// ```
    /// # use load_aware_batcher_streams::RedisSource;
    /// let source = RedisSource::new("redis://127.0.0.1/", "in", "g", "host-1").create_group();
    /// # let _ = source;
    /// ```
    pub fn new(
        url: impl Into<String>,
        stream: impl Into<String>,
        group: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            urls: vec![url.into()],
            stream: stream.into(),
            group: group.into(),
            name: name.into(),
            claim_idle: Duration::from_secs(30),
            create_group: false,
            trim_every: None,
            cluster: false,
            connection: None,
            own: Some(EntryId::default()),
            claimed_at: Instant::now(),
            trimmed_at: Instant::now(),
            kept_at: Instant::now(),
        }
    }

    /// The same in a Redis Cluster, of which `urls` names some nodes. The stream is one key, so it
    /// is on one node at a time. A node that is gone is looked for again, every 100 ms, by the nodes
    /// that `urls` names: name all masters and their replicas. Default: one server.
    pub fn cluster<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.urls = urls.into_iter().map(Into::into).collect();
        self.cluster = true;
        self
    }

    /// An entry that another consumer has not touched for so long is claimed. Default 30 s.
    ///
    /// Choose more than three times [`Options::keep_every`](crate::Options::keep_every): a consumer
    /// that lives refreshes its entries. If it is frozen for longer, an entry is stored by two
    /// consumers, which the row's key makes harmless.
    pub fn claim_idle(mut self, idle: Duration) -> Self {
        self.claim_idle = idle;
        self
    }

    /// Creates the group if it does not exist; it begins with the oldest entry. The stream has to
    /// exist. Default: the absence of the group is an error.
    pub fn create_group(mut self) -> Self {
        self.create_group = true;
        self
    }

    /// Removes, at this interval, the entries below the lowest one that any group has pending or
    /// has not read. Default: nothing is removed.
    ///
    /// Consumers take turns: one of them trims an interval. A group that nobody reads any more
    /// keeps the stream from being trimmed.
    pub fn trim_every(mut self, interval: Duration) -> Self {
        self.trim_every = Some(interval);
        self
    }

    /// The name of a key beside the stream, in the same slot of a cluster.
    fn beside(&self, suffix: &str) -> String {
        let tagged = self.stream.find('{').is_some_and(|open| {
            self.stream[open + 1..]
                .find('}')
                .is_some_and(|length| length > 0)
        });
        match tagged {
            true => format!("{}:{}:{suffix}", self.stream, self.group),
            false => format!("{{{}}}:{}:{suffix}", self.stream, self.group),
        }
    }

    fn query(&mut self, command: &Cmd) -> Result<Value, SourceError> {
        if self.connection.is_none() {
            let connection = Connection::open(&self.urls, self.cluster);
            self.connection = Some(connection.map_err(|error| self.explain(error))?);
        }
        let Some(connection) = &mut self.connection else {
            unreachable!("it is there")
        };
        connection.query(command).map_err(|error| {
            // A server that refuses for good is the right one. Any other may be away, or no longer
            // the one that has the stream. What a lost answer had delivered is pending under this
            // consumer's name.
            let refused = matches!(error.retry_method(), RetryMethod::NoRetry);
            if !refused || error.code().is_none() {
                self.connection = None;
                self.own = Some(EntryId::default());
            }
            self.explain(error)
        })
    }

    /// One sentence.
    fn explain(&self, error: RedisError) -> SourceError {
        let (stream, group) = (&self.stream, &self.group);
        let message = match (error.kind(), error.code()) {
            (_, Some("WRONGTYPE")) => format!("the key {stream} is no stream"),
            (_, Some("NOGROUP")) => format!("there is no stream {stream} with a group {group}"),
            (_, Some("NOAUTH" | "WRONGPASS")) | (ErrorKind::AuthenticationFailed, _) => {
                format!("Redis refuses the login: {error}")
            }
            (_, Some("NOPERM")) => format!("the Redis user lacks a right: {error}"),
            (ErrorKind::InvalidClientConfig, _) => format!("the Redis URL is wrong: {error}"),
            _ => format!("Redis: {error}"),
        };
        SourceError::with_source(message, error)
    }

    fn pending(
        &mut self,
        from: EntryId,
        idle: Option<Duration>,
        room: usize,
    ) -> Result<Vec<Pending>, SourceError> {
        let mut command = cmd("XPENDING");
        command.arg(&self.stream).arg(&self.group);
        if let Some(idle) = idle {
            command.arg("IDLE").arg(millis(idle));
        }
        command
            .arg(from.to_string())
            .arg("+")
            .arg(room.min(COMMAND));
        if idle.is_none() {
            command.arg(&self.name);
        }
        Ok(reply::pending(&self.query(&command)?))
    }

    /// Takes pending entries over, or reads its own again.
    fn claim(
        &mut self,
        pending: &[Pending],
        idle: Duration,
    ) -> Result<Vec<Delivery<EntryId>>, SourceError> {
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = cmd("XCLAIM");
        command
            .arg(&self.stream)
            .arg(&self.group)
            .arg(&self.name)
            .arg(millis(idle));
        for row in pending {
            command.arg(row.id.to_string());
        }
        let entries = reply::entries(&self.query(&command)?);
        let mut deaths = cmd("HMGET");
        deaths.arg(self.beside("alone"));
        for entry in &entries {
            deaths.arg(entry.id.to_string());
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let deaths = self.query(&deaths)?;
        let deaths = reply::array(&deaths)
            .iter()
            .map(|value| reply::number(value).unwrap_or(0));
        let times: BTreeMap<EntryId, u64> = pending.iter().map(|row| (row.id, row.times)).collect();
        let delivery = |(entry, deaths): (Entry, u64)| Delivery {
            times: times.get(&entry.id).copied().unwrap_or(0) + 1,
            id: entry.id,
            fields: entry.fields,
            deaths,
        };
        Ok(entries.into_iter().zip(deaths).map(delivery).collect())
    }

    /// What this consumer had before its connection was made.
    fn own(&mut self, room: usize) -> Result<Vec<Delivery<EntryId>>, SourceError> {
        while let Some(from) = self.own {
            let pending = self.pending(from, None, room)?;
            let found = self.claim(&pending, Duration::ZERO)?;
            self.own = pending.last().map(|row| row.id.next());
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn read(&mut self, room: usize, wait: Duration) -> Result<Vec<Delivery<EntryId>>, SourceError> {
        let mut command = cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.group)
            .arg(&self.name)
            .arg("COUNT")
            .arg(room.min(COMMAND));
        if !wait.is_zero() {
            command.arg("BLOCK").arg(millis(wait));
        }
        command.arg("STREAMS").arg(&self.stream).arg(">");
        let entries = reply::read(&self.query(&command)?);
        let delivery = |Entry { id, fields }| Delivery {
            id,
            fields,
            times: 1,
            deaths: 0,
        };
        Ok(entries.into_iter().map(delivery).collect())
    }

    fn trim(&mut self, interval: Duration) -> Result<(), SourceError> {
        let mut turn = cmd("SET");
        turn.arg(self.beside("trim"))
            .arg(&self.name)
            .arg("NX")
            .arg("PX")
            .arg(millis(interval));
        if self.query(&turn)? == Value::Nil {
            return Ok(());
        }
        let groups = self.query(cmd("XINFO").arg("GROUPS").arg(&self.stream))?;
        let mut lowest = None;
        for group in reply::array(&groups) {
            let name = reply::named(group, "name").and_then(reply::text);
            let read = reply::named(group, "last-delivered-id").and_then(reply::id);
            let (Some(name), Some(read)) = (name, read) else {
                return Ok(());
            };
            // After the other: what is read in between is above `read`.
            let summary = self.query(cmd("XPENDING").arg(&self.stream).arg(name))?;
            let pending = reply::array(&summary).get(1).and_then(reply::id);
            let needed = pending.unwrap_or(read.next());
            lowest = Some(lowest.map_or(needed, |lowest: EntryId| lowest.min(needed)));
        }
        if let Some(lowest) = lowest {
            self.query(
                cmd("XTRIM")
                    .arg(&self.stream)
                    .arg("MINID")
                    .arg(lowest.to_string()),
            )?;
        }
        Ok(())
    }

    fn tidy(&mut self, own: &str) -> Result<(), SourceError> {
        let mut command = cmd("EVAL");
        command.arg(TIDY).arg(1).arg(&self.stream).arg(&self.group);
        command
            .arg(millis(self.claim_idle.saturating_mul(10)))
            .arg(own);
        self.query(&command).map(drop)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(u64::from(!duration.is_zero()))
}

impl Source for RedisSource {
    type Id = EntryId;

    fn open(&mut self) -> Result<(), SourceError> {
        let kind = self.query(cmd("TYPE").arg(&self.stream))?;
        match reply::text(&kind).as_deref() {
            Some("stream") => {}
            Some("none") => {
                return Err(SourceError::new(format!(
                    "there is no stream {}",
                    self.stream
                )));
            }
            _ => {
                return Err(SourceError::new(format!(
                    "the key {} is no stream",
                    self.stream
                )));
            }
        }
        if self.create_group {
            let mut command = cmd("XGROUP");
            command
                .arg("CREATE")
                .arg(&self.stream)
                .arg(&self.group)
                .arg("0");
            if let Err(error) = self.query(&command) {
                let redis = std::error::Error::source(&error);
                let redis = redis.and_then(|error| error.downcast_ref::<RedisError>());
                // The group exists.
                if redis.and_then(RedisError::code) != Some("BUSYGROUP") {
                    return Err(error);
                }
            }
        }
        // Names a group that does not exist.
        self.pending(EntryId::default(), None, 1).map(drop)
    }

    fn poll(&mut self, room: usize, wait: Duration) -> Result<Vec<Delivery<EntryId>>, SourceError> {
        let found = self.own(room)?;
        if !found.is_empty() {
            return Ok(found);
        }
        if self.claimed_at.elapsed() >= (self.claim_idle / 4).min(Duration::from_secs(1)) {
            let mut pending = self.pending(EntryId::default(), Some(self.claim_idle), room)?;
            // What is its own is in hand.
            pending.retain(|row| row.consumer != self.name);
            let found = self.claim(&pending, self.claim_idle)?;
            if !found.is_empty() {
                // There may be more, at the next call.
                return Ok(found);
            }
            self.claimed_at = Instant::now();
        }
        if let Some(interval) = self
            .trim_every
            .filter(|every| self.trimmed_at.elapsed() >= *every)
        {
            self.trimmed_at = Instant::now();
            self.trim(interval)?;
            self.tidy("")?;
        }
        self.read(room, wait)
    }

    fn ack(&mut self, stored: &[EntryId]) -> Result<(), SourceError> {
        for stored in stored.chunks(COMMAND) {
            let mut command = cmd("XACK");
            command.arg(&self.stream).arg(&self.group);
            for id in stored {
                command.arg(id.to_string());
            }
            self.query(&command)?;
        }
        Ok(())
    }

    fn bury(&mut self, dead: &Delivery<EntryId>, why: &str) -> Result<(), SourceError> {
        let mut command = cmd("EVAL");
        command.arg(BURY).arg(3).arg(&self.stream);
        command.arg(self.beside("dead")).arg(self.beside("alone"));
        command
            .arg(&self.group)
            .arg(dead.id.to_string())
            .arg(why)
            .arg(dead.times);
        for (name, value) in &dead.fields {
            command.arg(name).arg(value);
        }
        self.query(&command).map(drop)
    }

    fn keep(&mut self, in_hand: &[EntryId]) -> Result<(), SourceError> {
        // A process that was frozen for so long may have lost them, and takes none back.
        let late = self.kept_at.elapsed() >= self.claim_idle;
        self.kept_at = Instant::now();
        for ids in in_hand.chunks(COMMAND) {
            let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
                continue;
            };
            let mut kept = ids.to_vec();
            if late {
                let mut command = cmd("XPENDING");
                command
                    .arg(&self.stream)
                    .arg(&self.group)
                    .arg(first.to_string());
                command.arg(last.to_string()).arg(COMMAND).arg(&self.name);
                let mine = reply::pending(&self.query(&command)?);
                kept = mine
                    .into_iter()
                    .map(|row| row.id)
                    .filter(|id| ids.contains(id))
                    .collect();
            }
            if kept.is_empty() {
                continue;
            }
            let mut command = cmd("XCLAIM");
            command
                .arg(&self.stream)
                .arg(&self.group)
                .arg(&self.name)
                .arg(0);
            for id in kept {
                command.arg(id.to_string());
            }
            command.arg("IDLE").arg(0).arg("JUSTID");
            self.query(&command)?;
        }
        Ok(())
    }

    fn alone(&mut self, suspect: &Delivery<EntryId>) -> Result<(), SourceError> {
        let alone = self.beside("alone");
        // A number and not an increment: harmless when it is repeated after a lost answer.
        let deaths = suspect.deaths + 1;
        self.query(
            cmd("HSET")
                .arg(alone)
                .arg(suspect.id.to_string())
                .arg(deaths),
        )
        .map(drop)
    }

    fn survived(&mut self, id: &EntryId) -> Result<(), SourceError> {
        let alone = self.beside("alone");
        self.query(cmd("HDEL").arg(alone).arg(id.to_string()))
            .map(drop)
    }

    fn close(&mut self) -> Result<(), SourceError> {
        let own = self.name.clone();
        // The log knows what was acknowledged. A consumer that stays in the list does no harm.
        let _ = self.tidy(&own);
        Ok(())
    }
}
