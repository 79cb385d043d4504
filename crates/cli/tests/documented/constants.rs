//! The values of constants, out of the source text: most of them are private to their module.

use std::path::PathBuf;

use crate::repository;

/// A value: a time in seconds, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Seconds(f64),
    Number(f64),
}

impl Value {
    fn number(self) -> Result<f64, String> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Seconds(seconds) => Err(format!("{seconds} s where a number is expected")),
        }
    }
}

/// The value of `crate::module::NAME`, of one field of it (`NAME.field`), or of a field of a type's default (`Type.field`).
///
/// # Errors
/// There is no such constant, or it is computed in a way that is not known here.
pub(crate) fn value(path: &str) -> Result<Value, String> {
    let (path, field) =
        path.split_once('.').map_or((path, None), |(path, field)| (path, Some(field)));
    let parts: Vec<&str> = path.split("::").collect();
    let [folder, modules @ .., name] = &parts[..] else { return Err(format!("{path} is no path")) };
    let text = source(folder, modules)?;
    let init = initializer(&text, name).ok_or_else(|| {
        format!("there is no constant {name} in the module {}", parts[..parts.len() - 1].join("::"))
    })?;
    let init = match field {
        None => init,
        Some(field) => {
            field_of(init, field).ok_or_else(|| format!("{name} has no field {field}"))?
        }
    };
    Expression { rest: init, text: &text, folder }.whole()
}

/// The text of a module.
fn source(folder: &str, modules: &[&str]) -> Result<String, String> {
    let source = repository().join("crates").join(folder).join("src");
    let below = source.join(modules.join("/"));
    let files: [PathBuf; 2] = if modules.is_empty() {
        [source.join("lib.rs"), source.join("main.rs")]
    } else {
        [below.with_extension("rs"), below.join("mod.rs")]
    };
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    text.ok_or_else(|| format!("there is no module {folder}::{}", modules.join("::")))
}

/// What stands between `=` and `;` of a constant, or what a type is by default.
fn initializer<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    if let Some((_, rest)) = text.split_once(&format!("const {name}: ")) {
        let (_, init) = rest.split_once(" =")?;
        return Some(init.split(';').next()?.trim());
    }
    let (_, rest) = text.split_once(&format!("impl Default for {name} {{"))?;
    Some(rest.split("\n}").next()?.trim())
}

fn field_of<'a>(init: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = init.split_once(&format!("{field}: "))?;
    Some(rest.split([',', '}', '\n']).next()?.trim())
}

/// Sums and products of numbers, times and other constants.
struct Expression<'a> {
    rest: &'a str,
    text: &'a str,
    folder: &'a str,
}

impl Expression<'_> {
    fn whole(mut self) -> Result<Value, String> {
        let value = self.sum()?;
        let rest = self.rest.trim();
        if rest.is_empty() { Ok(value) } else { Err(format!("{rest:?} is not understood here")) }
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        let taken = rest.strip_prefix(token);
        self.rest = taken.unwrap_or(rest);
        taken.is_some()
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut value = self.product()?;
        loop {
            let sign = if self.take("+") {
                1.0
            } else if self.take("-") {
                -1.0
            } else if self.take("<<") {
                let shift = self.product()?.number()?;
                value = Value::Number(value.number()? * shift.exp2());
                continue;
            } else {
                return Ok(value);
            };
            value = Value::Number(value.number()? + sign * self.product()?.number()?);
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.term()?;
        loop {
            if self.take("*") {
                value = Value::Number(value.number()? * self.term()?.number()?);
            } else if self.take("/") {
                value = Value::Number(value.number()? / self.term()?.number()?);
            } else if self.take("as ") {
                let _type = self.word();
            } else {
                return Ok(value);
            }
        }
    }

    fn word(&mut self) -> String {
        let rest = self.rest.trim_start();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.rest = &rest[end..];
        rest[..end].to_owned()
    }

    fn term(&mut self) -> Result<Value, String> {
        if self.take("(") {
            return self.closed();
        }
        let word = self.word();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic()).replace('_', "");
            return digits.parse().map(Value::Number).map_err(|why| format!("{word:?}: {why}"));
        }
        let unit = match word.as_str() {
            "Some" if self.take("(") => return self.closed(),
            "Duration::from_millis" => 1e-3,
            "Duration::from_secs" => 1.0,
            "Duration::from_mins" => 60.0,
            "Duration::from_hours" => 3600.0,
            _ => return self.other(&word),
        };
        if !self.take("(") {
            return Err(format!("{word} without an argument"));
        }
        Ok(Value::Seconds(self.closed()?.number()? * unit))
    }

    fn closed(&mut self) -> Result<Value, String> {
        let value = self.sum()?;
        if self.take(")") { Ok(value) } else { Err("a bracket is not closed".to_owned()) }
    }

    /// The value of another constant: of the same file, or else of whichever module of the same crate or of `wire` has it.
    fn other(&self, name: &str) -> Result<Value, String> {
        let name = name.rsplit("::").next().unwrap_or(name);
        if let Some(init) = initializer(self.text, name) {
            return Expression { rest: init, text: self.text, folder: self.folder }.whole();
        }
        for folder in [self.folder, "link", "wire"] {
            let found = files(&repository().join("crates").join(folder).join("src"));
            let text = found.into_iter().find(|text| initializer(text, name).is_some());
            if let Some(text) = &text
                && let Some(init) = initializer(text, name)
            {
                return Expression { rest: init, text, folder }.whole();
            }
        }
        Err(format!("{name:?} is not understood here"))
    }
}

/// The texts of all sources of a folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() { files(&path) } else { vec![std::fs::read_to_string(path).unwrap()] }
        })
        .collect()
}

#[test]
fn constants_are_read_as_the_compiler_reads_them() {
    use holepunch_programs::forward;
    let number = |path| value(path).unwrap().number().unwrap();
    assert_eq!(number("programs::forward::SERVED_MAX"), forward::SERVED_MAX as f64);
    assert_eq!(
        number("programs::bench::SECONDS_MAX"),
        f64::from(holepunch_programs::bench::SECONDS_MAX)
    );
    let (moved, unknown) = (value("programs::SERVED_MAX"), value("programs::no_module::X"));
    assert!(moved.is_err() && unknown.is_err(), "{moved:?} {unknown:?}");
    for (text, expected) in [
        ("64 * 1024", Value::Number(65_536.0)),
        ("1 << 11", Value::Number(2048.0)),
        ("2 * (1 + 2 * 8 as usize)", Value::Number(34.0)),
        ("Duration::from_millis(2_500)", Value::Seconds(2.5)),
        ("Duration::from_secs(24 * 3600)", Value::Seconds(86_400.0)),
    ] {
        assert_eq!(
            Expression { rest: text, text: "", folder: "wire" }.whole(),
            Ok(expected),
            "{text}"
        );
    }
    assert!(Expression { rest: "some(thing)", text: "", folder: "wire" }.whole().is_err());
}
