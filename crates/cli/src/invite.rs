//! `holepunch invite`: a room and a secret for two, and the commands with them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use holepunch_worker::RendezvousUrl;
use serde::Serialize;

use crate::code::{WORD_BITS, WORDS_MAX, random_hex, random_words};
use crate::config_file::{create, replace};
use crate::exit::Failure;
use crate::output;
use crate::peering::rendezvous_url;
use crate::settings::Environment;

/// Fewer words could be guessed in the end, one guess after another.
const WORDS_MIN: u16 = 4;
/// Bytes of a room's name: two rooms never have the same one by chance.
const ROOM_BYTES: usize = 8;

/// Make up a room and a secret for two that meet again and again
///
/// It prints whole commands for both sides. Nobody is asked, and nothing is stored: the rendezvous learns the room's name when the first worker
/// enters it, and the words never.
///
/// For two that meet again and again, or by scripts; for one time, a code is shorter (holepunch send FILE). Tell the
/// other side by a way that you trust. A peer that does not know the words gets no link, nor does a rendezvous that puts
/// somebody in between.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch invite\n  \
    holepunch invite --secret-file words\n  \
    holepunch invite --words 8 --json")]
pub(crate) struct Args {
    /// How many words, from 4 to 24; each is worth 11 bits
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        value_parser = clap::value_parser!(u16).range(i64::from(WORDS_MIN)..=i64::from(WORDS_MAX))
    )]
    words: u16,
    /// Write the words into this file, and print them nowhere
    ///
    /// It is its owner's alone; the other side needs a copy. A file that is there is left as it is
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Replace the file of --secret-file where there is one
    #[arg(long, requires = "secret_file")]
    force: bool,
    /// The rendezvous of the commands [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL")]
    rendezvous_url: Option<String>,
    /// Print a JSON object, in one line
    #[arg(long)]
    json: bool,
}

/// What two need to meet.
#[derive(Debug, Serialize)]
struct Invitation {
    room: String,
    /// The words, where no file has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    room_secret: Option<String>,
    /// The file that has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    room_secret_file: Option<String>,
    /// What whoever guesses is up against: two to the power of this.
    entropy_bits: u32,
    /// What any command that links is run with. The words stand in a variable or in a file, and so not in the list of processes.
    variables: String,
    commands: [String; 2],
}

impl Invitation {
    /// One with these words, or with the file that has them.
    fn new(words: &str, file: Option<&Path>, rendezvous: &RendezvousUrl) -> Result<Self, Failure> {
        let room = random_hex(ROOM_BYTES)?;
        let file = file.map(|path| path.display().to_string());
        let secret = match &file {
            Some(path) => format!("ROOM_SECRET_FILE={}", quoted(path)),
            None => format!("ROOM_SECRET={}", quoted(words)),
        };
        let url = rendezvous.public();
        let variables = format!("RENDEZVOUS_SERVICE_URL={url} ROOM={room} {secret}");
        Ok(Self {
            commands: [
                format!("{variables} holepunch send FILE"),
                format!("{variables} holepunch receive"),
            ],
            room,
            room_secret: file.is_none().then(|| words.to_owned()),
            room_secret_file: file,
            entropy_bits: words.split(' ').map(|_| WORD_BITS).sum(),
            variables,
        })
    }
}

