//! From the raw mirror to a [`Config`]: ranges, defaults, and what must fit together.
//!
//! A value that is not allowed becomes a fault and its default, so that the rest is checked too; no configuration
//! comes out of a text with a fault.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::{Spanned, Value};

use super::fault::{Fault, Problem};
use super::raw::{
    Raw, RawCluster, RawConfig, RawHttp, RawLog, RawMigration, RawSchedule, RawServerTls, RawState, RawTls,
};
use super::source::{Source, Span};
use super::{
    Approval, BigKeys, ClusterConfig, Config, FullTarget, Functions, HttpConfig, LogConfig, LogFormat, LogLevel,
    MigrateUser, MigrationConfig, Mode, Reads, ScheduleConfig, ServerTlsFiles, StateConfig, TlsFiles, Window, lease,
    targets,
};
use crate::cluster::Address;

const ADDRESS: &str = "host:port, as in \"10.0.0.1:6379\"";
const FILE: &str = "the path of a file";
const WINDOW: &str = "hours and a time zone, as in \"02:00-04:00 Europe/Berlin\", with days before them or not, as in \"Sat,Sun 00:00-24:00 UTC\"";

/// The configuration in this text, or everything that is wrong with it.
pub(super) fn config(text: &str, name: &str) -> Result<Config, Vec<Fault>> {
    let mut source = Source::parse(name, text).map_err(|fault| vec![fault])?;
    let raw: RawConfig = source.mirror();
    let mut v = Validator { source };
    let (cluster, targets) = (cluster(raw.cluster, &mut v), targets::targets(raw.targets, &mut v));
    let migration = migration(raw.migration, &mut v);
    let config = Config {
        cluster,
        targets,
        lease: lease::lease(raw.lease, &migration, &mut v),
        migration,
        schedule: schedule(raw.schedule, &mut v),
        state: state(raw.state, &mut v),
        http: http(raw.http, &mut v),
        log: log(raw.log, &mut v),
    };
    let faults = v.source.into_faults();
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn cluster(raw: Option<Spanned<RawCluster>>, v: &mut Validator<'_>) -> ClusterConfig {
    let whole = raw.as_ref().map(Spanned::span);
    let raw = raw.map(Spanned::into_inner).unwrap_or_default();
    let seeds = match raw.seeds {
        Some(seeds) if seeds.get_ref().is_empty() => {
            v.source.missing(Some(seeds.span()), "cluster.seeds", "one address at least, as in [\"10.0.0.1:6379\"]");
            Vec::new()
        }
        Some(seeds) => {
            seeds.into_inner().iter().filter_map(|seed| v.address(seed.span(), seed.get_ref().as_str())).collect()
        }
        None => {
            v.source.missing(
                whole,
                "cluster.seeds",
                "the address of one node at least, as in seeds = [\"10.0.0.1:6379\"]",
            );
            Vec::new()
        }
    };
    let name = v.text(raw.name, label, "1 to 128 characters that can be printed");
    ClusterConfig {
        name: name.unwrap_or_else(|| "default".to_owned()),
        seeds,
        username: v.text(raw.username, one_word, "a user's name, without spaces"),
        password_file: v.path(raw.password_file),
        migrate: migrate_user(raw.migrate_username, raw.migrate_password_file, v),
        tls: raw.tls.and_then(|tls| tls_files(tls, v)),
        address_map: address_map(raw.address_map, v),
    }
}

fn migrate_user(username: Raw, file: Raw, v: &mut Validator<'_>) -> Option<MigrateUser> {
    let (user_at, file_at) = (username.as_ref().map(Spanned::span), file.as_ref().map(Spanned::span));
    let username = v.text(username, one_word, "a user's name, without spaces");
    let password_file = v.path(file);
    match (user_at, file_at) {
        (Some(at), None) => v.conflict(at, "needs migrate_password_file beside it"),
        (None, Some(at)) => v.conflict(at, "needs migrate_username beside it"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    Some(MigrateUser { username: username?, password_file: password_file? })
}

pub(super) fn tls_files(raw: Spanned<RawTls>, v: &mut Validator<'_>) -> Option<TlsFiles> {
    let whole = raw.span();
    let RawTls { ca_file, cert_file, key_file, server_name } = raw.into_inner();
    if ca_file.is_none() {
        v.missing_in(whole, "ca_file", "the file with the authorities that sign the servers' certificates");
    }
    match (&cert_file, &key_file) {
        (Some(cert), None) => v.conflict(cert.span(), "needs key_file beside it"),
        (None, Some(key)) => v.conflict(key.span(), "needs cert_file beside it"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let (ca_file, cert_file, key_file) = (v.path(ca_file), v.path(cert_file), v.path(key_file));
    let server_name = v.text(server_name, one_word, "the name in the servers' certificates, without spaces");
    Some(TlsFiles { ca_file: ca_file?, cert_key: cert_file.zip(key_file), server_name })
}

fn address_map(raw: BTreeMap<Spanned<String>, Spanned<Value>>, v: &mut Validator<'_>) -> BTreeMap<Address, Address> {
    let mut map = BTreeMap::new();
    for (announced, reachable) in &raw {
        let from = v.address(announced.span(), Some(announced.get_ref()));
        let to = v.address(reachable.span(), reachable.get_ref().as_str());
        if let (Some(from), Some(to)) = (from, to)
            && map.insert(from, to).is_some()
        {
            v.conflict(announced.span(), "this address is already mapped, in another spelling");
        }
    }
    map
}

fn migration(raw: RawMigration, v: &mut Validator<'_>) -> MigrationConfig {
    const MINUTE: Duration = Duration::from_mins(1);
    const TENTH: Duration = Duration::from_millis(100);
    const PER_SECOND: RangeInclusive<u64> = 1..=1_000_000_000_000;
    const BIG_KEY_BLOCK: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
    let default = MigrationConfig::default();
    let big_keys_at = raw.big_keys.as_ref().map(Spanned::span);
    let window = v.text(raw.big_key_window, |text| text.parse::<Window>().is_ok(), WINDOW);
    let delay_max_at = raw.retry_delay_max.as_ref().or(raw.retry_delay.as_ref()).map(Spanned::span);
    let config = MigrationConfig {
        block_max: v.duration(raw.block_max, Duration::from_micros(100)..=Duration::from_secs(1), default.block_max),
        latency_max: v.duration(raw.latency_max, Duration::from_millis(1)..=MINUTE, default.latency_max),
        slots_per_second: v.optional_integer(raw.slots_per_second, PER_SECOND),
        keys_per_second: v.optional_integer(raw.keys_per_second, PER_SECOND),
        bytes_per_second: v.optional_integer(raw.bytes_per_second, PER_SECOND),
        migrate_timeout: v.duration(raw.migrate_timeout, TENTH..=MINUTE, default.migrate_timeout),
        call_timeout: v.duration(raw.call_timeout, TENTH..=MINUTE, default.call_timeout),
        connect_timeout: v.duration(raw.connect_timeout, TENTH..=MINUTE, default.connect_timeout),
        parallel: v.integer(raw.parallel, 1..=256, default.parallel),
        per_target: v.integer(raw.per_target, 1..=256, default.per_target),
        group_slots: v.integer(raw.group_slots, 1..=1024, default.group_slots),
        group_keys: v.integer(raw.group_keys, 1..=1_000_000_000, default.group_keys),
        batch_keys_max: v.integer(raw.batch_keys_max, 1..=10_000, default.batch_keys_max),
        attempts: v.integer(raw.attempts, 1..=1_000, default.attempts),
        retry_delay: v.duration(raw.retry_delay, TENTH..=Duration::from_hours(1), default.retry_delay),
        retry_delay_max: v.duration(raw.retry_delay_max, TENTH..=Duration::from_hours(24), default.retry_delay_max),
        memory_limit_percent: v.integer(raw.memory_limit_percent, 1..=100, default.memory_limit_percent),
        full_target: v.choice(raw.full_target, &FullTarget::ALL, default.full_target),
        functions: v.choice(raw.functions, &Functions::ALL, default.functions),
        big_keys: v.choice(raw.big_keys, &BigKeys::ALL, default.big_keys),
        big_key_block_max: v.duration(raw.big_key_block_max, BIG_KEY_BLOCK, default.big_key_block_max),
        big_key_window: window.and_then(|text| text.parse().ok()),
    };
    if let (BigKeys::Window, None, Some(at)) = (config.big_keys, &config.big_key_window, big_keys_at) {
        v.conflict(at, "needs big_key_window beside it");
    }
    if let (true, Some(at)) = (config.retry_delay > config.retry_delay_max, delay_max_at) {
        let [delay, max] = [config.retry_delay, config.retry_delay_max].map(humantime::format_duration);
        v.conflict(at, format!("retry_delay_max ({max}) is below retry_delay ({delay})"));
    }
    config
}

fn schedule(raw: RawSchedule, v: &mut Validator<'_>) -> ScheduleConfig {
    const HOUR: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);
    let default = ScheduleConfig::default();
    ScheduleConfig {
        mode: v.choice(raw.mode, &Mode::ALL, default.mode),
        poll: v.duration(raw.poll, Duration::from_millis(100)..=HOUR, default.poll),
        settle: v.integer(raw.settle, 1..=100, default.settle),
        stop_grace: v.duration(raw.stop_grace, SECOND..=HOUR, default.stop_grace),
        adopt_after: v.duration(raw.adopt_after, SECOND..=HOUR, default.adopt_after),
        foreign_quiet: v.duration(raw.foreign_quiet, SECOND..=HOUR, default.foreign_quiet),
        windows: windows(raw.windows, v),
        approval: v.choice(raw.approval, &Approval::ALL, default.approval),
    }
}

fn windows(raw: Option<Spanned<Vec<Spanned<Value>>>>, v: &mut Validator<'_>) -> Vec<Window> {
    let Some(raw) = raw else { return Vec::new() };
    if raw.get_ref().is_empty() {
        v.not_allowed(raw.span(), "one window at least; without the key, slots are moved at any time");
    }
    let windows = raw.into_inner().into_iter();
    windows.filter_map(|raw| v.text(Some(raw), |text| text.parse::<Window>().is_ok(), WINDOW)?.parse().ok()).collect()
}

fn state(raw: RawState, v: &mut Validator<'_>) -> StateConfig {
    StateConfig { dir: v.text(raw.dir, one_line, "the path of a directory").map(PathBuf::from) }
}

fn http(raw: RawHttp, v: &mut Validator<'_>) -> HttpConfig {
    let default = HttpConfig::default();
    let token_file = v.path(raw.token_file);
    let reads = v.choice(raw.reads, &Reads::ALL, default.reads);
    let tls = raw.tls.and_then(|tls| server_tls_files(tls, v));
    let default = HttpConfig { token_file, reads, tls, ..default };
    let Some(raw) = raw.listen else { return default };
    let Some(listen) = raw.get_ref().as_str().and_then(|text| text.parse().ok()) else {
        v.not_allowed(raw.span(), "IP and port, as in \"127.0.0.1:7380\" or \"[::]:7380\"");
        return default;
    };
    HttpConfig { listen, ..default }
}

fn server_tls_files(raw: Spanned<RawServerTls>, v: &mut Validator<'_>) -> Option<ServerTlsFiles> {
    let whole = raw.span();
    let RawServerTls { cert_file, key_file } = raw.into_inner();
    if cert_file.is_none() {
        v.missing_in(
            whole.clone(),
            "cert_file",
            "the file with the certificate that is shown, and with those between it and its authority",
        );
    }
    if key_file.is_none() {
        v.missing_in(whole, "key_file", "the file with the key of the certificate");
    }
    let (cert_file, key_file) = (v.path(cert_file), v.path(key_file));
    Some(ServerTlsFiles { cert_file: cert_file?, key_file: key_file? })
}

fn log(raw: RawLog, v: &mut Validator<'_>) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        level: v.choice(raw.level, &LogLevel::ALL, default.level),
        format: v.choice(raw.format, &LogFormat::ALL, default.format),
    }
}

/// Checks single values; what is wrong goes to the faults, and the default takes its place.
pub(super) struct Validator<'i> {
    source: Source<'i>,
}

impl Validator<'_> {
    pub(super) fn duration(&mut self, raw: Raw, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        let Some(raw) = raw else { return default };
        let duration = raw.get_ref().as_str().and_then(|text| humantime::parse_duration(text).ok());
        duration.filter(|duration| range.contains(duration)).unwrap_or_else(|| {
            let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
            self.not_allowed(raw.span(), format!("a duration from \"{least}\" to \"{most}\""));
            default
        })
    }

    pub(super) fn integer<T>(&mut self, raw: Raw, range: RangeInclusive<T>, default: T) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        self.optional_integer(raw, range).unwrap_or(default)
    }

    /// Absent is `None`.
    pub(super) fn optional_integer<T>(&mut self, raw: Raw, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        let raw = raw?;
        let number = raw.get_ref().as_integer().and_then(|number| T::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.not_allowed(raw.span(), format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// NaN lies in no range, so it is never let through.
    pub(super) fn number(&mut self, raw: Raw, range: RangeInclusive<f64>, default: f64) -> f64 {
        let Some(raw) = raw else { return default };
        let whole = || raw.get_ref().as_integer().and_then(|number| i32::try_from(number).ok()).map(f64::from);
        let number = raw.get_ref().as_float().or_else(whole);
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.not_allowed(raw.span(), format!("a number from {} to {}", range.start(), range.end()));
            default
        })
    }

    /// Absent is `false`.
    pub(super) fn flag(&mut self, raw: Raw) -> bool {
        let Some(raw) = raw else { return false };
        raw.get_ref().as_bool().unwrap_or_else(|| {
            self.not_allowed(raw.span(), "true or false");
            false
        })
    }

    pub(super) fn choice<T: Copy + Display>(&mut self, raw: Raw, all: &[T], default: T) -> T {
        let Some(raw) = raw else { return default };
        let choice = all.iter().find(|choice| raw.get_ref().as_str() == Some(&choice.to_string()));
        choice.copied().unwrap_or_else(|| {
            let names: Vec<String> = all.iter().map(|choice| format!("\"{choice}\"")).collect();
            self.not_allowed(raw.span(), format!("one of {}", names.join(", ")));
            default
        })
    }

    pub(super) fn text(&mut self, raw: Raw, good: fn(&str) -> bool, allowed: &str) -> Option<String> {
        let raw = raw?;
        let text = raw.get_ref().as_str().filter(|text| good(text)).map(str::to_owned);
        if text.is_none() {
            self.not_allowed(raw.span(), format!("{allowed}, in quotes"));
        }
        text
    }

    pub(super) fn path(&mut self, raw: Raw) -> Option<PathBuf> {
        self.text(raw, one_line, FILE).map(PathBuf::from)
    }

    pub(super) fn address(&mut self, span: Span, text: Option<&str>) -> Option<Address> {
        let address = text.and_then(|text| text.parse().ok());
        if address.is_none() {
            self.not_allowed(span, ADDRESS);
        }
        address
    }

    pub(super) fn fault(&mut self, span: Span, problem: Problem) {
        self.source.fault(span, problem);
    }

    pub(super) fn conflict(&mut self, span: Span, reason: impl Into<String>) {
        self.fault(span, Problem::Conflict(reason.into()));
    }

    pub(super) fn not_allowed(&mut self, span: Span, allowed: impl Into<String>) {
        self.source.not_allowed(span, allowed);
    }

    pub(super) fn missing_in(&mut self, table: Span, name: &str, allowed: &str) {
        self.source.missing_in(table, name, allowed);
    }

    pub(super) fn line(&self, span: &Span) -> usize {
        self.source.line(span)
    }
}

/// A text of one line that is not empty: what may be a path.
fn one_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// A text without white space that is not empty: what may be a name.
pub(super) fn one_word(text: &str) -> bool {
    one_line(text) && !text.chars().any(char::is_whitespace)
}

/// A text that may be a label of a metric.
fn label(text: &str) -> bool {
    one_line(text) && text.chars().count() <= 128
}
