//! The store: each request is a step of one script.

use std::sync::Arc;

use holepunch_rendezvous::{InstanceId, Later, MatchmakerConfig, Reply, Request, Store};
use redis::{ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value, pipe};

use crate::connection::{Connection, Connector};
use crate::script::{self, Places};

pub(crate) struct RedisStore {
    connector: Arc<Connector>,
    /// Before all keys.
    base: String,
    script: Script,
    places: Places,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("connector", &self.connector).finish_non_exhaustive()
    }
}

impl RedisStore {
    pub(crate) fn new(connector: Arc<Connector>, base: String, config: &MatchmakerConfig) -> Self {
        Self { connector, base, script: script::script(), places: Places::of(config) }
    }

    async fn carry_out(
        &self,
        connection: &mut Connection,
        from: InstanceId,
        requests: &[Request],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut all = pipe();
        let name = (self.script.get_hash(), &*self.base);
        for request in requests {
            all.add_command(script::command(name, from, request, self.places));
        }
        all.ignore_errors();
        let mut answers: Vec<RedisResult<Value>> = all.query_async(connection).await?;
        if answers.iter().any(|it| is_of(it, ServerErrorKind::NoScript)) {
            self.script.load_async(connection).await?;
            // Some may have been carried out: to ask again does no harm.
            answers = all.query_async(connection).await?;
        }
        // Whoever is no master, or not yet, never is one for this connection.
        let is_fatal = |it: &&RedisResult<Value>| {
            use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
            [BusyLoading, ClusterDown, MasterDown, ReadOnly].iter().any(|kind| is_of(it, *kind))
        };
        match answers.iter().find(is_fatal) {
            Some(Err(error)) => Err(RedisError::clone(error)),
            _ => Ok(answers),
        }
    }
}

impl Store for RedisStore {
    fn ask(&self, from: InstanceId, requests: Vec<Request>) -> Later<'_, Vec<Option<Reply>>> {
        Box::pin(async move {
            let act = async |connection: &mut Connection| {
                self.carry_out(connection, from, &requests).await
            };
            let answers = self.connector.with(act).await.unwrap_or_default();
            let mut answers = answers.into_iter();
            let reply = |request: &Request| match answers.next()? {
                Ok(answer) => {
                    // A store that is read-only answers questions as well, and keeps no lease.
                    if matches!(request, Request::Renew { .. }) {
                        self.connector.took();
                    }
                    script::reply(request, answer, self.places)
                }
                Err(error) => {
                    self.connector.refused(&error);
                    None
                }
            };
            requests.iter().map(reply).collect()
        })
    }

    fn refuses(&self) -> bool {
        self.connector.refuses()
    }
}

fn is_of(answer: &RedisResult<Value>, kind: ServerErrorKind) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(kind))
}
