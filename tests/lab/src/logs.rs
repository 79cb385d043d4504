//! The programs' logs: JSON objects, one a line.

use std::time::Duration;

use serde_json::{Map, Value};

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;

/// A line that a program wrote.
#[derive(Debug, Clone)]
pub struct Line {
    text: String,
    fields: Map<String, Value>,
}

impl Line {
    pub(crate) fn new(text: String) -> Self {
        let fields = match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => Map::new(),
        };
        Self { text, fields }
    }

    /// The whole line.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        self.string("message").unwrap_or_default()
    }

    /// A field that is a text.
    #[must_use]
    pub fn string(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<f64> {
        self.fields.get(field)?.as_f64()
    }

    /// A field that is a whole number.
    #[must_use]
    pub fn count(&self, field: &str) -> Option<u64> {
        self.fields.get(field)?.as_u64()
    }

    /// A field that is true or false.
    #[must_use]
    pub fn flag(&self, field: &str) -> Option<bool> {
        self.fields.get(field)?.as_bool()
    }

    /// When it was written, since 1970.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        since_epoch(self.string("time")?)
    }
}

/// Reads a time as `2026-11-21T02:57:22.950028Z`.
fn since_epoch(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hours, minutes) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let (seconds, fraction) = time.next()?.split_once('.')?;
    let seconds = seconds.parse::<i64>().ok()?;
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Years that begin in March have their odd day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_EPOCH;
    let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some(Duration::new(seconds.try_into().ok()?, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let read = |text| since_epoch(text).map(|time| time.as_micros());
        assert_eq!(read("1970-01-01T00:00:00.000001Z"), Some(1));
        assert_eq!(read("2000-02-29T12:34:56.5Z"), Some(951_827_696_500_000));
        assert_eq!(read("2026-11-21T02:57:22.950028Z"), Some(1_795_229_842_950_028));
        for text in ["", "2026-11-21", "2026-11-21T02:57:22.9", "xT1:2:3.4Z", "1-1-1T1:2Z"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn fields_are_found_and_a_line_that_is_no_object_has_none() {
        let line = Line::new(r#"{"message":"link established","rtt_ms":0.5}"#.to_owned());
        assert_eq!((line.message(), line.number("rtt_ms")), ("link established", Some(0.5)));
        assert_eq!((line.string("rtt_ms"), line.time()), (None, None));
        let line = Line::new("thread panicked".to_owned());
        assert_eq!((line.message(), line.text()), ("", "thread panicked"));
    }
}
