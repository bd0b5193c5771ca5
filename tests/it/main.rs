//! Integration tests: one binary, one module per subject.
mod cli;
mod smoke;
