//! `holepunch completions` and `holepunch man`: what is made from the command line's own description.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

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
    let mut command = whole(command.disable_help_subcommand(true));
    command.build();
    let Some(folder) = &args.folder else {
        output::bytes(&page(&command).map_err(Failure::failed)?);
        return Ok(ExitCode::SUCCESS);
    };
    let written = fs::create_dir_all(folder).and_then(|()| write_pages(&command, folder));
    written.map_err(|error| {
        Failure::failed(format!("cannot write the pages into {}: {error}", folder.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_pages(below, folder)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(folder.join(format!("{name}.1")), page(command)?)
}

/// The page of a command. How it is called, the library writes without the values of flags; and the description begins with
/// what the name has said.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let long = command.get_long_about().map(ToString::to_string);
    let more = long.as_deref().and_then(|text| text.split_once("\n\n"));
    let more = more.map(|(_, more)| more.to_owned());
    let man = Man::new(match &more {
        Some(more) => command.clone().long_about(more.clone()),
        None => command.clone(),
    });
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    if more.is_some() {
        man.render_description_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut page)?;
    }
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// How a command is called.
fn synopsis(command: &Command) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    let shown = || command.get_arguments().filter(|it| !it.is_hide_set());
    let flags = shown().filter(|it| !it.is_positional());
    for argument in flags.chain(shown().filter(|it| it.is_positional())) {
        let is_required = argument.is_required_set();
        line.push(roman(if is_required { " " } else { " [" }));
        line.extend(called(argument));
        line.push(roman(if is_required { "" } else { "]" }));
        if matches!(argument.get_action(), ArgAction::Append) {
            line.push(roman("..."));
        }
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]).text(line);
    section
}

/// `-q|--quiet`, `--room NAME`, `--accept[=ID]` or `FILE`.
fn called(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|it| format!("-{it}"));
    let names: Vec<String> =
        short.into_iter().chain(argument.get_long().map(|it| format!("--{it}"))).collect();
    let mut parts = if names.is_empty() { Vec::new() } else { vec![bold(names.join("|"))] };
    if argument.get_action().takes_values() {
        let values = argument.get_value_names().unwrap_or_default().join(" ");
        let is_optional = argument.get_num_args().is_some_and(|it| it.min_values() == 0);
        let (before, behind) = match (parts.is_empty(), is_optional) {
            (true, _) => ("", ""),
            (false, true) => ("[=", "]"),
            (false, false) => (" ", ""),
        };
        parts.extend([roman(before), italic(values), roman(behind)]);
    }
    parts
}
