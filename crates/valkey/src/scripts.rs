//! The scripts, one for each move.

use redis::Cmd;
use std::sync::LazyLock;

/// A script and its name at the server.
#[derive(Debug)]
pub(crate) struct Script {
    source: String,
    hash: String,
}

/// A script with its keys, all in one slot, and its arguments.
#[derive(Debug)]
pub(crate) struct Invocation {
    script: &'static Script,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) arguments: Vec<Vec<u8>>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident: [$($part:literal),+];)+) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(&[$(include_str!(concat!("lua/", $part, ".lua"))),+]));
        )+

        #[cfg(test)]
        const ALL: &[&LazyLock<Script>] = &[$(&$name),+];
    };
}

scripts! {
    /// Has no partition: the layout of all.
    OPEN: ["open"];
    CLAIM: ["prelude", "count", "claim"];
    CONTAINS: ["prelude", "contains"];
    FORGET: ["prelude", "count", "forget"];
    BEGIN: ["prelude", "count", "letters", "record", "begin"];
    RENEW: ["prelude", "count", "letters", "record", "renew"];
    END: ["prelude", "count", "letters", "record", "end"];
    SHOW: ["prelude", "count", "letters", "record", "show"];
    REDRIVE: ["prelude", "count", "letters", "record", "redrive"];
    SETTLE: ["prelude", "count", "letters", "record", "settle"];
    FORGET_RECORD: ["prelude", "count", "letters", "record", "forget_record"];
    DEAD: ["prelude", "letters", "dead"];
    STATS: ["prelude", "count", "stats"];
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let source = parts.concat();
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    /// Returns an invocation without keys and arguments.
    pub(crate) fn with(&'static self, keys: Vec<Vec<u8>>, arguments: Vec<Vec<u8>>) -> Invocation {
        Invocation { script: self, keys, arguments }
    }
}

impl Invocation {
    /// Returns the command; with the source of the script if the server may not have it.
    pub(crate) fn command(&self, has_source: bool) -> Cmd {
        let (name, script) =
            if has_source { ("EVAL", &self.script.source) } else { ("EVALSHA", &self.script.hash) };
        let mut command = redis::cmd(name);
        command.arg(script);
        command.arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lua gives each function of a chunk at most 200 local names.
    #[test]
    fn scripts_are_whole_and_different() {
        let mut hashes: Vec<&str> = ALL.iter().map(|script| script.hash.as_str()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), ALL.len());
        assert!(ALL.iter().all(|script| script.source.ends_with('\n')));
    }
}
