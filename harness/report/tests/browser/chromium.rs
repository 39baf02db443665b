//! A headless Chromium and one page in it, driven over the DevTools protocol on two pipes.
//!
//! The browser reads commands from descriptor 3 and answers on 4, each message ended by a zero byte; a shell puts our
//! pipes there. Nothing listens on a port, and the browser ends when our end of the pipe closes. `timeout` ends one that
//! hangs, so that a test fails instead of waiting for ever.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Chromium {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    dir: PathBuf,
    session: String,
    next: u64,
    /// What the browser complained of: exceptions and errors in its log.
    pub complaints: Vec<String>,
    loaded: bool,
}

const SHELL: &str = "exec timeout --kill-after=5 300 \"$CHROMIUM\" --headless --no-sandbox --disable-gpu --no-first-run \
    --hide-scrollbars --disable-dev-shm-usage --remote-debugging-pipe --user-data-dir=\"$PROFILE\" about:blank \
    3<&0 4>&1 </dev/null >/dev/null 2>\"$PROFILE/stderr\"";

impl Chromium {
    /// Starts a browser; `name` is unique among the tests. Panics if Debian's chromium is not installed.
    pub fn start(name: &str) -> Chromium {
        let program = "/usr/bin/chromium";
        assert!(
            Path::new(program).exists(),
            "{program} is missing: apt-get install chromium"
        );
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", SHELL])
            .env("CHROMIUM", program)
            .env("PROFILE", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut chromium = Chromium {
            commands: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            dir,
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            loaded: false,
        };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        chromium.session = chromium.call("Target.attachToTarget", attach)["sessionId"]
            .as_str()
            .unwrap()
            .to_string();
        for domain in ["Page", "Runtime", "Log"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        chromium
    }

    /// Sends a command and waits for its result; what the browser tells meanwhile is kept.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let commands = self.commands.as_mut().unwrap();
        commands
            .write_all(message.to_string().as_bytes())
            .and_then(|()| commands.write_all(b"\0"))
            .unwrap();
        commands.flush().unwrap();
        loop {
            let mut answer = self.read(method);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.told(&answer);
        }
    }

    fn read(&mut self, waiting_for: &str) -> Value {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes).unwrap();
        if bytes.pop() != Some(0) {
            let said = std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
            panic!("the browser ended while it was asked for {waiting_for}; it said:\n{said}");
        }
        serde_json::from_slice(&bytes).unwrap()
    }

    fn told(&mut self, event: &Value) {
        match event["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            Some("Runtime.exceptionThrown") => self.complaints.push(event["params"]["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if event["params"]["entry"]["level"] == "error" => {
                self.complaints.push(event["params"]["entry"]["text"].to_string());
            }
            _ => {}
        }
    }

    /// A window of this size; `mobile` makes it a phone with a finger.
    pub fn window(&mut self, width: u32, height: u32, mobile: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        self.call(
            "Emulation.setTouchEmulationEnabled",
            json!({"enabled": mobile, "maxTouchPoints": 2}),
        );
    }

    /// Opens a page that is written to a file first, and waits for its `load` event.
    pub fn open(&mut self, html: &str) {
        let path = self.dir.join("report.html");
        std::fs::write(&path, html).unwrap();
        self.loaded = false;
        self.call("Page.navigate", json!({"url": format!("file://{}", path.display())}));
        while !self.loaded {
            let event = self.read("a page to load");
            self.told(&event);
        }
    }

    /// The value of a JavaScript expression; a promise is awaited.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.call("Runtime.evaluate", params);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {}",
            result["exceptionDetails"]
        );
        result["result"]["value"].take()
    }

    /// Waits until the page's script has drawn everything; what it then says of itself.
    pub fn ready(&mut self) -> Value {
        self.eval(
            "new Promise((done) => {
                const look = () => document.body.dataset.ready && done({...document.body.dataset});
                new MutationObserver(look).observe(document.body, {attributes: true});
                look();
            })",
        )
    }

    /// Waits for the next picture to be drawn.
    pub fn frame(&mut self) {
        self.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
    }

    /// A picture of the whole page, where the variable `REPORT_SHOTS` names a folder for it.
    pub fn shot(&mut self, name: &str) {
        let Ok(folder) = std::env::var("REPORT_SHOTS") else {
            return;
        };
        let size = self.eval("[document.documentElement.clientWidth, document.documentElement.scrollHeight]");
        const PIECE: u64 = 2_400;
        let height = size[1].as_u64().unwrap();
        for (i, y) in (0..height).step_by(PIECE as usize).enumerate() {
            let clip = json!({"x": 0, "y": y, "width": size[0], "height": PIECE.min(height - y), "scale": 1});
            let params = json!({"captureBeyondViewport": true, "clip": clip});
            let picture = self.call("Page.captureScreenshot", params);
            let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
            std::fs::write(Path::new(&folder).join(format!("{name}-{i}.png")), bytes).unwrap();
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
