//! Text for people: what hosts said, made visible, and numbers in the units that people read.
//!
//! Everything that a host printed is hostile. Escaping for HTML is maud's; what escaping does not touch is text that
//! changes how *other* text looks: control characters, and the invisible characters that turn the direction of reading
//! ("Trojan Source", Boucher and Anderson 2021). [`visible`] spells those out.
use splitbrain_core::Nanos;
use std::borrow::Cow;

/// Text with every control, direction and zero-width character spelled out: `␛`, `⟨U+202E⟩`. A newline becomes `␤`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c as u32 {
            10 => out.push('␤'),
            n @ 0..=31 => out.push(char::from_u32(0x2400 + n).expect("a control picture")),
            127 => out.push('␡'),
            n if is_hidden(c) => out.push_str(&format!("⟨U+{n:04X}⟩")),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c as u32,
            0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB
            | 0xE0000..=0xE007F)
}

/// The first `max` characters of what [`visible`] makes of `text`, with `…` where something was left out.
pub fn clip(text: &str, max: usize) -> String {
    let text = visible(text);
    if text.chars().count() <= max {
        return text.into_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// JSON that may stand inside a `<script>` element: no character in it can end the element or open a comment.
pub fn script_json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out
}

/// A span or instant with a unit and three or four digits: `850 µs`, `12.3 ms`, `4.20 s`, `2 min 5 s`, `5 h 3 min`,
/// `11 d 13 h`.
pub fn span(n: Nanos) -> String {
    let s = n.as_secs_f64();
    match n.0 {
        0 => "0 s".into(),
        n if n < 1_000_000 => format!("{} µs", n / 1_000),
        n if n < 100_000_000 => format!("{:.1} ms", s * 1e3),
        n if n < 1_000_000_000 => format!("{:.0} ms", s * 1e3),
        n if n < 120_000_000_000 => format!("{s:.2} s"),
        n if n < 3_600_000_000_000 => format!("{} min {} s", n / 60_000_000_000, n / 1_000_000_000 % 60),
        n if n < 172_800_000_000_000 => format!("{} h {} min", n / 3_600_000_000_000, n / 60_000_000_000 % 60),
        n => format!("{} d {} h", n / 86_400_000_000_000, n / 3_600_000_000_000 % 24),
    }
}

/// An instant in seconds with three decimals: `12.346`.
pub fn instant(n: Nanos) -> String {
    format!("{}.{:03}", n.0 / 1_000_000_000, n.0 / 1_000_000 % 1_000)
}

/// A count with thin spaces between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(c);
    }
    out
}

/// `1 election`, `2 elections`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A measured figure: three significant digits, no trailing noise.
pub fn figure(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if !v.is_finite() => return format!("{value} {unit}").trim_end().to_string(),
        v if v == v.trunc() && v < 1e15 => 0,
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}").trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_spelled_out_and_others_left_alone() {
        assert_eq!(visible("plain text, é, 日本, שלום"), "plain text, é, 日本, שלום");
        assert_eq!(visible("a\u{202e}b\u{1b}[31m\nc\0\u{85}"), "a⟨U+202E⟩b␛[31m␤c␀⟨U+0085⟩");
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("abcd", 4), "abcd");
    }

    #[test]
    fn json_in_a_script_cannot_end_it() {
        let json = script_json(&serde_json::json!({"x": "</script><!-- & \u{2028}"}));
        assert!(!json.contains(['<', '>', '&', '\u{2028}']), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["x"], "</script><!-- & \u{2028}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(span(Nanos::millis(4_200)), "4.20 s");
        assert_eq!(span(Nanos::secs(125)), "2 min 5 s");
        assert_eq!(span(Nanos::secs(3_599)), "59 min 59 s");
        assert_eq!(span(Nanos::secs(3_600)), "1 h 0 min");
        assert_eq!(span(Nanos::secs(16_665 * 60)), "11 d 13 h");
        assert_eq!(instant(Nanos::millis(12_346)), "12.346");
        assert_eq!(count(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(figure(0.12345, "s"), "0.123 s");
        assert_eq!(figure(12.0, ""), "12");
    }
}
