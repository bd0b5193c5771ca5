//! Integration tests: one binary, one module per subject.
mod cli;
mod smoke;
mod regressions;
mod support;
