//! The plan as the text that a plan file holds.
use crate::text::visible;
use serde_json::Value;
use std::fmt::Write;

/// A JSON object as TOML: plain keys first, then tables, then arrays of tables. Hidden characters are spelled out, so
/// what is read is what is there; the store's `plan.toml` is the file to run from.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    table(&mut out, "", value);
    visible_lines(&out)
}

fn visible_lines(text: &str) -> String {
    text.lines().map(|line| visible(line) + "\n").collect()
}

fn table(out: &mut String, path: &str, value: &Value) {
    let Value::Object(map) = value else { return };
    for (key, v) in map.iter().filter(|(_, v)| !is_table(v) && !v.is_null()) {
        let _ = writeln!(out, "{} = {v}", name(key));
    }
    for (key, v) in map.iter().filter(|(_, v)| is_table(v)) {
        let path = if path.is_empty() {
            name(key)
        } else {
            format!("{path}.{}", name(key))
        };
        match v {
            Value::Array(rows) => {
                for row in rows {
                    let _ = write!(out, "\n[[{path}]]\n");
                    table(out, &path, row);
                }
            }
            _ => {
                let _ = write!(out, "\n[{path}]\n");
                table(out, &path, v);
            }
        }
    }
}

fn is_table(v: &Value) -> bool {
    match v {
        Value::Object(_) => true,
        Value::Array(rows) => rows.first().is_some_and(Value::is_object),
        _ => false,
    }
}

fn name(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare {
        key.to_string()
    } else {
        Value::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_keys_come_before_tables() {
        let plan = json!({
            "faults": {"kinds": ["kill", "pause"], "every": "4s"},
            "script": [{"at": "5s", "fault": "kill"}],
            "system": "raft", "seed": null, "rate": 20.0, "options": {"a b": "x\u{202e}"},
        });
        assert_eq!(
            write(&plan),
            "rate = 20.0\nsystem = \"raft\"\n\n[faults]\nevery = \"4s\"\nkinds = [\"kill\",\"pause\"]\n\n\
             [options]\n\"a b\" = \"x⟨U+202E⟩\"\n\n[[script]]\nat = \"5s\"\nfault = \"kill\"\n"
        );
    }
}
