//! `holepunch invite`: a room and a secret for two, and the commands with them.

use std::process::ExitCode;

use bip39_lexical_data::WL_BIP39;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use crate::exit::Failure;
use crate::output;

/// Words of the list (BIP 39, English), and the bits that each of them is worth. A power of two: every
/// word is as likely as any other.
const LIST_WORDS: usize = 1 << WORD_BITS;
const WORD_BITS: u32 = 11;
const _: () = assert!(WL_BIP39.len() == LIST_WORDS);

/// Fewer words could be guessed in the end, one guess after another.
const WORDS_MIN: u16 = 4;
/// More would only be more to type: these have 264 bits.
const WORDS_MAX: u16 = 24;
/// Bytes of a room's name: two rooms never have the same one by chance.
const ROOM_BYTES: usize = 8;

/// Make up a room and a secret, and print the commands for both sides
///
/// Nobody is asked, and nothing is stored: the rendezvous learns the room's name when the first worker
/// enters it, and the words never.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch invite\n  \
    holepunch invite --words 8 --json\n\
    Tell the other side the words by a way that you trust. A peer that does not know them gets no link, \
    nor does a rendezvous that puts somebody in between. In a variable, ROOM_SECRET, they do not show \
    in the list of processes.")]
pub(crate) struct Args {
    /// How many words, from 4 to 24; each is worth 11 bits
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        value_parser = clap::value_parser!(u16).range(i64::from(WORDS_MIN)..=i64::from(WORDS_MAX))
    )]
    words: u16,
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
    /// The flags of any command that links.
    flags: String,
    commands: [String; 2],
}

impl Invitation {
    /// A fresh one, with so many words.
    fn new(words: u16) -> Result<Self, Failure> {
        let room: String = random(ROOM_BYTES)?.iter().map(|byte| format!("{byte:02x}")).collect();
        let room_secret = secret(&random(2 * usize::from(words))?);
        let flags = format!("--room {room} --room-secret \"{room_secret}\"");
        Ok(Self {
            commands: [
                format!("holepunch send {flags} FILE"),
                format!("holepunch receive {flags}"),
            ],
            room,
            room_secret,
            entropy_bits: u32::from(words) * WORD_BITS,
            flags,
        })
    }
}

/// Bytes from the system.
fn random(count: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; count];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(bytes)
}

/// A word for every two bytes.
fn secret(random: &[u8]) -> String {
    let (pairs, _) = random.as_chunks::<2>();
    let word = |pair: &[u8; 2]| WL_BIP39[usize::from(u16::from_be_bytes(*pair)) % LIST_WORDS];
    pairs.iter().map(word).collect::<Vec<_>>().join(" ")
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let invitation = Invitation::new(args.words)?;
    if args.json {
        output::json_line(&invitation);
    } else {
        print(&invitation);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(invitation: &Invitation) {
    let Invitation { room, room_secret, entropy_bits, flags, commands } = invitation;
    output::line(format!("room    {room}"));
    output::line(format!("secret  {room_secret}  ({entropy_bits} bits)"));
    output::line("");
    output::line("Files, here and there:");
    for command in commands {
        output::line(format!("  {command}"));
    }
    output::line("Any other command that links, on both sides, with:");
    output::line(format!("  {flags}"));
    output::line(
        "Both sides need the rendezvous, too: RENDEZVOUS_SERVICE_URL, or --rendezvous-url.",
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;
    use holepunch_wire::session::RoomName;
    use holepunch_worker::RoomSecret;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Option<u16> {
        let line = Line::try_parse_from([&["invite"], line].concat());
        line.ok().map(|line| line.args.words)
    }

    #[test]
    fn each_word_of_the_list_is_one_of_2048_and_needs_no_quotes() {
        let words: BTreeSet<&str> = WL_BIP39.iter().copied().collect();
        assert_eq!(words.len(), LIST_WORDS, "no word stands twice");
        let is_plain = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        assert!(words.iter().all(is_plain));
    }

    #[test]
    fn every_word_is_reached_by_as_many_numbers() {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..=u16::MAX {
            *counts.entry(secret(&number.to_be_bytes())).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), LIST_WORDS);
        assert!(counts.values().all(|count| *count == 32), "65,536 / 2,048");
    }

    #[test]
    fn an_invitation_has_its_words_and_no_two_are_alike() {
        for words in [WORDS_MIN, 6, WORDS_MAX] {
            let [first, second] = [(); 2].map(|()| Invitation::new(words).unwrap());
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
        let invitation = Invitation::new(6).unwrap();
        for command in &invitation.commands {
            let quoted = format!("\"{}\"", invitation.room_secret);
            assert!(command.contains(&quoted) && command.contains(&invitation.room), "{command}");
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
