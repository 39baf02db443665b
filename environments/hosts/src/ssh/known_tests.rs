use super::*;
use std::process::Command;

const A: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const B: &str = "AAAAC3NzaC1lZDI1NTE5AAAAICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
const RSA: &str = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==";

fn key(text: &str) -> HostKey {
    HostKey(STANDARD.decode(text).unwrap())
}

fn known(text: &str) -> (tempfile::TempDir, Known) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    fs::write(&file, text).unwrap();
    let known = Known {
        files: vec![file, dir.path().join("absent")],
        unknown: Unknown::Refuse,
    };
    (dir, known)
}

/// Which of `known`, `unknown`, `changed N`, `revoked N` a file makes of host `target` with `key`.
#[track_caller]
fn check(text: &str, target: &str, host_key: &str, want: &str) {
    let (_dir, known) = known(text);
    let target = Target::parse(target).unwrap();
    let line = |at: String| at.rsplit(':').next().unwrap().to_string();
    let got = match known.standing(&target, &key(host_key)).unwrap() {
        Standing::Known => "known".to_string(),
        Standing::Unknown => "unknown".to_string(),
        Standing::Changed(at) => format!("changed {}", line(at)),
        Standing::Revoked(at) => format!("revoked {}", line(at)),
    };
    assert_eq!(got, want, "{text:?} {target}");
}

#[test]
fn a_key_is_known_unknown_or_changed() {
    let file = format!("# mine\n\nn1,10.0.0.1 ssh-ed25519 {A} a comment\nnonsense\n");
    check(&file, "root@n1", A, "known");
    check(&file, "root@N1", A, "known");
    check(&file, "root@10.0.0.1", A, "known");
    check(&file, "root@10.0.0.1", B, "changed 3");
    check(&file, "root@10.0.0.2", A, "unknown");
    check("", "root@n1", A, "unknown");
}

#[test]
fn a_host_known_by_another_type_of_key_has_changed() {
    check(&format!("n1 ssh-rsa {RSA}\n"), "root@n1", A, "changed 1");
    check(
        &format!("n1 ssh-rsa {RSA}\nn1 ssh-ed25519 {A}\n"),
        "root@n1",
        A,
        "known",
    );
}

#[test]
fn ports_are_hosts_of_their_own() {
    let file = format!("[127.0.0.1]:2201 ssh-ed25519 {A}\n127.0.0.1 ssh-ed25519 {B}\n");
    check(&file, "root@127.0.0.1:2201", A, "known");
    check(&file, "root@127.0.0.1:2202", A, "unknown");
    // As in OpenSSH, the line without a port may confirm and never contradicts.
    check(&file, "root@127.0.0.1:2202", B, "known");
    check(&file, "root@127.0.0.1", A, "changed 2");
}

#[test]
fn patterns_negations_and_marks_are_heeded() {
    check(&format!("*.lab,!n2.lab ssh-ed25519 {A}\n"), "root@n1.lab", A, "known");
    check(&format!("*.lab,!n2.lab ssh-ed25519 {A}\n"), "root@n2.lab", A, "unknown");
    check(&format!("10.0.0.? ssh-ed25519 {A}\n"), "root@10.0.0.9", A, "known");
    check(&format!("10.0.0.? ssh-ed25519 {A}\n"), "root@10.0.0.19", A, "unknown");
    check(&format!("[*]:2222 ssh-ed25519 {A}\n"), "root@n1:2222", A, "known");
    check(&format!("@cert-authority * ssh-ed25519 {A}\n"), "root@n1", A, "unknown");
    let file = format!("n1 ssh-ed25519 {A}\n@revoked * ssh-ed25519 {A}\n");
    check(&file, "root@n1", A, "revoked 2");
    check(&file, "root@n1", B, "changed 1");
}

#[test]
fn hashed_names_are_found() {
    let (_dir, known) = known(&format!("n1 ssh-ed25519 {A}\n[127.0.0.1]:2201 ssh-ed25519 {B}\n"));
    let status = Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&known.files[0])
        .status()
        .unwrap();
    assert!(status.success());
    let text = fs::read_to_string(&known.files[0]).unwrap();
    assert!(text.starts_with("|1|") && !text.contains("127.0.0.1"), "{text}");
    check(&text, "root@n1", A, "known");
    check(&text, "root@n1", B, "changed 1");
    check(&text, "root@127.0.0.1:2201", B, "known");
    check(&text, "root@127.0.0.1:2202", B, "unknown");
}

#[test]
fn known_types_are_preferred() {
    let (_dir, known) = known(&format!("n1 ssh-rsa {RSA}\n"));
    let supported = [
        "ssh-ed25519",
        "ssh-rsa-cert-v01@openssh.com",
        "rsa-sha2-512",
        "ssh-rsa",
        "ssh-dss",
    ];
    let n1 = Target::parse("root@n1").unwrap();
    assert_eq!(
        known.preference(&n1, &supported).unwrap(),
        "rsa-sha2-512,ssh-rsa,ssh-ed25519"
    );
    let n2 = Target::parse("root@n2").unwrap();
    assert_eq!(
        known.preference(&n2, &supported).unwrap(),
        "ssh-ed25519,rsa-sha2-512,ssh-rsa"
    );
}

#[test]
fn a_key_is_written_once_on_a_line_of_its_own() {
    let (_dir, known) = known("# no end");
    let target = Target::parse("root@n1:2222").unwrap();
    known.write(&target, &key(A)).unwrap();
    known.write(&target, &key(A)).unwrap();
    let text = fs::read_to_string(&known.files[0]).unwrap();
    assert_eq!(text, format!("# no end\n[n1]:2222 ssh-ed25519 {A}\n"));
}

#[test]
fn fingerprints_are_those_of_openssh() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pub");
    fs::write(&file, format!("ssh-ed25519 {A}\n")).unwrap();
    let output = Command::new("ssh-keygen").arg("-lf").arg(&file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(key(A).kind(), "ssh-ed25519");
    assert!(text.contains(&key(A).fingerprint()), "{text}");
}
