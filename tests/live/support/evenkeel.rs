//! The real binary.

use std::fs;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use evenkeel::cluster::Address;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, Signal, last_lines, text_of};
use super::reserve::{self, Port};
use super::wait::eventually;

/// A call of the `evenkeel` binary, to be run to its end or left running.
#[derive(Clone, Debug)]
pub(crate) struct Evenkeel {
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: Option<String>,
    deadline: Duration,
    terminal: bool,
}

/// What a call that ended left.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Evenkeel {
    /// The binary with these arguments: `&["check", "--seed", "127.0.0.1:7000"]`.
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { args, env: Vec::new(), config: None, deadline: Duration::from_mins(3), terminal: false }
    }

    /// A configuration file with this text, passed as `--config`.
    pub(crate) fn config(self, text: &str) -> Self {
        Self { config: Some(text.to_owned()), ..self }
    }

    /// An environment variable. Those of the caller that begin with `EVENKEEL_` are not passed on.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On a terminal of its own, whose text is its standard output.
    pub(crate) fn on_terminal(self) -> Self {
        Self { terminal: true, ..self }
    }

    /// How long [`Self::run_to_end`] waits; a minute until told otherwise.
    pub(crate) fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs it to its end. Panics, with what it wrote, when it has not ended within the deadline.
    #[track_caller]
    pub(crate) fn run_to_end(self) -> Output {
        let deadline = self.deadline;
        self.spawn_command().output(deadline)
    }

    /// Leaves it running, listening for HTTP on a free port (`--listen 127.0.0.1:PORT` is added to the arguments).
    pub(crate) fn spawn(self) -> Daemon {
        self.start(Some(Port::reserve()))
    }

    /// Leaves a command running that is no daemon: nothing is added to its arguments.
    pub(crate) fn spawn_command(self) -> Daemon {
        self.start(None)
    }

    fn start(self, port: Option<Port>) -> Daemon {
        let directory = reserve::directory("evenkeel");
        let mut args = self.args;
        if let Some(text) = self.config {
            let path = directory.path().join(CONFIG);
            fs::write(&path, text).expect("the directory is writable");
            args.extend(["--config".to_owned(), path.display().to_string()]);
        }
        if let Some(port) = &port {
            args.extend(["--listen".to_owned(), format!("127.0.0.1:{}", port.number())]);
        }
        let program = env!("CARGO_BIN_EXE_evenkeel");
        let process = if self.terminal {
            let command = format!("stty cols 150 rows 40; exec {program} {}", args.join(" "));
            let args = ["--quiet", "--flush", "--return", "--command", &command, "/dev/null"].map(str::to_owned);
            Process::start("script".as_ref(), &args, &self.env, directory.path())
        } else {
            Process::start(program.as_ref(), &args, &self.env, directory.path())
        };
        Daemon { process, directory, port }
    }
}

impl Output {
    /// Panics unless it ended with this status and wrote each of these texts, to whichever of its two outputs.
    #[track_caller]
    pub(crate) fn assert(&self, status: i32, says: &[&str]) {
        let Self { stdout, stderr, .. } = self;
        let wrote = format!("--- standard output\n{stdout}\n--- standard error\n{stderr}");
        assert_eq!(self.status, Some(status), "the exit status; it wrote:\n{wrote}");
        for text in says {
            assert!(wrote.contains(text), "it does not say `{text}`; it wrote:\n{wrote}");
        }
    }
}

const CONFIG: &str = "evenkeel.toml";

/// A running `evenkeel`. Killed when dropped; when that is because the story failed, what it wrote and what it
/// reports is printed first.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    directory: TempDir,
    port: Option<Port>,
}

impl Daemon {
    /// Where it serves HTTP.
    pub(crate) fn address(&self) -> Address {
        let port = self.port.as_ref().expect("it was left running, with a port");
        Address::new("127.0.0.1", port.number())
    }

    /// Tells it something by one of the commands for that, which must succeed and say this.
    #[track_caller]
    pub(crate) fn is_told(&self, args: &[&str], says: &[&str]) {
        let url = format!("http://{}", self.address());
        Evenkeel::new(&[args, &["--url", &url]].concat()).run_to_end().assert(0, says);
    }

    /// The status and body of an HTTP GET; an error when there is no answer.
    pub(crate) fn try_http_get(&self, path: &str) -> Result<(u16, String), String> {
        self.http(path, |agent, url| agent.get(url).call())
    }

    /// The body of an HTTP GET, which must be answered with 200.
    #[track_caller]
    pub(crate) fn http_get(&self, path: &str) -> String {
        match self.try_http_get(path) {
            Ok((200, body)) => body,
            Ok((status, body)) => panic!("{path} answered {status}: {body}"),
            Err(error) => panic!("{path} did not answer: {error}"),
        }
    }

