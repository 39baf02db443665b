//! From the fields of a map or object, in any order, to an event.
use super::{OpEvent, Speaker, Value};
use crate::event::Kind;
use crate::time::Nanos;

/// Which field a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Process,
    Type,
    F,
    Value,
    Key,
    Time,
    Error,
}

impl Field {
    /// `None`: a key that nobody here needs.
    pub(super) fn named(key: &str) -> Option<Field> {
        Some(match key {
            "process" => Field::Process,
            "type" => Field::Type,
            "f" => Field::F,
            "value" => Field::Value,
            "key" => Field::Key,
            "time" => Field::Time,
            "error" => Field::Error,
            _ => return None,
        })
    }
}

/// The fields that were there.
#[derive(Default)]
pub(super) struct Fields([Option<Value>; 7]);

impl Fields {
    /// Puts a field in; a second one of the same name is an error.
    pub(super) fn put(&mut self, field: Field, value: Value) -> Result<(), String> {
        let place = &mut self.0[field as usize];
        if place.is_some() {
            return Err(format!("{} is there twice", format!("{field:?}").to_lowercase()));
        }
        *place = Some(value);
        Ok(())
    }

    /// The event that began in `line`. `error` says what an error that is no text reads as.
    pub(super) fn event(self, line: u64, error: impl Fn(&Value) -> Box<str>) -> Result<OpEvent, String> {
        let [process, kind, f, value, key, time, why] = self.0;
        let process = match process {
            Some(Value::Int(n)) => Speaker::Client(n),
            Some(Value::Text(name)) => Speaker::Other(name),
            Some(_) => return Err("its process is neither a number nor a name".to_string()),
            None => return Err("it has no process".to_string()),
        };
        let kind = match kind {
            Some(Value::Text(word)) => self::kind(&word)?,
            Some(_) => return Err("its type is no word: it must be invoke, ok, fail or info".to_string()),
            None => return Err("it has no type".to_string()),
        };
        let f = match (f, &process) {
            (Some(Value::Text(f)), _) => f,
            (None | Some(Value::Nil), Speaker::Other(_)) => "".into(),
            (None | Some(Value::Nil), Speaker::Client(_)) => return Err("it has no f".to_string()),
            (Some(_), _) => return Err("its f is no word".to_string()),
        };
        let time = match time {
            Some(Value::Int(n)) => u64::try_from(n).ok().map(Nanos),
            _ => None,
        };
        let why = match why {
            None | Some(Value::Nil) => None,
            Some(Value::Text(text)) => Some(text),
            Some(other) => Some(error(&other)),
        };
        Ok(OpEvent {
            line,
            time,
            process,
            kind,
            f,
            key: key.filter(|key| *key != Value::Nil),
            value: value.unwrap_or_default(),
            error: why,
        })
    }
}

/// What a type's word means.
pub(super) fn kind(word: &str) -> Result<Kind, String> {
    Ok(match word {
        "invoke" => Kind::Invoke,
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        "info" => Kind::Info,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("its type is '{other}', not invoke, ok, fail or info"));
        }
    })
}