/// A word of a shell's command line.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let rendezvous = rendezvous_url(args.rendezvous_url, environment)?;
    let words = random_words(args.words, usize::MAX)?.join(" ");
    let invitation = Invitation::new(&words, args.secret_file.as_deref(), &rendezvous)?;
    if let Some(path) = &args.secret_file {
        write(path, &words, args.force)?;
    }
    if args.json {
        output::json_line(&invitation);
    } else {
        print(&invitation);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the words into a file, in the place of one that is there where that is wanted.
fn write(path: &Path, words: &str, force: bool) -> Result<(), Failure> {
    let line = format!("{words}\n");
    let written = if force { replace(path, &line) } else { create(path, &line) };
    written.map_err(|error| {
        let path = path.display();
        if error.kind() == ErrorKind::AlreadyExists {
            return Failure::usage(format!(
                "{path} is there, and is left as it is: name another file, or give --force to replace this one"
            ));
        }
        Failure::failed(format!("cannot write the words into {path}: {error}"))
    })
}

fn print(invitation: &Invitation) {
    let Invitation { room, room_secret, room_secret_file, entropy_bits, variables, commands } =
        invitation;
    output::line(format!("room    {room}"));
    if let Some(words) = room_secret {
        output::line(format!("secret  {words}  ({entropy_bits} bits)"));
    }
    if let Some(path) = room_secret_file {
        output::line(format!("secret  in the file {path}  ({entropy_bits} bits)"));
        output::line("The other side needs a copy of it, by a way that you trust.");
    }
    output::line("");
    output::line("Files, here and there:");
    for command in commands {
        output::command(command);
    }
    output::line("A chat (or pipe, or bench), on both sides:");
    output::command(&format!("{variables} holepunch chat"));
    output::line("A port, on the side that has it and on the one that uses it:");
    output::command(&format!("{variables} holepunch forward --allow 127.0.0.1:22"));
    output::command(&format!("{variables} holepunch forward -L 2222:127.0.0.1:22"));
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use holepunch_wire::session::RoomName;
    use holepunch_worker::RoomSecret;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn invitation(words: u16, file: Option<&str>) -> (String, Invitation) {
        let url = "https://u:secret@a.example".parse().unwrap();
        let words = random_words(words, usize::MAX).unwrap().join(" ");
        let invitation = Invitation::new(&words, file.map(Path::new), &url).unwrap();
        (words, invitation)
    }

    fn parsed(line: &[&str]) -> Option<u16> {
        let line = Line::try_parse_from([&["invite"], line].concat());
        line.ok().map(|line| line.args.words)
    }

    #[test]
    fn an_invitation_has_its_words_and_no_two_are_alike() {
        for words in [WORDS_MIN, 6, WORDS_MAX] {
            let [first, second] = [(); 2].map(|()| invitation(words, None).1);
            let secret = first.room_secret.unwrap();
            assert_eq!(secret.split(' ').count(), usize::from(words));
            assert_eq!(first.entropy_bits, u32::from(words) * 11);
            assert_eq!(RoomSecret::new(&secret).reveal(), secret);
            assert_ne!(Some(secret), second.room_secret);
            assert_ne!(first.room, second.room);
            assert!(RoomName::new(&first.room).is_ok_and(|room| !room.is_default()));
        }
    }

    #[test]
    fn both_commands_take_the_room_and_the_words() {
        let (words, invitation) = invitation(6, None);
        for command in &invitation.commands {
            let quoted = format!("ROOM_SECRET='{words}' ");
            assert!(command.contains(&quoted) && command.contains(&invitation.room), "{command}");
            let at = "RENDEZVOUS_SERVICE_URL=https://a.example ";
            assert!(command.starts_with(at), "a password is not passed on: {command}");
            let (_, arguments) = command.split_once("holepunch").unwrap();
            assert!(!arguments.contains(&words), "{command}");
        }
    }

    #[test]
    fn where_a_file_has_the_words_nothing_else_shows_them() {
        for (path, as_word) in [("words", "words"), ("my wörds's", r"'my wörds'\''s'")] {
            let (words, invitation) = invitation(6, Some(path));
            assert!(!format!("{invitation:?}").contains(&words), "{invitation:?}");
            let variable = format!(" ROOM_SECRET_FILE={as_word}");
            assert!(invitation.variables.ends_with(&variable), "{invitation:?}");
            assert_eq!(invitation.entropy_bits, 66);
        }
    }

    #[test]
    fn too_few_words_are_refused() {
        assert_eq!(parsed(&[]), Some(6));
        assert_eq!(parsed(&["--words", "4"]), Some(4));
        for words in ["3", "0", "25", "-1", "six"] {
            assert_eq!(parsed(&["--words", words]), None, "{words}");
        }
    }
}
