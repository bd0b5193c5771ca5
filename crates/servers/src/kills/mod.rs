//! Both ends killed at random, by `SIGKILL`: a process with the loop and its store, and the broker's server. Effects are lines
//! of a file that the test owns; neither store nor server knows it.
//!
//! A test program of an adapter has three tests in a module `kills`, for a [`Broker`] of its own:
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
//! async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
//!     kill_both_ends::<Queue>(OnLeaseEnd::Hold, CHILD).await;
//! }
//!
//! #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
//! async fn an_effect_is_made_again_only_around_a_kill() {
//!     kill_both_ends::<Queue>(OnLeaseEnd::Retry, CHILD).await;
//! }
//!
//! /// Not a test: the process that the tests above start and kill.
//! #[test]
//! fn the_process_that_is_killed() {
//!     consume_until_killed::<Queue>();
//! }
//!
//! const CHILD: &str = "kills::the_process_that_is_killed";
//! ```
//!
//! `FIRSTSEEN_KILLS` sets how often something is killed in each test (six times by default), `FIRSTSEEN_KILLS_SEED` when.

mod consumer;
mod killer;
mod record;

use crate::Server;
use firstseen_consumer::testkit::Fixture;

pub use consumer::consume_until_killed;
pub use firstseen::ledger::OnLeaseEnd;
pub use killer::kill_both_ends;

/// A queue at a broker whose server is killed, and whose consumers are.
///
/// What a [`Fixture`] does is done here while the server is away, too: all of its functions wait until it is back, and
/// `publish` tries again until the server has confirmed the message.
pub trait Broker: Fixture {
    /// What the line of proof calls it.
    const NAME: &'static str;

    /// Whether a dead letter is kept once, though the broker's answer to it may be lost. Otherwise: at least once.
    const DEAD_ONCE: bool;

    /// Starts a server that loses nothing that it has confirmed when it is killed.
    fn start() -> impl Future<Output = Server> + Send;

    /// Opens the queue of this test at a server, and creates it if it is not there. The test calls this, and each process
    /// that is killed, with the server's [`address`](Server::address).
    fn open(address: &str) -> impl Future<Output = Self> + Send;

    /// Returns how many messages the queue has that are not acknowledged, those that wait for a retry included; `None` if
    /// nobody can say now.
    fn left(&self) -> impl Future<Output = Option<u64>> + Send;
}
