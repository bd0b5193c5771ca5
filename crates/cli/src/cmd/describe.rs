//! `firstseen completions` and `firstseen man`: the command line described for shells and for `man`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Args;
use crate::output::{Exit, Failure};
use crate::sink::Sink;

pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "firstseen", &mut text);
    print(&text)
}

/// Prints the page of the whole command, or of one of its subcommands; a subcommand of that is named after it.
pub(super) fn man(subcommand: &[String]) -> Result<Exit, Failure> {
    let mut command = Args::command();
    command.build();
    for name in subcommand {
        let Some(found) = command.find_subcommand(name) else {
            return Err(Failure::call(format!("there is no subcommand {name:?}")));
        };
        command = found.clone();
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| Failure::data(format!("cannot write the page: {error}")))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<Exit, Failure> {
    let mut out = Sink::stdout(b'\n')?;
    out.put(text)?;
    out.flush()?;
    Ok(Exit::Done)
}
