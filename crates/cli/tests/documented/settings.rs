//! `docs/settings.md` against the command line and the code that reads variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::{Arg, Command};

use crate::markdown::{Table, code_spans, tables};
use crate::{none_of, read, repository};

const DOCUMENT: &str = "docs/settings.md";
/// What begins the line that names the commands of a table.
const COMMANDS: &str = "Commands:";
/// The section of the variables that no flag has.
const WITHOUT_FLAG: &str = "Variables without a flag";
/// The section of the settings file.
const FILE: &str = "The settings file";
/// Words in capitals in the code of the command line and the worker that are no variables.
const NO_VARIABLES: [&str; 25] = [
    "BYTES",
    "CARGO_PKG_VERSION",
    "COMMAND",
    "DEBUG",
    "DIR",
    "ERROR",
    "GIB",
    "HOLEPUNCH_COMMIT",
    "INFO",
    "KIB",
    "MIB",
    "NAT64",
    "OWNED",
    "REQUEST_METHOD",
    "RTT",
    "SIGINT",
    "SIGTERM",
    "SYNOPSIS",
    "TEXT",
    "TIB",
    "TLS",
    "TURN",
    "UDP",
    "URL",
    "WARNING",
];

/// A flag as a row of the document shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    flag: String,
    variables: String,
    /// Where the help names one.
    default: Option<String>,
}

impl Shown {
    fn of(arg: &Arg) -> Self {
        let help = help(arg);
        let variables = bracket(&help, "env").unwrap_or_default();
        let variables: Vec<String> = variables
            .split([' ', ','])
            .filter(|word| is_variable(word))
            .map(|word| format!("`{word}`"))
            .collect();
        let values: Vec<_> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let of_clap =
            (!values.is_empty() && arg.get_action().takes_values()).then(|| values.join(","));
        Self {
            flag: flag(arg),
            variables: if variables.is_empty() { "–".to_owned() } else { variables.join(", ") },
            default: bracket(&help, "default").or(of_clap),
        }
    }

    /// The row that a document without it should have.
    fn row(&self, arg: &Arg) -> String {
        let help = help(arg);
        let meaning = help.split(" [").next().unwrap_or_default();
        let default = self.default.as_deref().map_or("–".to_owned(), |text| format!("`{text}`"));
        let cells =
            [&self.flag, &self.variables, &default, meaning].map(|cell| cell.replace('|', "\\|"));
        format!("| {} |", cells.join(" | "))
    }
}

