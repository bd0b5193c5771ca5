//! What is measured.

use crate::Result;
use crate::brokers::KEYS;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Arguments {
    pub(crate) brokers: Vec<String>,
    pub(crate) messages: u64,
    pub(crate) rounds: usize,
    pub(crate) payload: usize,
    pub(crate) workers: usize,
    pub(crate) in_flight: usize,
    pub(crate) work: Duration,
    /// Where stores are.
    pub(crate) dir: PathBuf,
}

const USAGE: &str = "\
--brokers LIST    of nats, redis, valkey, rabbitmq, kafka; all of them
--messages N      for each run; 20000
--rounds N        runs of each loop, of which the median counts; 5
--payload BYTES   100
--workers N       handlers at the same time; 32
--in-flight N     messages from the broker to the acknowledgement; 256
--work MICROS     how long a handler sleeps; 0
--dir DIR         where stores are; the folder for temporary files";

impl Arguments {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut read = Self {
            brokers: KEYS.map(str::to_owned).to_vec(),
            messages: 20_000,
            rounds: 5,
            payload: 100,
            workers: 32,
            in_flight: 256,
            work: Duration::ZERO,
            dir: std::env::temp_dir(),
        };
        let mut words = words;
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} without a value\n{USAGE}"))?;
            let number = || value.parse::<usize>().map_err(|error| format!("{name}: {error}"));
            match name.as_str() {
                "--brokers" => read.brokers = value.split(',').map(str::to_owned).collect(),
                "--messages" => read.messages = number()? as u64,
                "--rounds" => read.rounds = number()?.max(1),
                "--payload" => read.payload = number()?,
                "--workers" => read.workers = number()?.max(1),
                "--in-flight" => read.in_flight = number()?.max(1),
                "--work" => read.work = Duration::from_micros(number()? as u64),
                "--dir" => read.dir = value.into(),
                _ => return Err(format!("{name} is no option\n{USAGE}").into()),
            }
        }
        match read.brokers.iter().find(|name| !KEYS.contains(&name.as_str())) {
            Some(name) => Err(format!("{name} is no broker\n{USAGE}").into()),
            None if read.messages == 0 => Err("--messages: at least one".into()),
            None => Ok(read),
        }
    }
}