    /// The status and body of an HTTP POST with this JSON body; an error when there is no answer.
    pub(crate) fn try_http_post(&self, path: &str, json: &str) -> Result<(u16, String), String> {
        self.http(path, |agent, url| agent.post(url).content_type("application/json").send(json))
    }

    /// Waits until a GET is answered with 200 and a body that `is_so`, and returns the body.
    #[track_caller]
    pub(crate) fn await_http(&self, path: &str, deadline: Duration, is_so: impl Fn(&str) -> bool) -> String {
        eventually(path, deadline, || match self.try_http_get(path) {
            Ok((200, body)) if is_so(&body) => Ok(body),
            Ok((status, body)) => Err(format!("{status}: {body}")),
            Err(error) => Err(error),
        })
    }

    /// Waits until nothing runs, nothing forbids anything, nothing is planned, and this is so of its status, which it returns.
    #[track_caller]
    pub(crate) fn await_rest(&self, deadline: Duration, is_so: impl Fn(&Value) -> bool) -> Value {
        let read = |body: &str| serde_json::from_str::<Value>(body).expect("the API speaks JSON");
        let is_at_rest = |status: &Value| {
            let quiet = status["reasons"] == json!([]) && status["moves"] == json!([]);
            quiet && status["work"]["active"] == false && is_so(status) && self.planned() == Some(0)
        };
        read(&self.await_http("/api/v1/status", deadline, |body| is_at_rest(&read(body))))
    }

    /// How many slots its present plan moves; `None` while there is none.
    #[track_caller]
    pub(crate) fn planned(&self) -> Option<u64> {
        let (status, body) = self.try_http_get("/api/v1/plan").expect("the daemon answers");
        let document: Value = serde_json::from_str(&body).expect("the API speaks JSON");
        (status == 200).then(|| document["slots_to_move"].as_u64().expect("slots are counted"))
    }

    /// What it has written to its standard output.
    pub(crate) fn stdout(&self) -> String {
        text_of(self.directory.path().join("stdout"))
    }

    /// What it has written to its standard error: its log.
    pub(crate) fn stderr(&self) -> String {
        text_of(self.directory.path().join("stderr"))
    }

    /// Replaces the text of the configuration file that it was started with; tells it nothing.
    pub(crate) fn rewrite_config(&self, text: &str) {
        let path = self.directory.path().join(CONFIG);
        assert!(path.is_file(), "it was started with a configuration file");
        fs::write(&path, text).expect("the directory is writable");
    }

    /// Asks it to end.
    pub(crate) fn sigterm(&mut self) {
        self.process.signal(Signal::Term);
    }

    /// Interrupts it, as Ctrl-C does.
    pub(crate) fn sigint(&mut self) {
        self.process.signal(Signal::Int);
    }

    /// Asks it to read its configuration again.
    pub(crate) fn sighup(&mut self) {
        self.process.signal(Signal::Hup);
    }

    /// Freezes it: connections stay open, nothing is done.
    pub(crate) fn sigstop(&mut self) {
        self.process.signal(Signal::Stop);
    }

    /// Lets a frozen one go on.
    pub(crate) fn sigcont(&mut self) {
        self.process.signal(Signal::Cont);
    }

    /// Kills it: it gets no chance to finish anything.
    pub(crate) fn kill9(&mut self) {
        self.process.kill();
    }

    /// Waits for its end. Panics when it has not ended within the deadline.
    #[track_caller]
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        match self.process.wait(deadline) {
            Some(status) => status,
            None => panic!("evenkeel still runs after {deadline:?}"),
        }
    }

    /// Waits for its end, and takes what it left. Panics when it has not ended within the deadline.
    #[track_caller]
    pub(crate) fn output(&mut self, deadline: Duration) -> Output {
        let status = self.wait(deadline);
        Output { status: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// The pid of its process.
    #[allow(dead_code, reason = "for the chaos tests, which cut its links")]
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    fn http(
        &self,
        path: &str,
        call: impl Fn(&ureq::Agent, &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, String), String> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = agent.timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        let mut response = call(&agent, &format!("http://{}{path}", self.address())).map_err(|e| e.to_string())?;
        let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok((response.status().as_u16(), body))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        if self.port.is_some() {
            let status = self.try_http_get("/api/v1/status").map_or_else(|error| error, |(_, body)| body);
            eprintln!("--- /api/v1/status of evenkeel\n{status}");
        }
        eprintln!("--- standard output of evenkeel\n{}", last_lines(&self.stdout(), 50));
        eprintln!("--- log of evenkeel\n{}", last_lines(&self.stderr(), 200));
    }
}
