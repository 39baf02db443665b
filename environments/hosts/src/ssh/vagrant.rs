//! The machines of a Vagrantfile.
//!
//! `vagrant` is asked two things only: which machines there are and whether they run (`status --machine-readable`), and
//! how each is reached (`ssh-config NAME`; asked for all at once it fails if one is down). Whatever the provider is,
//! the answer is a host for SSH.
use super::access::{Access, Besides};
use super::connection::Route;
use super::known::{Known, Unknown};
use super::target::Target;
use super::{Shared, SshHost};
use crate::local::Check;
use crate::remote::Remote;
use anyhow::{Context, Result, anyhow, bail, ensure};
use splitbrain_core::plan::Vagrant;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// For one answer of `vagrant`, which takes seconds to start.
const ANSWER: Duration = Duration::from_secs(120);

/// The machines that run, in the order of the Vagrantfile. Those that do not are left out, with a note on standard error.
pub fn vagrant(settings: &Vagrant) -> Result<Vec<Arc<dyn Remote>>> {
    let dir = super::expanded(&settings.dir)?;
    ensure!(
        dir.join("Vagrantfile").is_file(),
        "there is no Vagrantfile in {}: name its folder by --vagrant-dir or as `dir` in the plan's section [vagrant]",
        dir.display()
    );
    let machines = states(&ask(&dir, &["status", "--machine-readable"])?);
    let (up, down): (Vec<_>, Vec<_>) = machines.into_iter().partition(|(_, state)| state == "running");
    for (name, state) in down {
        eprintln!("vagrant machine {name} is {}: it is left out", state.replace('_', " "));
    }
    ensure!(
        !up.is_empty(),
        "no machine of {} runs: start them by `vagrant up` there",
        dir.join("Vagrantfile").display()
    );
    let shared = Arc::new(Shared::default());
    let configs: Vec<Result<String>> = thread::scope(|scope| {
        let asked: Vec<_> = up
            .iter()
            .map(|(name, _)| scope.spawn(|| ask(&dir, &["ssh-config", name])))
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().expect("it does not panic"))
            .collect()
    });
    let mut hosts: Vec<Arc<dyn Remote>> = Vec::new();
    for ((name, _), config) in up.iter().zip(configs) {
        let failed = || format!("failed to learn how vagrant machine {name} is reached");
        let route = config.and_then(|config| read(&config)).with_context(failed)?;
        hosts.push(Arc::new(SshHost {
            name: format!("vagrant machine {name} ({})", route.target),
            route,
            jump: None,
            other_network: false,
            shared: shared.clone(),
            state: Mutex::default(),
        }));
    }
    Ok(hosts)
}

/// Each machine's state, from lines of `TIME,NAME,state,STATE`.
fn states(text: &str) -> Vec<(String, String)> {
    let mut machines = Vec::new();
    for line in text.lines() {
        if let [_, name, "state", state] = line.trim_end().split(',').collect::<Vec<_>>()[..] {
            machines.push((name.to_string(), state.to_string()));
        }
    }
    machines
}

/// What one `ssh-config NAME` says.
fn read(config: &str) -> Result<Route> {
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in config.lines() {
        if let Some((word, value)) = line.trim().split_once(char::is_whitespace) {
            let value = value.trim().trim_matches('"').to_string();
            said.entry(word.to_ascii_lowercase()).or_default().push(value);
        }
    }
    let one = |word: &str| said.get(word).and_then(|values| values.first()).map(String::as_str);
    if let Some(command) = one("proxycommand").or(one("proxyjump")) {
        bail!("it is reached through another machine ({command}), which is not supported for vagrant");
    }
    let need = |word: &str| one(word).with_context(|| format!("`vagrant ssh-config` names no {word}"));
    let target = Target {
        user: need("user")?.to_string(),
        host: need("hostname")?.to_ascii_lowercase(),
        port: need("port")?.parse().context("its port is no number")?,
    };
    let files = match one("userknownhostsfile") {
        Some(file) if file != "/dev/null" => vec![super::expanded(file)?],
        _ => Vec::new(),
    };
    let checked = one("stricthostkeychecking").is_none_or(|word| !word.eq_ignore_ascii_case("no"));
    let known = Known {
        files: if checked && files.is_empty() {
            vec![super::in_ssh_folder("known_hosts")?]
        } else {
            files
        },
        unknown: if checked { Unknown::Refuse } else { Unknown::Take },
    };
    let identities: Vec<PathBuf> = said
        .get("identityfile")
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .collect();
    let only = one("identitiesonly").is_some_and(|word| word.eq_ignore_ascii_case("yes"));
    let besides = if only && !identities.is_empty() {
        Besides::Nothing
    } else {
        Besides::Usual
    };
    let access = Arc::new(Access {
        identities,
        besides,
        known,
    });
    Ok(Route { target, access })
}

