//! `docs/limits.md` against the constants that its rows name.

use crate::constants::{Value, value};
use crate::markdown::{code_spans, tables};
use crate::{none_of, read};

const DOCUMENT: &str = "docs/limits.md";

/// The quantity at the beginning of a cell, such as `64 KiB` or `2,000 a second`.
fn quantity(cell: &str) -> Option<Value> {
    let end =
        cell.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | '.')).unwrap_or(cell.len());
    let number: f64 = cell[..end].replace(',', "").parse().ok()?;
    let unit = cell[end..].trim_start().split([' ', ',', ';', ':']).next().unwrap_or_default();
    Some(match unit {
        "ms" => Value::Seconds(number / 1e3),
        "s" => Value::Seconds(number),
        "min" => Value::Seconds(number * 60.0),
        "h" => Value::Seconds(number * 3600.0),
        "KiB" => Value::Number(number * 1024.0),
        "MiB" => Value::Number(number * 1024.0 * 1024.0),
        "MB" => Value::Number(number * 1e6),
        _ => Value::Number(number),
    })
}

/// What is wrong with a row, if anything is.
fn fault(row: &[String]) -> Option<String> {
    let [what, shown, _effect, constant] = row else {
        return Some(format!("{row:?} has not four cells"));
    };
    let [path] = code_spans(constant)[..] else {
        return Some(format!(
            "{what}: expected one constant in backticks, and the cell is {constant:?}"
        ));
    };
    let Some(documented) = quantity(shown) else {
        return Some(format!("{what}: expected a number with its unit, and the cell is {shown:?}"));
    };
    match value(path) {
        Err(why) => Some(format!("{what}: {path}: {why}")),
        Ok(real) if is_same(real, documented) => None,
        Ok(real) => Some(format!("{what}: the document says {shown}, and {path} is {real:?}")),
    }
}

fn is_same(one: Value, other: Value) -> bool {
    match (one, other) {
        (Value::Seconds(one), Value::Seconds(other))
        | (Value::Number(one), Value::Number(other)) => (one - other).abs() < 1e-9,
        (Value::Seconds(_), Value::Number(_)) | (Value::Number(_), Value::Seconds(_)) => false,
    }
}

#[test]
fn every_limit_has_the_value_of_its_constant() {
    let tables = tables(&read(DOCUMENT));
    assert!(tables.len() > 3, "{DOCUMENT} has its tables");
    let faults: Vec<String> =
        tables.iter().flat_map(|table| &table.rows).filter_map(|row| fault(row)).collect();
    none_of(&faults);
}

/// What bounds a program that uses the library stands in these.
const OF_THE_LIBRARY: [(&str, &str); 3] = [
    ("link::protocol", "crates/link/src/protocol.rs"),
    ("worker::handover", "crates/worker/src/handover.rs"),
    ("worker::worker", "crates/worker/src/worker.rs"),
];

#[test]
fn every_limit_of_the_library_stands_in_the_document() {
    let document = read(DOCUMENT);
    let mut faults = Vec::new();
    for (module, file) in OF_THE_LIBRARY {
        let text = read(file);
        let names = text.lines().filter_map(|line| {
            let (_, declared) =
                line.split_once("const ").filter(|(at, _)| matches!(*at, "" | "pub "))?;
            declared.split(':').next().filter(|name| name.ends_with("_MAX"))
        });
        let limits: Vec<String> = names.map(|name| format!("`{module}::{name}`")).collect();
        assert!(!limits.is_empty(), "{file} has none");
        faults.extend(limits.into_iter().filter(|limit| !document.contains(limit.as_str())));
    }
    none_of(&faults);
}

#[test]
fn a_limit_that_is_another_one_is_found() {
    let row = |value: &str, constant: &str| {
        let cells = ["connections", value, "reset", constant];
        fault(&cells.map(str::to_owned))
    };
    assert_eq!(row("2,000 connections", "`programs::forward::SERVED_MAX`"), None);
    assert!(row("2,001", "`programs::forward::SERVED_MAX`").unwrap().contains("SERVED_MAX is"));
    assert!(row("2,000 s", "`programs::forward::SERVED_MAX`").is_some(), "another unit");
    assert!(row("2,000", "`programs::forward::SERVED_MIN`").unwrap().contains("no constant"));
    assert!(row("many", "`programs::forward::SERVED_MAX`").is_some());
    assert!(row("2,000", "SERVED_MAX").is_some());
    assert_eq!(quantity("64 KiB of it"), Some(Value::Number(65_536.0)));
    assert_eq!(quantity("30 min"), Some(Value::Seconds(1800.0)));
}
