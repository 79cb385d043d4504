//! `holepunch completions` and `holepunch man`: what is made from the command line's own description.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::Failure;
use crate::output;

/// Print what a shell needs to complete command lines
///
/// Where it goes depends on the shell: bash reads /usr/share/bash-completion/completions/holepunch or
/// ~/.local/share/bash-completion/completions/holepunch, fish ~/.config/fish/completions/holepunch.fish, and zsh a file
/// _holepunch in a folder of $fpath.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch completions bash > ~/.local/share/bash-completion/completions/holepunch\n  \
    source <(holepunch completions bash)")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual, or write its pages into a folder
///
/// Without a folder it prints the page of holepunch; with one it writes that page and one for each command:
/// holepunch.1, holepunch-send.1, and so on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch man | man -l -\n  \
    holepunch man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Where to write a page for each command; made where there is none
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// A page has everything, and what a short help leaves out, too.
fn whole(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_short_help(false)).mut_subcommands(whole)
}

pub(crate) fn run_completions(
    args: &CompletionsArgs,
    mut command: Command,
) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    output::bytes(&text);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_man(args: &ManArgs, command: Command) -> Result<ExitCode, Failure> {
    let command = whole(command.disable_help_subcommand(true));
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(Failure::failed)?;
        output::bytes(&page);
        return Ok(ExitCode::SUCCESS);
    };
    let written =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| {
        Failure::failed(format!("cannot write the pages into {}: {error}", folder.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}