/// All that the help says of an argument: what `-h` leaves out, too.
fn help(arg: &Arg) -> String {
    arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// `[env: A, B]` or `[default: 7]` in a help text.
fn bracket(help: &str, name: &str) -> Option<String> {
    let (_, rest) = help.split_once(&format!("[{name}: "))?;
    Some(rest.split(']').next()?.to_owned())
}

fn is_variable(word: &str) -> bool {
    word.len() > 2
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// `-q`, `--quiet` or `--room NAME` as a document writes them.
fn flag(arg: &Arg) -> String {
    let names =
        arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let values: String = names.iter().map(|name| format!(" {name}")).collect();
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{values}`"),
        (None, Some(long)) => format!("`--{long}{values}`"),
        (Some(short), None) => format!("`-{short}{values}`"),
        (None, None) => format!("`{}`", values.trim_start()),
    }
}

/// The arguments that have to be documented: all flags, and what else a variable stands for.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_of_clap = |arg: &Arg| matches!(arg.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(move |arg| {
        let is_set = !arg.is_positional() || Shown::of(arg).variables != "–";
        is_set && !is_of_clap(arg) && !arg.is_hide_set()
    })
}

/// The tables of flags, each with the names of its commands; that of the whole program is "all".
fn tables_of_flags(text: &str) -> Vec<(Vec<String>, Table)> {
    let named = |table: Table| {
        let (_, commands) = table.before.split_once(COMMANDS)?;
        let commands = commands.split('.').next()?;
        let commands = code_spans(commands).into_iter().map(str::to_owned).collect();
        Some((commands, table))
    };
    tables(text).into_iter().filter_map(named).collect()
}

/// What is wrong with a row for an argument, if anything is.
fn fault(row: &[String], shown: &Shown) -> Option<String> {
    let plain = |text: &str| text.replace('`', "");
    let [_, variables, default, _meaning] = row else {
        return Some(format!("{row:?} has not four cells"));
    };
    if *variables != shown.variables {
        return Some(format!("the variable is {variables}, and the help says {}", shown.variables));
    }
    let is_other = |named: &String| plain(default) != plain(named);
    let named = shown.default.as_ref().filter(|named| is_other(named))?;
    Some(format!("the default is {default}, and the help says {named}"))
}

#[test]
fn every_flag_stands_in_a_table_of_its_command_and_no_other_flag_does() {
    let root = holepunch_cli::command();
    let of_all: Vec<&Arg> = root.get_arguments().collect();
    let mut commands: BTreeMap<String, Vec<&Arg>> = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .flat_map(with_subcommands)
        .collect();
    commands.insert("all".to_owned(), arguments(&root).collect());
    let tables = tables_of_flags(&read(DOCUMENT));
    let mut faults = Vec::new();
    for (names, table) in &tables {
        for name in names.iter().filter(|name| !commands.contains_key(*name)) {
            faults.push(format!("{DOCUMENT}, {}: there is no command {name:?}", table.section));
        }
    }
    for (name, arguments) in &commands {
        let own = || tables.iter().filter(|(names, _)| names.contains(name));
        let rows: Vec<&Vec<String>> = own().flat_map(|(_, table)| &table.rows).collect();
        let known: BTreeSet<String> = arguments.iter().map(|arg| flag(arg)).collect();
        for arg in arguments.iter().filter(|arg| name == "all" || !is_of(&of_all, arg)) {
            let shown = Shown::of(arg);
            match rows.iter().filter(|row| row[0] == shown.flag).collect::<Vec<_>>()[..] {
                [row] => faults.extend(
                    fault(row, &shown).map(|why| format!("`{name}`, {}: {why}", shown.flag)),
                ),
                [] => faults.push(format!("`{name}`: no table has the row\n{}", shown.row(arg))),
                [_, _, ..] => faults.push(format!("`{name}`: several rows have {}", shown.flag)),
            }
        }
        let unknown = rows.iter().filter(|row| !known.contains(&row[0]));
        faults.extend(unknown.map(|row| format!("`{name}` has no flag {} (any more)", row[0])));
    }
    none_of(&faults);
}

/// A command and those below it, by their names.
fn with_subcommands(command: &Command) -> Vec<(String, Vec<&Arg>)> {
    let name = command.get_name();
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below =
        below.map(|below| (format!("{name} {}", below.get_name()), arguments(below).collect()));
    std::iter::once((name.to_owned(), arguments(command).collect())).chain(below).collect()
}

/// Whether it is one of the flags of all commands.
fn is_of(of_all: &[&Arg], arg: &Arg) -> bool {
    of_all.iter().any(|of_all| of_all.get_id() == arg.get_id())
}

#[test]
fn the_settings_file_has_the_keys_of_the_document() {
    let table = tables(&read(DOCUMENT)).into_iter().find(|table| table.section == FILE);
    let rows = table.unwrap_or_else(|| panic!("{DOCUMENT} has no table under {FILE:?}")).rows;
    let documented: Vec<[&str; 3]> =
        rows.iter().map(|row| [0, 1, 2].map(|cell| row[cell].trim_matches('`'))).collect();
    let known: Vec<[&str; 3]> = holepunch_cli::SETTINGS_FILE_KEYS
        .iter()
        .map(|key| [key.name, key.variable, key.flag])
        .collect();
    assert_eq!(documented, known, "{DOCUMENT}, {FILE}: name, variable, flag");
}

/// The services, whose settings may all stand in a file.
const SERVICES: [&str; 3] = ["rendezvous", "relay", "worker"];

#[test]
fn the_settings_file_holds_every_setting_of_a_service_by_the_name_of_its_flag() {
    let root = holepunch_cli::command();
    let services = root.get_subcommands().filter(|it| SERVICES.contains(&it.get_name()));
    let mut expected = BTreeMap::new();
    for arg in services.flat_map(arguments).chain(arguments(&root)) {
        let Some(flag) = arg.get_long() else { continue };
        let variables = Shown::of(arg).variables.replace('`', "");
        let first = variables.split(", ").next().unwrap_or_default().to_owned();
        let is_of_people =
            holepunch_cli::SETTINGS_FILE_KEYS.iter().any(|key| key.variable == first);
        // The file cannot name another one.
        if first != "–" && first != "HOLEPUNCH_CONFIG" && !is_of_people {
            expected.insert(flag.replace('-', "_"), first);
        }
    }
    let known = holepunch_cli::SERVICE_KEYS;
    let faults: Vec<String> = expected
        .iter()
        .filter(|(name, of)| !known.iter().any(|key| key.name == *name && key.variable == **of))
        .map(|(name, of)| format!("SERVICE_KEYS (config_file/keys.rs) lacks {name:?}, {of:?}"))
        .chain(known.iter().filter(|key| !expected.contains_key(key.name)).map(|key| {
            format!("SERVICE_KEYS has {:?}, which is no flag with a variable (any more)", key.name)
        }))
        .collect();
    none_of(&faults);
    assert!(known.is_sorted_by_key(|key| key.name), "by name");
}

#[test]
fn every_variable_that_is_read_is_documented_and_no_other_is() {
    let text = read(DOCUMENT);
    let documented: BTreeSet<String> =
        code_spans(&text).into_iter().filter(|span| is_variable(span)).map(str::to_owned).collect();
    let mut read_by_code = BTreeSet::new();
    for folder in ["crates/cli/src", "crates/worker/src"] {
        for path in sources(&repository().join(folder)) {
            read_by_code.extend(literals(&std::fs::read_to_string(path).unwrap()));
        }
    }
    let mut faults = Vec::new();
    let unknown =
        |name: &&String| !documented.contains(*name) && !NO_VARIABLES.contains(&name.as_str());
    for name in read_by_code.iter().filter(unknown) {
        faults.push(format!(
            "{name} stands in the code: document it in {DOCUMENT}, or name it in NO_VARIABLES where it is no variable"
        ));
    }
    let gone = documented.iter().filter(|name| !read_by_code.contains(*name));
    faults.extend(gone.map(|name| format!("{DOCUMENT} names {name}, which no code reads")));
    none_of(&faults);
}

#[test]
fn no_other_crate_reads_variables() {
    let crates = std::fs::read_dir(repository().join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path());
    let others = crates.filter(|path| !path.ends_with("cli") && !path.ends_with("worker"));
    let files = others.flat_map(|path| sources(&path.join("src")));
    let reads =
        |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains("env::var");
    let faults: Vec<String> = files.filter(reads).map(|path| path.display().to_string()).collect();
    none_of(&faults);
}

#[test]
fn variables_without_a_flag_are_in_no_help_text() {
    let table = tables(&read(DOCUMENT)).into_iter().find(|table| table.section == WITHOUT_FLAG);
    let rows =
        table.unwrap_or_else(|| panic!("{DOCUMENT} has no table under {WITHOUT_FLAG:?}")).rows;
    let root = holepunch_cli::command();
    let commands = root.get_subcommands().chain([&root]);
    let in_help: Vec<String> = commands
        .flat_map(|command| command.get_arguments().map(|arg| Shown::of(arg).variables))
        .collect();
    for variable in rows.iter().flat_map(|row| code_spans(&row[0])) {
        let quoted = format!("`{variable}`");
        assert!(!in_help.iter().any(|named| named.contains(&quoted)), "{variable} has a flag");
    }
}

/// The files of a folder that are no tests.
fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests" || name == "testing");
        if path.is_dir() && !is_test {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
            found.push(path);
        }
    }
    found
}

/// The words in capitals between quotes, but for the names of values.
fn literals(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let names_a_value = |line: &&str| line.contains("value_name") || line.contains("id =");
    let lines =
        code.lines().filter(|line| !names_a_value(line) && !line.trim_start().starts_with("//"));
    let words = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    words.filter(|word| is_variable(word)).map(str::to_owned).collect()
}
