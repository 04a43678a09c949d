//! A page in headless Chromium, told what to do through a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::command;

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Value,
    last: u64,
    /// What the page said on its console, and what it was not allowed to do.
    pub(crate) complaints: Vec<String>,
    /// Everything that was asked of the network or of the disk.
    pub(crate) requests: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens a file and waits until it is loaded.
    pub(crate) fn open(page: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // Its pipe is descriptors 3 and 4; a sandbox is not for whoever runs tests as root.
        let mut browser = command("sh".as_ref());
        browser.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "sh", "chromium"]);
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        browser.args([
            "--disable-background-networking",
            "--disable-crash-reporter",
            "--remote-debugging-pipe",
        ]);
        browser.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        browser.env("HOME", profile.path());
        let mut child = browser.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (complaints, requests) = (Vec::new(), Vec::new());
        let mut this =
            Self { child, to, from, session: Value::Null, last: 0, complaints, requests, _profile: profile };
        let target = this.ask("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = this.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        this.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            this.ask(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({ "width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        this.ask("Emulation.setDeviceMetricsOverride", size);
        let url = format!("file://{}", page.display());
        this.send("Page.navigate", json!({ "url": url }));
        while this.receive()["method"] != "Page.loadEventFired" {}
        this
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.last
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser has gone");
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.push(message["params"]["request"]["url"].as_str().unwrap().to_owned());
            }
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => {
                self.complaints.push(message["params"].to_string());
            }
            _ => {}
        }
        message
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        loop {
            let mut message = self.receive();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    /// The value of an expression in the page; of what it promises, when it is a promise.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits for a condition in the page, from one drawn picture to the next.
    pub(crate) fn wait_for(&mut self, condition: &str) {
        self.value(&format!(
            "new Promise((done) => {{ const look = () => ({condition}) ? done(true) : requestAnimationFrame(look); look(); }})"
        ));
    }

    /// Types at the keyboard.
    pub(crate) fn types(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key.
    pub(crate) fn presses(&mut self, key: &str, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let code = if key == "Enter" { 13 } else { 0 };
            let params = json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.ask("Input.dispatchKeyEvent", params);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends its children too, and then itself.
        self.session = Value::Null;
        let close = json!({ "id": self.last + 1, "method": "Browser.close" });
        let _ = self.to.write_all(format!("{close}\0").as_bytes());
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut self.from, &mut rest);
        let _ = self.child.wait();
    }
}
