//! The readers against the derived deserializer.
//!
//! The random events are those of the tests beside the crate. What is tested here, and cannot be seen from there, is that
//! each reader takes what it is for: one that refused everything would be right, and slow.
use super::{fixed, free};
use crate::event::{Body, Event};
use std::hash::{BuildHasher, Hasher};

#[path = "../../tests/common/dice.rs"]
#[allow(dead_code)]
mod dice;
use dice::Dice;

fn dice(test: &str) -> Dice {
    let seed = std::hash::RandomState::new().build_hasher().finish();
    println!("{test}: seed {seed}");
    Dice::new(seed)
}

fn is_rare(event: &Event) -> bool {
    matches!(event.body, Body::Fault(_) | Body::Heal(_) | Body::Aim { .. })
}

#[test]
fn the_fixed_order_is_read_without_help() {
    let mut dice = dice("fixed");
    let mut read = Event::blank();
    for _ in 0..50_000 {
        let event = dice.event();
        let mut line = serde_json::to_vec(&event).unwrap();
        let plain = !line.contains(&b'\\') && !is_rare(&event);
        for ending in ["", "\n", "\n{\"index\":"] {
            line.extend_from_slice(ending.as_bytes());
            let taken = fixed::fixed(&line, &mut read);
            assert_eq!(taken.is_some(), plain, "{}", String::from_utf8_lossy(&line));
            if plain {
                assert_eq!((&read, taken), (&event, Some(line.len() - ending.len())));
            }
            line.truncate(line.len() - ending.len());
        }
    }
}

/// `json` with its keys in another order, at every depth, and blanks here and there.
fn shuffle(dice: &mut Dice, json: &serde_json::Value, out: &mut String) {
    let gap = |dice: &mut Dice| dice.of(&["", "", "", " ", "\t", "\r\n"]);
    out.push_str(gap(dice));
    match json {
        serde_json::Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            for last in (1..pairs.len()).rev() {
                pairs.swap(last, dice.below(last as u64 + 1) as usize);
            }
            out.push('{');
            for (n, (key, value)) in pairs.into_iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                out.push_str(gap(dice));
                out.push_str(&serde_json::to_string(key).unwrap());
                out.push_str(gap(dice));
                out.push(':');
                shuffle(dice, value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    out.push_str(gap(dice));
}

#[test]
fn any_key_order_is_read_without_the_derived_deserializer() {
    let mut dice = dice("free");
    let mut read = Event::blank();
    for _ in 0..50_000 {
        let event = dice.event();
        let mut line = String::new();
        shuffle(&mut dice, &serde_json::to_value(&event).unwrap(), &mut line);
        let taken = free::free(line.as_bytes(), &mut read).is_some();
        let escaped = line.contains('\\');
        assert_eq!(taken, !is_rare(&event) && !escaped, "{line}");
        if taken {
            assert_eq!(read, event, "{line}");
        }
        assert_eq!(Event::read_line(line.as_bytes()).unwrap(), event);
    }
}
