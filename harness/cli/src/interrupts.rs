//! Interrupts: SIGINT, SIGTERM and SIGHUP, counted.
use tokio::signal::unix::{SignalKind, signal};

/// Calls `heard` with 1, 2, ... at each interrupt from now on, in a thread of its own.
pub fn watch(mut heard: impl FnMut(u32) + Send + 'static) {
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime for signals");
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
            let mut hangup = signal(SignalKind::hangup()).expect("SIGHUP can be caught");
            for count in 1.. {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
                heard(count);
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .expect("a thread for signals");
}
