//! A browser without a screen, driven through chromedriver by the `WebDriver` protocol (w3.org/TR/webdriver2).

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, last_lines, text_of};
use super::reserve::{self, Port};
use super::tools::tool;
use super::wait::{SOON, eventually};

/// A Chromium with one page. Ended when dropped; when that is because the story failed, what it logged is printed first.
#[derive(Debug)]
pub(crate) struct Browser {
    /// Where the session is: chromedriver's address and the session's path.
    session: String,
    driver: Process,
    directory: TempDir,
    _port: Port,
}

impl Browser {
    /// Opens this page.
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        let (directory, port) = (reserve::directory("browser"), Port::reserve());
        let home = directory.path().display().to_string();
        let args = [format!("--port={}", port.number())];
        let driver = Process::start(
            &tool("chromium", "chromedriver"),
            &args,
            &[("HOME".to_owned(), home.clone())],
            directory.path(),
        );
        let address = format!("http://127.0.0.1:{}", port.number());
        eventually("chromedriver answers", SOON, || request("GET", &format!("{address}/status"), None));
        // With a pipe to chromedriver the browser ends when that is killed.
        let options = json!({
            "binary": tool("chromium", "chromium"),
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                "--hide-scrollbars", "--window-size=1280,1400", format!("--user-data-dir={home}/profile")],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = request("POST", &format!("{address}/session"), Some(wanted));
        let begun =
            begun.unwrap_or_else(|error| panic!("no browser: {error}\n{}", text_of(directory.path().join("stderr"))));
        let id = begun["sessionId"].as_str().expect("the session has an id");
        let browser = Self { session: format!("{address}/session/{id}"), driver, directory, _port: port };
        browser.ask("url", json!({ "url": url }));
        browser
    }

    /// The value of a JavaScript expression.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.ask("execute/sync", json!({"script": format!("return {expression};"), "args": []}))
    }

    /// The text that is seen of the first element of this CSS selector; an empty one of an element that is hidden.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let seen =
            "[document.querySelector(SELECTOR)].map((found) => found?.checkVisibility() ? found.innerText : '')[0]";
        let text = self.value(&seen.replace("SELECTOR", &json!(selector).to_string()));
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until that text holds this one.
    #[track_caller]
    pub(crate) fn await_text(&self, selector: &str, text: &str) {
        eventually(&format!("{selector} says `{text}`"), SOON, || {
            let seen = self.text(selector);
            if seen.contains(text) { Ok(()) } else { Err(seen) }
        });
    }

    /// Clicks at the middle of an element, as a person would: one that is hidden or covered cannot be clicked.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let id = self.element(selector);
        self.ask(&format!("element/{id}/click"), json!({}));
    }

    /// Moves the pointer over an element, to a point counted in pixels from its middle.
    #[track_caller]
    pub(crate) fn point_at(&self, selector: &str, x: i64, y: i64) {
        let origin = json!({ ELEMENT: self.element(selector) });
        let moved = json!({"type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y});
        self.ask("actions", json!({"actions": [{"type": "pointer", "id": "mouse", "actions": [moved]}]}));
    }

    /// Types into an element.
    #[track_caller]
    pub(crate) fn enter(&self, selector: &str, text: &str) {
        let id = self.element(selector);
        self.ask(&format!("element/{id}/value"), json!({ "text": text }));
    }

    /// Keeps a picture of the page for whoever wants to look: `target/tmp/page/NAME.png`.
    #[track_caller]
    pub(crate) fn picture(&self, name: &str) {
        let picture = request("GET", &format!("{}/screenshot", self.session), None).expect("a page can be shown");
        let picture = picture.as_str().expect("a text");
        let picture = base64::engine::general_purpose::STANDARD.decode(picture).expect("base64");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        fs::create_dir_all(&directory).expect("Cargo's directory for the files of tests is writable");
        fs::write(directory.join(format!("{name}.png")), picture).expect("it is writable");
    }

    /// What the page did wrong since the last call: errors of its script, parts that could not be loaded.
    #[track_caller]
    pub(crate) fn faults(&self) -> Vec<String> {
        let log = self.ask("se/log", json!({"type": "browser"}));
        let severe = log.as_array().expect("a list").iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.ask("element", json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    #[track_caller]
    fn ask(&self, what: &str, body: Value) -> Value {
        let answer = request("POST", &format!("{}/{what}", self.session), Some(body));
        answer.unwrap_or_else(|error| panic!("the browser refuses {what}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = request("DELETE", &self.session, None);
        self.driver.kill();
        if std::thread::panicking() {
            let log = text_of(self.directory.path().join("stderr"));
            eprintln!("--- log of chromedriver\n{}", last_lines(&log, 50));
        }
    }
}

/// The key under which `WebDriver` names an element; the standard gives it as this constant.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The `value` of the answer; what is wrong where that is an error.
fn request(method: &str, url: &str, body: Option<Value>) -> Result<Value, String> {
    // A browser on a busy machine may take a minute to start.
    let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_mins(3)));
    let agent = agent.build().new_agent();
    let answered = match (method, body) {
        ("POST", body) => agent.post(url).send_json(body.unwrap_or(json!({}))),
        ("DELETE", _) => agent.delete(url).call(),
        _ => agent.get(url).call(),
    };
    let mut answer = answered.map_err(|error| error.to_string())?;
    // A picture of a page is larger than what is read without a word.
    let body =
        answer.body_mut().with_config().limit(64 << 20).read_json::<Value>().map_err(|error| error.to_string())?;
    match answer.status().as_u16() {
        200 => Ok(body["value"].clone()),
        status => Err(format!("{status}: {}: {}", body["value"]["error"], body["value"]["message"])),
    }
}
