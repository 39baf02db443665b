//! What happens once a host has let us in.
use crate::rig::{Proxy, Rig, Wish, one};
use nix::sys::signal::Signal;
use splitbrain_environments::remote::Remote;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread;

/// Sends, and expects the same back.
#[track_caller]
fn echoes(stream: &mut UnixStream) {
    stream.write_all(b"hello\n").unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello\n");
}

#[track_caller]
fn line(stream: &mut UnixStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[track_caller]
fn ends(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the stream did not end");
    }
}

#[test]
fn an_agent_runs_as_root_and_ends_with_its_stream() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    assert_eq!(remote.describe(), format!("ssh host root@{}", rig.address));
    let mut stream = rig.start(&*remote, &["who", "a b"]).unwrap();
    assert_eq!(line(&mut stream), "0 a b");
    echoes(&mut stream);
    // Reached at a loopback address: that is not the host's own.
    assert_eq!(remote.address(), None);
    drop(stream);
    remote.release().unwrap();
    rig.all_ended();
    remote.release().unwrap();
    assert_eq!(rig.log(), "");
}

#[test]
fn the_end_of_input_is_told_and_the_rest_still_comes() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words");
    // It ended by itself: nobody lost patience with it.
    remote.release().unwrap();
    assert_eq!(rig.log(), "");
}

#[test]
fn how_an_agent_ended_is_in_the_log() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    let mut stream = rig.start(&*remote, &["fail"]).unwrap();
    ends(&mut stream);
    remote.release().unwrap();
    assert_eq!(
        rig.log(),
        "it went wrong\nsplitbrain: what ran there ended: exit status 7\n"
    );
}

#[test]
fn what_a_profile_prints_is_no_answer() {
    let rig = Rig::with(&Wish {
        shell: "DIR/noisy".to_string(),
        ..Wish::default()
    });
    let remote = rig.remote("worker");
    let mut stream = rig.start(&*remote, &["who", "x"]).unwrap();
    assert_eq!(line(&mut stream), "0 x");
    echoes(&mut stream);
}

#[test]
fn a_program_is_copied_once() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    echoes(&mut rig.start(&*remote, &["echo"]).unwrap());
    let [copy] = &rig.copies("root")[..] else {
        panic!("there is one copy")
    };
    assert_eq!(fs::read(copy).unwrap(), fs::read(rig.path("program")).unwrap());
    let first = fs::metadata(copy).unwrap();
    // Another list of hosts, as another run would make it.
    let again = rig.remote("root");
    echoes(&mut rig.start(&*again, &["echo"]).unwrap());
    let second = fs::metadata(copy).unwrap();
    assert_eq!((first.ino(), first.mtime_nsec()), (second.ino(), second.mtime_nsec()));

    // A copy that is not whole is made anew, and another program has its own place.
    fs::write(copy, "#!/bin/sh\n").unwrap();
    echoes(&mut rig.start(&*again, &["echo"]).unwrap());
    assert_eq!(fs::read(copy).unwrap(), fs::read(rig.path("program")).unwrap());
    let longer = format!("{}# and more\n", crate::rig::PROGRAM);
    fs::write(rig.path("program"), longer).unwrap();
    echoes(&mut rig.start(&*rig.remote("root"), &["echo"]).unwrap());
    assert_eq!(rig.copies("root").len(), 2, "{:?}", rig.copies("root"));
}

#[test]
fn another_user_becomes_root() {
    let rig = Rig::new();
    let remote = rig.remote("worker");
    let mut stream = rig.start(&*remote, &["who", "x"]).unwrap();
    assert_eq!(line(&mut stream), "0 x");
    echoes(&mut stream);
    assert_eq!(rig.copies("worker").len(), 1);
    drop(stream);
    remote.release().unwrap();
    rig.all_ended();
}

