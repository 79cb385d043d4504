//! The token that lets this side into its rendezvous, and to which rendezvous it goes.

use std::path::PathBuf;

use holepunch_worker::{RendezvousUrl, Token};

use crate::exit::Failure;
use crate::headings::MEETING;
use crate::secrets::Hidden;
use crate::settings::Environment;

/// The variables, the first of which is the setting in the file as well. The last one may be somebody else's, so it counts
/// only where it is like a token.
const VARIABLE: &str = "HOLEPUNCH_TOKEN";
const FILE_VARIABLE: &str = "HOLEPUNCH_TOKEN_FILE";
const SHARED_VARIABLE: &str = "TOKEN";
const RENDEZVOUS: &str = "RENDEZVOUS_SERVICE_URL";

/// The token.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TokenArgs {
    /// The token for a rendezvous that wants one
    ///
    /// Whoever runs the rendezvous gives it out. The variable does not show in lists of processes; `holepunch login` remembers it
    /// [env: HOLEPUNCH_TOKEN, TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = MEETING, hide_short_help = true)]
    token: Option<Hidden>,
    /// A file with this token in its first line
    ///
    /// It is read at each connection, so another token may be put there [env: HOLEPUNCH_TOKEN_FILE]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "token",
        help_heading = MEETING,
        hide_short_help = true
    )]
    token_file: Option<PathBuf>,
}

/// Who has named the rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// This side.
    Own,
    /// The other side, by a code: it gets no token that is meant for another one.
    Code,
}

impl TokenArgs {
    /// Whether a flag has it.
    pub(crate) fn is_given(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }

    /// The token for this rendezvous, where there is one. That of the settings file is for the rendezvous of the file alone.
    pub(crate) fn read(
        self,
        rendezvous: &RendezvousUrl,
        by: NamedBy,
        environment: &Environment,
    ) -> Result<Option<Token>, Failure> {
        if let Some(Hidden(text)) = self.token {
            return parsed(&text, "--token");
        }
        if let Some(path) = self.token_file {
            return Ok(Some(Token::of_file(path)));
        }
        let is_it = |text: Option<&str>| {
            let url = text.and_then(|text| text.parse::<RendezvousUrl>().ok());
            url.is_some_and(|url| url.public() == rendezvous.public())
        };
        let set = |name: &str| environment.get(name).filter(|text| !text.trim().is_empty());
        let own = environment.found(&[RENDEZVOUS]).map(|(_, text)| text);
        if by == NamedBy::Own || is_it(own) {
            if let Some(text) = set(VARIABLE) {
                return parsed(&text, "HOLEPUNCH_TOKEN (--token)");
            }
            if let Some(path) = set(FILE_VARIABLE) {
                return Ok(Some(Token::of_file(path)));
            }
            if let Some(Ok(token)) = set(SHARED_VARIABLE).map(|text| Token::new(&text)) {
                return Ok(Some(token));
            }
        }
        let file = environment.file();
        let of_file = |name: &str| file.get(name).filter(|text| !text.is_empty());
        match (of_file(VARIABLE), of_file(FILE_VARIABLE)) {
            _ if !is_it(file.get(RENDEZVOUS)) => Ok(None),
            (Some(text), _) => parsed(text, &file.place(VARIABLE)),
            (None, path) => Ok(path.map(Token::of_file)),
        }
    }
}

/// What is wrong with a token is told without it.
fn parsed(text: &str, place: &str) -> Result<Option<Token>, Failure> {
    Token::new(text).map(Some).map_err(|why| Failure::usage(format!("{place}: {why}")))
}

/// The token for this rendezvous that the environment or the settings file has.
pub(crate) fn token(
    rendezvous: &RendezvousUrl,
    environment: &Environment,
) -> Result<Option<Token>, Failure> {
    TokenArgs::default().read(rendezvous, NamedBy::Own, environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::ConfigFile;

    const OWN: &str = "https://own.example";

    fn read(
        url: &str,
        by: NamedBy,
        variables: &[(&str, &str)],
        file: &str,
    ) -> Result<Option<Token>, Failure> {
        let file = ConfigFile::of_text(file);
        let environment = Environment::of(variables).with_file(file);
        TokenArgs::default().read(&url.parse().unwrap(), by, &environment)
    }

    fn some(text: &str) -> Option<Token> {
        Some(Token::new(text).unwrap())
    }

    #[test]
    fn a_variable_is_over_the_file_and_one_of_a_common_name_counts_where_it_is_a_token() {
        let file = "rendezvous = \"https://own.example\"\ntoken = \"f.f.f\"";
        let of = |variables: &[(&str, &str)]| read(OWN, NamedBy::Own, variables, file).unwrap();
        assert_eq!(of(&[]), some("f.f.f"));
        assert_eq!(of(&[("TOKEN", "t.t.t")]), some("t.t.t"));
        assert_eq!(of(&[("TOKEN", "of something else")]), some("f.f.f"));
        assert_eq!(of(&[("TOKEN", "t.t.t"), ("HOLEPUNCH_TOKEN", "h.h.h")]), some("h.h.h"));
        assert_eq!(of(&[("HOLEPUNCH_TOKEN_FILE", "/x")]), Some(Token::of_file("/x")));
        let file = "rendezvous = \"https://own.example\"\ntoken_file = \"/f\"";
        assert_eq!(read(OWN, NamedBy::Own, &[], file).unwrap(), Some(Token::of_file("/f")));
        assert_eq!(read("https://other.example", NamedBy::Own, &[], file).unwrap(), None);
        let failure = read(OWN, NamedBy::Own, &[("HOLEPUNCH_TOKEN", "secret")], "").unwrap_err();
        let text = format!("{failure:?}");
        assert!(text.contains("HOLEPUNCH_TOKEN") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_rendezvous_that_others_name_gets_no_token_of_another_one() {
        let file = "rendezvous = \"https://own.example\"\ntoken = \"f.f.f\"";
        let variable = [("HOLEPUNCH_TOKEN", "h.h.h")];
        let other = "https://other.example";
        assert_eq!(read(other, NamedBy::Own, &[], file).unwrap(), None);
        assert_eq!(read(other, NamedBy::Own, &variable, file).unwrap(), some("h.h.h"));
        assert_eq!(read(other, NamedBy::Code, &variable, file).unwrap(), None);
        assert_eq!(read(OWN, NamedBy::Code, &variable, file).unwrap(), some("h.h.h"));
        assert_eq!(read(OWN, NamedBy::Code, &[], file).unwrap(), some("f.f.f"));
        let unsafe_scheme = "http://own.example";
        assert_eq!(read(unsafe_scheme, NamedBy::Code, &variable, file).unwrap(), None);
    }
}
