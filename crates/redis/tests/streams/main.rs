//! Streams of Redis and Valkey, with the real servers: each test starts one on a free port of loopback, with a folder of its
//! own, and stops it by its process id. Without the programs `redis-server` and `valkey-server` the tests fail;
//! scripts/servers.sh installs them.
//!
//! `FIRSTSEEN_KILLS` sets how often consumers and servers are killed (a few times by default), `FIRSTSEEN_KILLS_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

/// Makes of each function with a [`Kind`](queue::Kind) a test with Redis and one with Valkey.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::queue::Kind::Redis).await;
            })+
        }

        mod on_valkey {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::queue::Kind::Valkey).await;
            })+
        }
    };
}

mod checks;
#[cfg(feature = "cluster")]
mod cluster;
mod dead;
mod durability;
mod groups;
mod kills;
mod queue;
mod retries;
mod rules;
mod trimming;
