//! Chromium without a window, driven by the DevTools protocol over a pair of pipes.
//!
//! The protocol is JSON with a zero byte after each message (`--remote-debugging-pipe`): no port is opened.
//! Its clients that could be had bring a TLS stack or a generated type for each of a thousand messages; the
//! tests need a dozen.

pub mod traces;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page, which is gone with this.
pub struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
    /// What the page told, oldest first.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a directory for the profile");
        let (its_in, our_out) = std::io::pipe().expect("a pipe");
        let (our_in, its_out) = std::io::pipe().expect("a pipe");
        let mut command = Command::new("/usr/bin/chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whatever it starts ends with it.
            .process_group(0)
            .fd_mappings(vec![
                FdMapping {
                    parent_fd: OwnedFd::from(its_in),
                    child_fd: 3,
                },
                FdMapping {
                    parent_fd: OwnedFd::from(its_out),
                    child_fd: 4,
                },
            ])
            .expect("descriptors of their own");
        let child = command
            .spawn()
            .expect("chromium (Debian's package chromium) runs");
        drop(command);
        let (tell, from) = channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(File::from(OwnedFd::from(our_in)));
            let mut message = Vec::new();
            while lines.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let told = serde_json::from_slice(&message).expect("JSON of the browser");
                if tell.send(told).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            to: File::from(OwnedFd::from(our_out)),
            from,
            last_id: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.size(1280, 900);
        browser
    }

    /// What the browser answers to a command.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.next(deadline, method);
            if told["id"] != json!(id) {
                self.events.push(told);
                continue;
            }
            assert!(told.get("error").is_none(), "{method}: {told}");
            return told["result"].clone();
        }
    }

    fn next(&mut self, deadline: Instant, awaited: &str) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.from.recv_timeout(left) {
            Ok(told) => told,
            Err(error) => panic!("the browser said nothing to {awaited}: {error}"),
        }
    }

    /// Opens a page, and returns when its scripts have run.
    pub fn open(&mut self, page: &Path) {
        self.events.clear();
        self.call(
            "Page.navigate",
            json!({"url": format!("file://{}", page.display())}),
        );
        let deadline = Instant::now() + PATIENCE;
        while !self.told("Page.loadEventFired") {
            let told = self.next(deadline, "Page.navigate");
            self.events.push(told);
        }
    }

    fn told(&self, method: &str) -> bool {
        self.events.iter().any(|event| event["method"] == method)
    }

    /// Value of an expression in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let told = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(
            told.get("exceptionDetails").is_none(),
            "{expression}: {told}"
        );
        told["result"]["value"].clone()
    }

    pub fn text(&mut self, expression: &str) -> String {
        match self.eval(expression) {
            Value::String(text) => text,
            other => panic!("{expression} is no text: {other}"),
        }
    }

    pub fn number(&mut self, expression: &str) -> f64 {
        let value = self.eval(expression);
        let number = value.as_f64();
        number.unwrap_or_else(|| panic!("{expression} is no number: {value}"))
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.eval(&format!("Boolean({expression})")) != json!(true) {
            if Instant::now() > deadline {
                if let Some(directory) = std::env::var_os("PROCJAIL_SCREENSHOTS") {
                    self.picture(&Path::new(&directory).join("failed.png"), false);
                }
                panic!("never true: {expression}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until what was asked for is drawn.
    pub fn settle(&mut self) {
        self.eval(
            "new Promise(done => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 150))",
        );
    }

    pub fn size(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
    }

    /// Shows the page as on paper or on a screen, light or dark.
    pub fn media(&mut self, media: &str, scheme: &str) {
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Presses and releases a key, by its name or the character it makes.
    pub fn key(&mut self, key: &str) {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "Home" => 36,
            "End" => 35,
            "PageDown" => 34,
            _ => 0,
        };
        let mut down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if key.chars().count() == 1 {
            down["text"] = json!(key);
        } else if key == "Enter" {
            down["text"] = json!("\r");
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
        );
    }

    /// Types a text where the focus is.
    pub fn write(&mut self, text: &str) {
        for char in text.chars() {
            self.key(&char.to_string());
        }
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), more: Value) {
        let mut params = json!({"type": kind, "x": x, "y": y});
        for (name, value) in more.as_object().into_iter().flatten() {
            params[name] = value.clone();
        }
        self.call("Input.dispatchMouseEvent", params);
    }

    pub fn hover(&mut self, at: (f64, f64)) {
        self.mouse("mouseMoved", at, json!({}));
    }

    pub fn click(&mut self, at: (f64, f64)) {
        let left = json!({"button": "left", "buttons": 1, "clickCount": 1});
        self.hover(at);
        self.mouse("mousePressed", at, left.clone());
        self.mouse("mouseReleased", at, left);
    }

    /// Drags with the left button; `shift` holds that key.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64), shift: bool) {
        let held = json!({"button": "left", "buttons": 1, "clickCount": 1, "modifiers": u8::from(shift) * 8});
        self.hover(from);
        self.mouse("mousePressed", from, held.clone());
        self.mouse(
            "mouseMoved",
            ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0),
            held.clone(),
        );
        self.mouse("mouseMoved", to, held.clone());
        self.mouse("mouseReleased", to, held);
    }

    /// Turns the wheel with Ctrl held.
    pub fn zoom_wheel(&mut self, at: (f64, f64), delta: f64) {
        self.mouse(
            "mouseWheel",
            at,
            json!({"deltaX": 0, "deltaY": delta, "modifiers": 2}),
        );
    }

    /// A place in an element, brought into sight: shares of its width and height.
    pub fn place(&mut self, selector: &str, across: f64, down: f64) -> (f64, f64) {
        let bounds = self.eval(&format!(
            "(() => {{ const one = document.querySelector('{selector}'); \
             one.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
             const {{x, y, width, height}} = one.getBoundingClientRect(); return [x, y, width, height]; }})()"
        ));
        let bound = |at: usize| bounds[at].as_f64().expect("a number");
        (bound(0) + across * bound(2), bound(1) + down * bound(3))
    }

    /// The page as it would be printed: a PDF.
    pub fn print(&mut self) -> Vec<u8> {
        let told = self.call(
            "Page.printToPDF",
            json!({"printBackground": true, "preferCSSPageSize": true}),
        );
        decoded(&told)
    }

    /// A picture of what is seen, to look at; see `PROCJAIL_SCREENSHOTS`.
    pub fn picture(&mut self, path: &Path, whole: bool) {
        let told = self.call(
            "Page.captureScreenshot",
            json!({"captureBeyondViewport": whole}),
        );
        std::fs::write(path, decoded(&told)).expect("writable");
    }

    /// What the page complained about, and whatever it asked a network for.
    pub fn complaints(&mut self) -> Vec<String> {
        // All that came before an answer is there with it.
        self.eval("0");
        let mut found = Vec::new();
        for event in &self.events {
            let params = &event["params"];
            let bad = match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => true,
                "Log.entryAdded" => params["entry"]["level"] != "verbose",
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str().unwrap_or_default();
                    let itself = url.starts_with("file://") && params["type"] == "Document";
                    !itself && !url.starts_with("data:")
                }
                "Page.javascriptDialogOpening" => true,
                _ => false,
            };
            if bad {
                found.push(event.to_string());
            }
        }
        found
    }
}

fn decoded(told: &Value) -> Vec<u8> {
    let data = told["data"].as_str().expect("data");
    STANDARD.decode(data).expect("base64")
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let _ = self
            .to
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let deadline = Instant::now() + Duration::from_secs(5);
        let group = Pid::from_raw(self.child.id().cast_signed());
        // Not collected yet, so that the number of its group can't be another's when that is killed.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        while Instant::now() < deadline
            && matches!(waitid(Id::Pid(group), look), Ok(WaitStatus::StillAlive))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
