//! The hand-written form of an event's line is the derived one, in both directions.
mod common;

use common::{Dice, seed};

#[test]
fn the_writer_writes_what_the_derived_one_writes() {
    let mut dice = Dice::new(seed("writer"));
    let mut line = Vec::new();
    for _ in 0..100_000 {
        let event = dice.event();
        line.clear();
        event.write_line(&mut line);
        let derived = serde_json::to_string(&event).unwrap();
        assert_eq!(String::from_utf8(line.clone()).unwrap(), derived);
    }
}
