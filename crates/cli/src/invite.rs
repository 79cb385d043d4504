//! `holepunch invite`: a room and a secret for two, and the commands with them.

use std::process::ExitCode;

use holepunch_worker::RendezvousUrl;
use serde::Serialize;

use crate::code::{WORD_BITS, WORDS_MAX, random_hex, random_words};
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
    room_secret: String,
    /// What whoever guesses is up against: two to the power of this.
    entropy_bits: u32,
    /// What any command that links is run with. The words stand in a variable, and so not in the list of processes.
    variables: String,
    commands: [String; 2],
}

impl Invitation {
    /// A fresh one, with so many words.
    fn new(words: u16, rendezvous: &RendezvousUrl) -> Result<Self, Failure> {
        let room = random_hex(ROOM_BYTES)?;
        let room_secret = random_words(words, usize::MAX)?.join(" ");
        let url = rendezvous.public();
        let variables =
            format!("RENDEZVOUS_SERVICE_URL={url} ROOM={room} ROOM_SECRET='{room_secret}'");
        Ok(Self {
            commands: [
                format!("{variables} holepunch send FILE"),
                format!("{variables} holepunch receive"),
            ],
            room,
            room_secret,
            entropy_bits: u32::from(words) * WORD_BITS,
            variables,
        })
    }
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let rendezvous = rendezvous_url(args.rendezvous_url, environment)?;
    let invitation = Invitation::new(args.words, &rendezvous)?;
    if args.json {
        output::json_line(&invitation);
    } else {
        print(&invitation);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(invitation: &Invitation) {
    let Invitation { room, room_secret, entropy_bits, variables, commands } = invitation;
    output::line(format!("room    {room}"));
    output::line(format!("secret  {room_secret}  ({entropy_bits} bits)"));
    output::line("");
    output::line("Files, here and there:");
    for command in commands {
        output::command(command);
    }
    output::line("Any other command that links (chat, pipe, forward, bench), on both sides:");
    output::command(&format!("{variables} holepunch chat"));
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

    fn url() -> RendezvousUrl {
        "https://u:secret@a.example".parse().unwrap()
    }

    fn parsed(line: &[&str]) -> Option<u16> {
        let line = Line::try_parse_from([&["invite"], line].concat());
        line.ok().map(|line| line.args.words)
    }

    #[test]
    fn an_invitation_has_its_words_and_no_two_are_alike() {
        for words in [WORDS_MIN, 6, WORDS_MAX] {
            let [first, second] = [(); 2].map(|()| Invitation::new(words, &url()).unwrap());
            assert_eq!(first.room_secret.split(' ').count(), usize::from(words));
            assert_eq!(first.entropy_bits, u32::from(words) * 11);
            assert_eq!(RoomSecret::new(&first.room_secret).reveal(), first.room_secret);
            assert_ne!(first.room_secret, second.room_secret);
            assert_ne!(first.room, second.room);
            assert!(RoomName::new(&first.room).is_ok_and(|room| !room.is_default()));
        }
    }

    #[test]
    fn both_commands_take_the_room_and_the_words() {
        let invitation = Invitation::new(6, &url()).unwrap();
        for command in &invitation.commands {
            let quoted = format!("ROOM_SECRET='{}' ", invitation.room_secret);
            assert!(command.contains(&quoted) && command.contains(&invitation.room), "{command}");
            let at = "RENDEZVOUS_SERVICE_URL=https://a.example ";
            assert!(command.starts_with(at), "a password is not passed on: {command}");
            let (_, arguments) = command.split_once("holepunch").unwrap();
            assert!(!arguments.contains(&invitation.room_secret), "{command}");
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
