//! The rules that every dedup store keeps, as tests for any implementation of [`DedupStore`](firstseen_shared::DedupStore).
//!
//! Bring a [`Fixture`], and have one test made of each rule:
//!
//! ```
//! # use firstseen_conformance::{Reference, conformance};
//! # fn main() {}
//! // In tests/conformance.rs, in the place of the model your store:
//! conformance!(Reference::fixture());
//! ```
//!
//! or have all of them reported by [`check_all`]. A rule is an async function in [`rules`], named as a sentence; the numbers in
//! its documentation are those of a catalogue of behaviours that public suites and issues of others show.
//!
//! Of the rules of that catalogue on ids, leases, failures and stages it leaves out those that no call of the trait can show:
//!
//! | numbers | why | where they are tested |
//! |---|---|---|
//! | 8, 9, 36 | records that change or cannot be read within a call, and a server that fails: a fixture cannot make that happen | in the tests of each store |
//! | 13, 15, 19, 20, 47 | fingerprints of values, marks of replays and caches are above the store | `firstseen`, `firstseen-shared`, `firstseen-tower` |
//! | 30, 44, 48, 50 to 55 | stages, a redrive that does them again, and cancelling: the embedded ledger alone has them | `firstseen` |
//!
//! [`Reference`] is a store in memory that keeps all rules in the simplest way: the model of the random test, and a store for
//! tests of what is built on top. [`Faulty`] loses the answers of any store on their way.

mod dice;
mod faulty;
mod fixture;
mod kit;
#[cfg(test)]
mod mutants;
mod reference;
mod report;
pub mod rules;

pub use faulty::{Fault, Faulty};
pub use fixture::Fixture;
pub use reference::Reference;
#[doc(hidden)]
pub use report::test;
pub use report::{Report, check_all};