#[test]
fn who_may_not_become_root_is_refused() {
    let rig = Rig::new();
    let text = rig.refused(&rig.settings("limited"));
    assert!(text.contains("user limited may not become root"), "{text}");
    assert!(text.contains("limited ALL=(ALL) NOPASSWD: ALL"), "{text}");
    assert!(rig.copies("limited").is_empty());
}

/// Sends much, reads it back, while as much comes on the error output.
fn floods(rig: &Rig, remote: &dyn Remote) {
    const TOTAL: usize = 50_000_000;
    let bytes = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let mut stream = rig.start(remote, &["noise"]).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let all: Vec<u8> = (0..TOTAL).map(bytes).collect();
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut at, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            n => {
                let wrong = buffer[..n].iter().enumerate().find(|(i, byte)| **byte != bytes(at + i));
                assert_eq!(wrong, None, "after {at} bytes");
                at += n;
            }
        }
    }
    sender.join().unwrap();
    assert_eq!(at, TOTAL);
    remote.release().unwrap();
    assert_eq!(fs::metadata(rig.path("log")).unwrap().len(), 16_000_000);
}

#[test]
fn much_goes_both_ways_beside_a_flood_of_errors() {
    let rig = Rig::new();
    floods(&rig, &*rig.remote("root"));
}

#[test]
fn much_goes_through_sudo() {
    let rig = Rig::new();
    floods(&rig, &*rig.remote("worker"));
}

#[test]
fn much_goes_through_a_jump_host() {
    let (jump, rig) = (Rig::new(), Rig::new());
    floods(&rig, &*one(&crate::meeting::through(&jump, &rig)));
}

#[test]
fn a_stopped_sshd_is_noticed() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    echoes(&mut stream);
    rig.signal(Signal::SIGSTOP);
    // What we send meanwhile is taken by the kernel and must not count as life.
    stream.write_all(b"anybody there?").unwrap();
    ends(&mut stream);
    remote.release().unwrap();
    assert!(rig.log().contains("no sign of life"), "{}", rig.log());
}

#[test]
fn a_silent_network_is_noticed_also_under_load() {
    let rig = Rig::new();
    let proxy = Proxy::to(rig.address);
    let mut settings = rig.settings("root");
    settings.hosts = vec![format!("root@{}", proxy.address)];
    let known = fs::read_to_string(rig.path("known_hosts")).unwrap();
    let known = known.replace(&rig.address.port().to_string(), &proxy.address.port().to_string());
    fs::write(rig.path("known_hosts"), known).unwrap();
    let remote = one(&settings);
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    echoes(&mut stream);
    proxy.fall_silent();
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || while writer.write_all(&[7; 65536]).is_ok() {});
    ends(&mut stream);
    sender.join().unwrap();
    remote.release().unwrap();
    assert!(rig.log().contains("the connection was lost"), "{}", rig.log());
}

#[test]
fn a_jump_host_that_dies_is_noticed() {
    let (jump, rig) = (Rig::new(), Rig::new());
    let remote = one(&crate::meeting::through(&jump, &rig));
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    echoes(&mut stream);
    jump.signal(Signal::SIGKILL);
    ends(&mut stream);
    remote.release().unwrap();
}

#[test]
fn a_peer_that_lives_may_be_silent_for_long() {
    // Nothing happens for longer than it takes to be taken for dead.
    let rig = Rig::new();
    let remote = rig.remote("root");
    let mut stream = rig.start(&*remote, &["echo"]).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(9)))
        .unwrap();
    let read = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "{}", rig.log());
    echoes(&mut stream);
}

#[test]
fn an_agent_that_does_not_end_is_let_go_of() {
    let rig = Rig::new();
    let remote = rig.remote("root");
    let mut stream = rig.start(&*remote, &["deaf"]).unwrap();
    let pid: i32 = line(&mut stream).parse().unwrap();
    drop(stream);
    remote.release().unwrap();
    rig.all_ended();
    // It reads no input, so it does not see the end either: a real agent does.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // Not because it was given up by itself, later.
    assert!(rig.log().contains("the other side hung up"), "{}", rig.log());
}
