//! A real Prometheus that scrapes one daemon.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::Daemon;
use super::process::{Process, last_lines, text_of};
use super::reserve::{self, Port};
use super::tools::tool;

/// Scrapes every second, as the job `evenkeel`, and evaluates the rules of `deploy/`. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    _process: Process,
    directory: TempDir,
    port: Port,
}

impl Prometheus {
    /// Starts one.
    pub(crate) fn scraping(daemon: &Daemon) -> Self {
        let (directory, port) = (reserve::directory("prometheus"), Port::reserve());
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/evenkeel.rules.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
             - {{job_name: evenkeel, static_configs: [{{targets: ['{}']}}]}}\n",
            rules.display(),
            daemon.address()
        );
        fs::write(directory.path().join("prometheus.yml"), config).expect("the directory is writable");
        let listen = format!("--web.listen-address=127.0.0.1:{}", port.number());
        let args = ["--config.file=prometheus.yml".to_owned(), "--storage.tsdb.path=data".to_owned(), listen];
        let process = Process::start(&tool("prometheus", "prometheus"), &args, &[], directory.path());
        Self { _process: process, directory, port }
    }

    /// The `data` of the answer to a path of its API with these parameters.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20)));
        let call = agent.build().new_agent().get(format!("http://127.0.0.1:{}/api/v1/{path}", self.port.number()));
        let call = parameters.iter().fold(call, |call, (name, value)| call.query(*name, *value));
        let answer = call.call().and_then(|mut answer| answer.body_mut().read_json::<Value>());
        let answer = answer.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = text_of(self.directory.path().join("stderr"));
            eprintln!("--- log of Prometheus\n{}", last_lines(&log, 50));
        }
    }
}
