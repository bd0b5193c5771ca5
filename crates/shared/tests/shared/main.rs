//! What is built on the stores: ledgers, claims, renewals, and the local tier.

mod attempts;
mod claims;
mod embedded;
mod near;
mod renewals;
mod run;
mod support;
