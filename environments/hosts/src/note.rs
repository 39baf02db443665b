//! Words on standard error that must not cost anything.
//!
//! On a foreign host, standard error is a connection to control like the others, and may be gone. `eprintln!` then panics, and
//! what panics heals nobody.

/// As `eprintln!`, but what nobody reads is dropped.
macro_rules! note {
    ($($word:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($word)*);
    }};
}