/// What `vagrant` answers in the folder of a Vagrantfile.
fn ask(dir: &Path, args: &[&str]) -> Result<String> {
    let shown = format!("`vagrant {}` in {}", args.join(" "), dir.display());
    let mut command = Command::new("vagrant");
    command
        .args(args)
        .current_dir(dir)
        .env("VAGRANT_NO_COLOR", "1")
        .env("VAGRANT_CHECKPOINT_DISABLE", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("failed to run {shown}: install Vagrant (`apt-get install vagrant`)"))?;
    let (done, ended) = channel();
    let outputs: [Box<dyn Read + Send>; 2] = [
        Box::new(child.stdout.take().expect("it is piped")),
        Box::new(child.stderr.take().expect("it is piped")),
    ];
    for (which, mut output) in outputs.into_iter().enumerate() {
        let done = done.clone();
        thread::spawn(move || {
            let mut text = Vec::new();
            let result = output.read_to_end(&mut text);
            let _ = done.send((which, result.map(|_| String::from_utf8_lossy(&text).into_owned())));
        });
    }
    let mut texts = [String::new(), String::new()];
    for _ in 0..texts.len() {
        match ended.recv_timeout(ANSWER) {
            Ok((which, text)) => texts[which] = text?,
            Err(_) => return Err(give_up(child, anyhow!("{shown} did not answer within {ANSWER:?}"))),
        }
    }
    let status = child.wait()?;
    let [out, err] = texts;
    ensure!(status.success(), "{shown} failed ({status}): {}", err.trim());
    Ok(out)
}

fn give_up(mut child: Child, error: anyhow::Error) -> anyhow::Error {
    let _ = child.kill();
    let _ = child.wait();
    error
}

/// Whether `vagrant` is there.
pub fn doctor() -> Check {
    let asked = ask(Path::new("/"), &["--version"]);
    Check {
        name: "vagrant".into(),
        ok: asked.is_ok(),
        remedy: match &asked {
            Ok(_) => String::new(),
            Err(_) => "install Vagrant (`apt-get install vagrant`) for --env vagrant".into(),
        },
        detail: asked.map_or_else(|error| format!("{error:#}"), |version| version.trim().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let text = "1700000000,n1,metadata,provider,docker\n1700000000,n1,provider-name,docker\n\
                    1700000000,n1,state,running\n1700000000,n1,state-human-short,running\n\
                    1700000000,n2,state,not_created\n1700000000,,ui,info,Current machine states:\\n\n";
        let want = [("n1", "running"), ("n2", "not_created")];
        assert_eq!(
            states(text),
            want.map(|(name, state)| (name.to_string(), state.to_string()))
        );
    }

    const CONFIG: &str = "Host n1\n  HostName 127.0.0.1\n  User vagrant\n  Port 2222\n  UserKnownHostsFile /dev/null\n  \
                          StrictHostKeyChecking no\n  PasswordAuthentication no\n  IdentityFile \"/home/me/a b/key\"\n  \
                          IdentitiesOnly yes\n  LogLevel FATAL\n";

    #[test]
    fn a_machine_is_read() {
        let route = read(CONFIG).unwrap();
        assert_eq!(route.target.to_string(), "vagrant@127.0.0.1:2222");
        assert_eq!(route.access.identities, [PathBuf::from("/home/me/a b/key")]);
        assert_eq!(route.access.besides, Besides::Nothing);
        assert_eq!(route.access.known.unknown, Unknown::Take);
        assert!(route.access.known.files.is_empty());
    }

    #[test]
    fn keys_are_checked_unless_the_config_says_no() {
        let checked = CONFIG.replace("StrictHostKeyChecking no", "StrictHostKeyChecking yes");
        let route = read(&checked.replace("/dev/null", "/tmp/known")).unwrap();
        assert_eq!(route.access.known.unknown, Unknown::Refuse);
        assert_eq!(route.access.known.files, [PathBuf::from("/tmp/known")]);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let error = read(&format!("{CONFIG}  ProxyCommand ssh other -W %h:%p\n")).unwrap_err();
        assert!(error.to_string().contains("ssh other"), "{error}");
        assert!(read("Host n1\n  User vagrant\n").is_err());
    }
}
