//! A container's standard streams as one socket.
//!
//! The engine gives one connection for all three. What the caller writes goes to the container's input; its output goes to
//! the caller, its error to a file. The ends are passed on, too: the caller's end of writing closes the container's input (it
//! was made with `StdinOnce`), and the container's end closes the socket.
//!
//! **Control's death** closes the connection, and with it the container's input: its program ends, and the engine removes it.
//!
//! **Flow.** Nothing is buffered here but one piece each way: a caller that does not read holds up the container's output,
//! and the container's input holds up the caller.
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use futures::{Stream, StreamExt};
use std::fs::File;
use std::io::Write;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Goes on until the container has ended or was lost.
pub(super) async fn pump(socket: UnixStream, container: AttachContainerResults, log: File) {
    let AttachContainerResults { output, input } = container;
    let (from_caller, to_caller) = socket.into_split();
    let outward = outward(output, to_caller, log);
    let inward = inward(from_caller, input);
    tokio::pin!(outward, inward);
    tokio::select! {
        () = &mut outward => {}
        // The input's end is not the output's: the container may have last words.
        () = &mut inward => outward.await,
    }
}

async fn inward(mut caller: impl AsyncRead + Unpin, mut input: Pin<Box<dyn AsyncWrite + Send>>) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = caller.read(&mut piece).await {
        if input.write_all(&piece[..count]).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    // Fails only if the container is gone.
    let _ = input.shutdown().await;
}

async fn outward(mut output: Output, mut caller: impl AsyncWrite + Unpin, mut log: File) {
    let mut listening = true;
    while let Some(Ok(piece)) = output.next().await {
        match piece {
            LogOutput::StdOut { message } if listening => listening = caller.write_all(&message).await.is_ok(),
            // Read on when nobody listens any more: the container is to end, and not to hang on a full pipe.
            LogOutput::StdOut { .. } | LogOutput::StdIn { .. } => {}
            LogOutput::StdErr { message } | LogOutput::Console { message } => {
                // A log that cannot be written (a full disk) must not end what it tells of.
                let _ = log.write_all(&message);
            }
        }
    }
}
