//! The server's configuration. The doc comments of [`Config`] are the reference (docs/configuration.md shows
//! them to users); a setting is taken from the flag, then the environment, then the file, then its default.

use crate::document::{Found, Mistake, Source, Table, fail, nearest};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::units;
use api::Token;
use model::{Credentials, Network, Secret};
use node::logs::{DEFAULT_KEPT, MIN_KEPT};
use policy::keepalive::Policy;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that `brooklet up` can be told. The key in the file is the field's name with hyphens, the
/// environment variable is `BROOKLET_` and the name in capitals, the flag (where there is one) the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address and port of the one HTTP server. Port 0 takes a free one. Beyond loopback it is refused unless
    /// `access_keys` are configured or `insecure` is set. Default `127.0.0.1:9170`. Flag `--listen`.
    pub listen: SocketAddr,
    /// Where everything durable lives; made when missing. Default `$XDG_DATA_HOME/brooklet`, which is
    /// usually `~/.local/share/brooklet`. Flag `--data-dir`.
    pub data_dir: PathBuf,
    /// The twelve digits in every ARN. Default `000000000000`. Flag `--account-id`.
    pub account_id: String,
    /// The region in every ARN and in function URLs. Default `us-east-1`. Flag `--region`.
    pub region: String,
    /// Whether it may listen beyond loopback without access keys: anyone who reaches the port can then run
    /// code on this machine. Default `false`. Flag `--insecure`.
    pub insecure: bool,
    /// What happens when this machine cannot isolate functions fully. Default `best-effort`. Flag
    /// `--isolation`.
    pub isolation: Isolation,
    /// Who instances are on the machine, where the server is root: users and groups of so many numbers from the first on,
    /// written as in /etc/subuid. 1,024 to 16,777,216 of 1,000 to 4,294,967,294. Instances beyond that many are all one user.
    /// Default: 65536 of 1879048192 to 2147352575, others for each `data_dir`.
    pub users: Option<Range<u32>>,
    /// What functions reach over the network that do not say so themselves: `none`, `internet` (all hosts but this
    /// machine, link-local addresses and other instances) or `host` (this machine's network). Default `internet`.
    pub network: Network,
    /// Endpoints that every function is told of and reaches, whatever its network: a table of
    /// `AWS_ENDPOINT_URL` or `AWS_ENDPOINT_URL_<SERVICE>` = URL. In the environment `VARIABLE=URL,…`. Default none.
    pub endpoints: BTreeMap<String, String>,
    /// The AWS credentials that functions find in their environment, for the services at `endpoints`. Default none: where
    /// there are `access_keys`, each function gets some with which it may call functions of this server; else placeholders.
    pub credentials: Option<Credentials>,
    /// Access key id → secret access key, of callers whose AWS signatures are accepted. Empty: requests are
    /// not authenticated. In the file a table `[access-keys]`; in the environment `ID:SECRET,…`. Default none.
    pub access_keys: BTreeMap<String, Secret>,
    /// With which `GET /metrics` is answered without an access key (`Authorization: Bearer TOKEN`), and nothing else is: 16
    /// to 512 characters without blanks. Default none.
    pub metrics_token: Option<Token>,
    /// How long an idle instance is kept before it is stopped: 1s to 24h. Default `10m`. See also `keep_alive`.
    pub idle_timeout: Duration,
    /// How long a function's last idle instance is kept. `fixed`: for `idle_timeout`. `learned`: while a request is
    /// likely enough, after what was seen of the function, and one is started ahead of a request that is
    /// expected; `idle_timeout` says how much memory that may cost. `hybrid`: the same by the rule of "Serverless in
    /// the Wild". Default `fixed`.
    pub keep_alive: Policy,
    /// How exactly idle times are learned: 10ms to 1h. They are learned up to 240 times as much. Default `1m`.
    pub keep_alive_bin: Duration,
    /// An instance that has nothing to do for so long is frozen until its next request, as on Lambda: nothing in it
    /// runs. 0s to 24h, or `never`. Programs of the HTTP contract are not frozen. Default `1s`.
    pub freeze_after: Duration,
    /// The memory of an instance that has had nothing to do for so long is pushed out, where the machine has swap and
    /// control groups limit memory, and the function takes 50 ms or more to start. 0s to 24h, or `never`. Default `1m`.
    pub page_out_after: Duration,
    /// Whether functions are started once more after their first start, without an event, so that all later starts take less:
    /// Java's for a class-data archive, Node.js's for a compile cache. Default `true`.
    pub training_runs: bool,
    /// Requests that all functions together may run at once: 1 to 100,000. Default `1000`.
    pub account_concurrency: u32,
    /// Memory that instances leave free for everything else on the machine. New instances wait, then are
    /// refused, when less is available. Default `512MiB`.
    pub memory_reserve: u64,
    /// Disk space of one function's log: 8MiB to 1TiB. When it is full the oldest lines go. Default `32MiB`.
    pub log_limit: u64,
    /// How long running invocations may take to end when the server is told to stop: 0s to 15m. Default `30s`.
    pub drain_timeout: Duration,
}

/// What to do about isolation that the machine cannot give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Refuse to start unless every wall is there.
    Strict,
    /// Use what there is; `doctor` says what is missing.
    BestEffort,
    /// Plain processes: for functions that are trusted.
    None,
}

/// All keys of the file.
const KEYS: [&str; 22] = [
    "listen",
    "data-dir",
    "account-id",
    "region",
    "insecure",
    "isolation",
    "users",
    "network",
    "endpoints",
    "credentials",
    "access-keys",
    "metrics-token",
    "idle-timeout",
    "keep-alive",
    "keep-alive-bin",
    "freeze-after",
    "page-out-after",
    "training-runs",
    "account-concurrency",
    "memory-reserve",
    "log-limit",
    "drain-timeout",
];

/// Variables that mean something to other parts of Brooklet: the client, builds, the search for interpreters.
const OTHER_VARIABLES: [&str; 8] = [
    crate::commands::completions::VARIABLE,
    "BROOKLET_CONFIG",
    "BROOKLET_SERVER",
    "BROOKLET_FUNCTION",
    "BROOKLET_PYTHON",
    "BROOKLET_NODE",
    "BROOKLET_JAVA",
    "BROOKLET_DOTNET",
];

/// What to say of the variables that begin with `BROOKLET_` and mean nothing here: misspelt ones, most likely.
///
/// Not an error, as an unknown key of the file is: the file is ours alone, while others put variables into a
/// server's environment (Kubernetes `BROOKLET_SERVICE_HOST` and `BROOKLET_PORT`, for a service of that name), and
/// none of them may keep it from starting.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let told = |name: String| {
        let rest = name.strip_prefix("BROOKLET_")?;
        if OTHER_VARIABLES.contains(&name.as_str()) || KEYS.iter().any(|key| variable(key) == name) {
            return None;
        }
        let hint = nearest(rest, KEYS).map(|key| format!(": did you mean {}?", variable(key)));
        Some(format!("the variable {name} is not a setting and has no effect{}", hint.unwrap_or_default()))
    };
    names.into_iter().filter_map(told).collect()
}

/// Merges flags (by key), environment, file (name and text) and defaults. Reports every mistake at once.
pub fn resolve(
    flags: &BTreeMap<&'static str, String>,
    env: &dyn Fn(&str) -> Option<String>,
    file: Option<(&str, &str)>,
) -> Result<Config> {
    let (name, text) = file.unwrap_or_default();
    let mut reader = Reader { flags, env, file: Table::parse(Source { name, text }), mistakes: vec![] };
    let config = Config {
        listen: reader.get("listen", address).unwrap_or(([127, 0, 0, 1], 9170).into()),
        data_dir: reader.get("data-dir", path).unwrap_or_else(|| default_data_dir(env)),
        account_id: reader.get("account-id", account_id).unwrap_or_else(|| "0".repeat(12)),
        region: reader.get("region", region).unwrap_or_else(|| "us-east-1".to_string()),
        insecure: reader.get("insecure", boolean).unwrap_or(false),
        isolation: reader.get("isolation", isolation).unwrap_or(Isolation::BestEffort),
        users: reader.get("users", users),
        network: reader.get("network", network).unwrap_or(Network::Internet),
        endpoints: reader.endpoints(),
        credentials: reader.credentials(),
        access_keys: reader.access_keys(),
        metrics_token: reader.get("metrics-token", token),
        idle_timeout: reader
            .get("idle-timeout", |text| {
                within(text, units::duration, seconds(1), seconds(86_400), "1s to 24h")
            })
            .unwrap_or(seconds(600)),
        keep_alive: reader.get("keep-alive", units::keep_policy).unwrap_or_default(),
        keep_alive_bin: reader
            .get("keep-alive-bin", |text| {
                within(text, units::duration, Duration::from_millis(10), seconds(3_600), "10ms to 1h")
            })
            .unwrap_or(seconds(60)),
        freeze_after: reader.get("freeze-after", up_to_a_day).unwrap_or(seconds(1)),
        page_out_after: reader.get("page-out-after", up_to_a_day).unwrap_or(seconds(60)),
        training_runs: reader.get("training-runs", boolean).unwrap_or(true),
        account_concurrency: reader
            .get("account-concurrency", |text| within(text, number, 1, 100_000, "1 to 100000"))
            .unwrap_or(1_000),
        memory_reserve: reader.get("memory-reserve", units::size).unwrap_or(512 << 20),
        log_limit: reader
            .get("log-limit", |text| within(text, units::size, MIN_KEPT, 1 << 40, "8MiB to 1TiB"))
            .unwrap_or(DEFAULT_KEPT),
        drain_timeout: reader
            .get("drain-timeout", |text| within(text, units::duration, seconds(0), seconds(900), "0s to 15m"))
            .unwrap_or(seconds(30)),
    };
    let Reader { file, mut mistakes, .. } = reader;
    file.finish(&mut mistakes);
    if !mistakes.is_empty() {
        return Err(fail(mistakes));
    }
    if !config.listen.ip().is_loopback() && !config.insecure && config.access_keys.is_empty() {
        return Err(Error::new(Exit::Insecure, format!("will not listen on {}", config.listen))
            .because("anyone who reaches that address could run code here: no access keys are configured")
            .fix(
                "add [access-keys] to the configuration file (or set BROOKLET_ACCESS_KEYS=ID:SECRET), listen on \
                 127.0.0.1, or say --insecure",
            ));
    }
    Ok(config)
}

/// Reads the file (`--config`, else `BROOKLET_CONFIG`, else `$XDG_CONFIG_HOME/brooklet/config.toml` when it is
/// there) and resolves against the process's environment.
pub fn load(flags: &BTreeMap<&'static str, String>, file: Option<&Path>) -> Result<Config> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = file.map(Path::to_path_buf).or_else(|| env("BROOKLET_CONFIG").map(PathBuf::from));
    let (path, must_exist) = match named {
        Some(path) => (path, true),
        None => (home_dir(&env, "XDG_CONFIG_HOME", ".config").join("brooklet/config.toml"), false),
    };
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => resolve(flags, &env, Some((&name, &text))),
        Err(error) if !must_exist && error.kind() == std::io::ErrorKind::NotFound => {
            resolve(flags, &env, None)
        }
        Err(error) => Err(Error::new(Exit::Mistakes, format!("cannot read the configuration file {name}"))
            .because(error)
            .fix("name an existing file with --config, or leave it out")),
    }
}

/// `$XDG_DATA_HOME/brooklet`, where the server keeps everything unless told otherwise.
pub fn default_data_dir(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    home_dir(env, "XDG_DATA_HOME", ".local/share").join("brooklet")
}

/// `$XDG_CACHE_HOME/brooklet`, for build output and downloads that can be made again.
pub fn cache_dir() -> PathBuf {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    home_dir(&env, "XDG_CACHE_HOME", ".cache").join("brooklet")
}

/// An XDG base directory: the variable when it is an absolute path (the XDG specification says to ignore
/// others), else the default under the home directory.
fn home_dir(env: &dyn Fn(&str) -> Option<String>, variable: &str, default: &str) -> PathBuf {
    match env(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => PathBuf::from(env("HOME").unwrap_or_else(|| "/".to_string())).join(default),
    }
}

/// Takes settings from the first place that has them, and checks those it passes over in the file too.
struct Reader<'a> {
    flags: &'a BTreeMap<&'static str, String>,
    env: &'a dyn Fn(&str) -> Option<String>,
    file: Table<'a>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn get<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Option<T> {
        let from_file = self.file.parsed(key, &parse).map(|found| found.value);
        let variable = variable(key);
        let (place, text) = match (self.flags.get(key), (self.env)(&variable)) {
            (Some(text), _) => (format!("--{key}"), text.clone()),
            (None, Some(text)) => (variable, text),
            (None, None) => return from_file,
        };
        parse(&text).map_err(|what| self.mistakes.push(Mistake { place, what })).ok()
    }

    fn endpoints(&mut self) -> BTreeMap<String, String> {
        let (place, from_file) = match self.file.texts("endpoints") {
            Some(found) => (found.place, found.value),
            None => Default::default(),
        };
        self.mistakes.extend(endpoints(&place, &from_file));
        let variable = variable("endpoints");
        let Some(text) = (self.env)(&variable) else { return from_file };
        let pair = |pair: &str| pair.split_once('=').map(|(key, url)| (key.trim().into(), url.trim().into()));
        let Some(all) = text.split(',').map(pair).collect::<Option<BTreeMap<String, String>>>() else {
            let what = "write AWS_ENDPOINT_URL=URL, several with commas between".to_string();
            self.mistakes.push(Mistake { place: variable, what });
            return BTreeMap::new();
        };
        self.mistakes.extend(endpoints(&variable, &all));
        all
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let from_file = self.file.texts("credentials");
        let variable = variable("credentials");
        let from_variable = (self.env)(&variable).map(|text| {
            let names = ["access-key-id", "secret-access-key", "session-token"].map(str::to_owned);
            names.into_iter().zip(text.splitn(3, ':').map(|part| part.trim().to_owned())).collect()
        });
        let from_variable = from_variable.map(|value| Found { place: variable, value });
        let Found { place, value: mut given }: Found<BTreeMap<String, String>> =
            from_variable.or(from_file)?;
        let mut take = |name: &str| given.remove(name).filter(|value| !value.is_empty());
        let (id, secret, session_token) =
            (take("access-key-id"), take("secret-access-key"), take("session-token"));
        match (id, secret, given.is_empty()) {
            (Some(access_key_id), Some(secret_access_key), true) => {
                Some(Credentials { access_key_id, secret_access_key, session_token })
            }
            _ => {
                let what = "credentials: write access-key-id and secret-access-key, and session-token where there is \
                            one (in the environment ID:SECRET or ID:SECRET:TOKEN)";
                self.mistakes.push(Mistake { place, what: what.to_string() });
                None
            }
        }
    }

    fn access_keys(&mut self) -> BTreeMap<String, Secret> {
        let from_file = self.file.texts("access-keys").map(|found| found.value).unwrap_or_default();
        let from_file = from_file.into_iter().map(|(id, secret)| (id, secret.into())).collect();
        let place = variable("access-keys");
        let Some(text) = (self.env)(&place) else { return from_file };
        let pair = |pair: &str| {
            pair.split_once(':').map(|(id, secret)| (id.trim().to_string(), secret.trim().to_string().into()))
        };
        text.split(',').map(pair).collect::<Option<_>>().unwrap_or_else(|| {
            self.mistakes
                .push(Mistake { place, what: "write ID:SECRET, several with commas between".to_string() });
            BTreeMap::new()
        })
    }
}

/// `data-dir` → `BROOKLET_DATA_DIR`.
fn variable(key: &str) -> String {
    format!("BROOKLET_{}", key.to_ascii_uppercase().replace('-', "_"))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `Duration::MAX` for `never`.
fn up_to_a_day(text: &str) -> std::result::Result<Duration, String> {
    match text {
        "never" => Ok(Duration::MAX),
        _ => within(text, units::duration, seconds(0), seconds(86_400), "0s to 24h (or say never)"),
    }
}

fn within<T: PartialOrd>(
    text: &str,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
    least: T,
    most: T,
    range: &str,
) -> std::result::Result<T, String> {
    let value = parse(text)?;
    if value < least || value > most { Err(format!("`{text}` is outside {range}")) } else { Ok(value) }
}

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let hint = || format!("`{text}` is not an address and port, such as 127.0.0.1:9170 or [::1]:9170");
    let text = text.strip_prefix("localhost:").map_or(text.to_string(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| hint())
}

fn path(text: &str) -> std::result::Result<PathBuf, String> {
    if text.is_empty() { Err("a path is missing".to_string()) } else { Ok(PathBuf::from(text)) }
}

fn account_id(text: &str) -> std::result::Result<String, String> {
    match text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(text.to_string()),
        false => Err(format!("`{text}` is not an account id: twelve digits in quotes")),
    }
}

fn region(text: &str) -> std::result::Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match !text.is_empty() && text.len() <= 32 && text.bytes().all(fits) {
        true => Ok(text.to_string()),
        false => {
            Err(format!("`{text}` is not a region: lower-case letters, digits and hyphens, as us-east-1"))
        }
    }
}

fn boolean(text: &str) -> std::result::Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn number(text: &str) -> std::result::Result<u32, String> {
    text.replace('_', "").parse().map_err(|_| format!("`{text}` is not a whole number"))
}

/// What is wrong with a secret is told without it.
fn token(text: &str) -> std::result::Result<Token, String> {
    let (least, most) = (Token::SHORTEST, Token::LONGEST);
    let hint = || {
        format!("a token has {least} to {most} characters, without blanks: `openssl rand -hex 32` makes one")
    };
    Token::new(text).ok_or_else(hint)
}

fn network(text: &str) -> std::result::Result<Network, String> {
    text.parse().map_err(|()| format!("`{text}` is not one of {}", Network::NAMES.join(", ")))
}

/// Below are those of the machine's own services, above what stands for nobody.
const USERS: Range<u64> = 1_000..u32::MAX as u64;

fn users(text: &str) -> std::result::Result<Range<u32>, String> {
    let hint = || {
        let (first, last) = (USERS.start, USERS.end - 1);
        format!("`{text}` is not FIRST:COUNT, such as 2000000:65536: 1024 to 16777216 of {first} to {last}")
    };
    let (first, count) = text.split_once(':').ok_or_else(hint)?;
    let (first, count) = (number(first).map_err(|_| hint())?, number(count).map_err(|_| hint())?);
    let end = u64::from(first) + u64::from(count);
    match u64::from(first) >= USERS.start && end <= USERS.end && (1 << 10..=1 << 24).contains(&count) {
        true => Ok(first..first + count),
        false => Err(hint()),
    }
}

/// The most endpoints: each is a socket in every instance.
const MOST_ENDPOINTS: usize = 12;

/// What is wrong with endpoints that are written at `place`.
fn endpoints(place: &str, all: &BTreeMap<String, String>) -> Vec<Mistake> {
    let service = |rest: &str| {
        rest.strip_prefix('_').is_some_and(|name| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        })
    };
    let mut mistakes = Vec::new();
    for (variable, url) in all {
        let named =
            variable.strip_prefix("AWS_ENDPOINT_URL").is_some_and(|rest| rest.is_empty() || service(rest));
        let uri: Option<http::Uri> = url.parse().ok();
        let web = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        let what = match (named, web) {
            (true, true) => continue,
            (false, _) => format!(
                "`{variable}` is not AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_<SERVICE>, such as AWS_ENDPOINT_URL_S3"
            ),
            (true, false) => format!("`{url}` is not a URL such as http://127.0.0.1:4566"),
        };
        mistakes.push(Mistake { place: place.to_string(), what: format!("endpoints: {what}") });
    }
    if all.len() > MOST_ENDPOINTS {
        let what = format!("endpoints: {} are named, at most {MOST_ENDPOINTS} may be", all.len());
        mistakes.push(Mistake { place: place.to_string(), what });
    }
    mistakes
}

fn isolation(text: &str) -> std::result::Result<Isolation, String> {
    match text {
        "strict" => Ok(Isolation::Strict),
        "best-effort" => Ok(Isolation::BestEffort),
        "none" => Ok(Isolation::None),
        _ => Err(format!("`{text}` is not one of strict, best-effort, none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags as `key=value`, environment as `NAME=value`, one a line, and the file's text.
    fn resolve_text(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Result<Config> {
        let flags = flags.iter().map(|(key, value)| (*key, value.to_string())).collect();
        let env: BTreeMap<&str, &str> = env.iter().copied().collect();
        resolve(&flags, &|name| env.get(name).map(|value| value.to_string()), Some(("c.toml", file)))
    }

    fn mistakes(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> String {
        resolve_text(flags, env, file).expect_err("has mistakes").to_string()
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let (flag, env, file) =
            ([("region", "from-flag")], [("BROOKLET_REGION", "from-env")], "region = 'from-file'");
        let region = |flags, env, file| resolve_text(flags, env, file).expect("resolves").region;
        assert_eq!(region(&flag, &env, file), "from-flag");
        assert_eq!(region(&[], &env, file), "from-env");
        assert_eq!(region(&[], &[], file), "from-file");
        assert_eq!(region(&[], &[], ""), "us-east-1");
    }

    #[test]
    fn every_default_is_what_the_reference_says() {
        let config = resolve_text(&[], &[("HOME", "/home/ada")], "").expect("resolves");
        let expected = Config {
            listen: "127.0.0.1:9170".parse().expect("an address"),
            data_dir: "/home/ada/.local/share/brooklet".into(),
            account_id: "000000000000".into(),
            region: "us-east-1".into(),
            insecure: false,
            isolation: Isolation::BestEffort,
            users: None,
            network: Network::Internet,
            endpoints: BTreeMap::new(),
            credentials: None,
            access_keys: BTreeMap::new(),
            metrics_token: None,
            idle_timeout: seconds(600),
            keep_alive: Policy::Fixed,
            keep_alive_bin: seconds(60),
            freeze_after: seconds(1),
            page_out_after: seconds(60),
            training_runs: true,
            account_concurrency: 1_000,
            memory_reserve: 512 << 20,
            log_limit: 32 << 20,
            drain_timeout: seconds(30),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn mistakes_of_all_places_come_together() {
        let text = mistakes(
            &[("listen", "here")],
            &[("BROOKLET_ACCOUNT_ID", "12"), ("BROOKLET_ACCESS_KEYS", "abc")],
            "idle-timeout = 600\nregoin = 'x'\nisolation = 'full'",
        );
        insta::assert_snapshot!(text, @r"
        6 mistakes:
          --listen: `here` is not an address and port, such as 127.0.0.1:9170 or [::1]:9170
          BROOKLET_ACCOUNT_ID: `12` is not an account id: twelve digits in quotes
          BROOKLET_ACCESS_KEYS: write ID:SECRET, several with commas between
          c.toml:1: idle-timeout: `600` is not a duration: write a whole number with ms, s, m, h or d, such as 30s
          c.toml:2: unknown key `regoin`: did you mean `region`?
          c.toml:3: isolation: `full` is not one of strict, best-effort, none
        ");
    }

    #[test]
    fn credentials_are_an_id_a_secret_and_perhaps_a_token() {
        let credentials =
            |env: &[(&str, &str)], file| resolve_text(&[], env, file).expect("resolves").credentials;
        assert_eq!(credentials(&[], ""), None);
        let file = "[credentials]\naccess-key-id = 'minio'\nsecret-access-key = 'minio123'";
        let found = credentials(&[], file).expect("some");
        assert_eq!((found.access_key_id.as_str(), found.session_token), ("minio", None));
        let found = credentials(&[("BROOKLET_CREDENTIALS", "a:b:c:d")], file).expect("some");
        assert_eq!((found.secret_access_key.as_str(), found.session_token.as_deref()), ("b", Some("c:d")));
        for file in ["[credentials]\naccess-key-id = 'a'", "[credentials]\nid = 'a'\nsecret-access-key = 'b'"]
        {
            let mistakes = resolve_text(&[], &[], file).expect_err("refused").to_string();
            assert!(mistakes.contains("access-key-id and secret-access-key"), "{mistakes}");
        }
    }

    #[test]
    fn a_token_is_long_enough_and_is_not_told() {
        let token =
            |env: &[(&str, &str)], file| resolve_text(&[], env, file).expect("resolves").metrics_token;
        assert_eq!(token(&[], ""), None);
        let file = "metrics-token = 'sixteen-letters!'";
        assert!(!format!("{:?}", token(&[], file).expect("one")).contains("sixteen"));
        assert_ne!(token(&[("BROOKLET_METRICS_TOKEN", "another-of-sixteen")], file), token(&[], file));
        for bad in ["tooshort", "with a blank in it"] {
            let text = mistakes(&[], &[("BROOKLET_METRICS_TOKEN", bad)], "");
            assert!(
                text.contains("BROOKLET_METRICS_TOKEN: a token has 16 to 512") && !text.contains(bad),
                "{text}"
            );
        }
    }

    #[test]
    fn endpoints_are_variables_of_the_sdks_and_urls() {
        let endpoints =
            |env: &[(&str, &str)], file| resolve_text(&[], env, file).expect("resolves").endpoints;
        let file =
            "[endpoints]\nAWS_ENDPOINT_URL = 'http://127.0.0.1:4566'\nAWS_ENDPOINT_URL_S3 = 'https://s3.lan'";
        assert_eq!(endpoints(&[], file).len(), 2);
        let env = [("BROOKLET_ENDPOINTS", "AWS_ENDPOINT_URL_SQS=http://localhost:9324")];
        assert_eq!(endpoints(&env, file)["AWS_ENDPOINT_URL_SQS"], "http://localhost:9324");
        let text = mistakes(
            &[("network", "some")],
            &[("BROOKLET_ENDPOINTS", "http://127.0.0.1:4566")],
            "[endpoints]\nS3 = 'http://127.0.0.1:1'\nAWS_ENDPOINT_URL_S3 = 'localhost:4566'",
        );
        insta::assert_snapshot!(text, @r"
        4 mistakes:
          --network: `some` is not one of none, internet, host
          BROOKLET_ENDPOINTS: write AWS_ENDPOINT_URL=URL, several with commas between
          c.toml:1: endpoints: `localhost:4566` is not a URL such as http://127.0.0.1:4566
          c.toml:1: endpoints: `S3` is not AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_<SERVICE>, such as AWS_ENDPOINT_URL_S3
        ");
    }

    #[test]
    fn a_file_value_that_is_overridden_is_still_checked() {
        assert!(mistakes(&[("region", "eu-west-1")], &[], "region = 'EU'").contains("c.toml:1"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let file = "metrics-token = 'hidden-metrics-token'\n[access-keys]\nAKIA = 'hidden-key'\n\
                    [credentials]\naccess-key-id = 'minio'\nsecret-access-key = 'hidden'\nsession-token = 'hidden'";
        let shown = format!("{:?}", resolve_text(&[], &[], file).expect("valid"));
        assert!(shown.contains("AKIA") && shown.contains("minio") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn listening_beyond_loopback_takes_keys_or_consent() {
        let wide = "listen = '0.0.0.0:9170'\n";
        let refused = resolve_text(&[], &[], wide).expect_err("refused");
        assert_eq!(refused.exit, Exit::Insecure);
        assert!(resolve_text(&[("insecure", "true")], &[], wide).is_ok());
        assert!(resolve_text(&[], &[], &format!("{wide}[access-keys]\nAKIA = 'secret'")).is_ok());
        assert!(resolve_text(&[], &[("BROOKLET_ACCESS_KEYS", "AKIA:secret")], wide).is_ok());
        assert!(resolve_text(&[], &[], "listen = '[::1]:0'").is_ok());
    }

    #[test]
    fn ranges_are_those_of_the_reference() {
        for (key, least, most, below, above) in [
            ("idle-timeout", "1s", "24h", "999ms", "86401s"),
            ("keep-alive-bin", "10ms", "1h", "9ms", "3601s"),
            ("freeze-after", "0s", "never", "-1s", "86401s"),
            ("page-out-after", "24h", "never", "sometimes", "86401s"),
            ("account-concurrency", "1", "100000", "0", "100001"),
            ("drain-timeout", "0s", "15m", "-1s", "901s"),
            ("log-limit", "8MiB", "1TiB", "7MiB", "2TiB"),
            ("users", "1000:1024", "4278190079:16777216", "999:1024", "4278190080:16777216"),
            ("users", "100000:65536", "2_000_000:1024", "2000000:1023", "2000000:16777217"),
            ("users", "100000:65536", "2_000_000:1024", "2000000", "-1:65536"),
        ] {
            for fitting in [least, most] {
                assert!(resolve_text(&[(key, fitting)], &[], "").is_ok(), "{key} {fitting}");
            }
            for other in [below, above] {
                assert!(resolve_text(&[(key, other)], &[], "").is_err(), "{key} {other}");
            }
        }
    }

    #[test]
    fn a_data_home_that_is_not_absolute_is_ignored() {
        let env = [("HOME", "/h"), ("XDG_DATA_HOME", "relative")];
        assert_eq!(
            resolve_text(&[], &env, "").expect("resolves").data_dir,
            Path::new("/h/.local/share/brooklet")
        );
    }

    #[test]
    fn the_keys_are_those_that_are_read() {
        let text = mistakes(&[], &[], "something-else = 1");
        assert!(text.ends_with(&format!("known here: {}", KEYS.join(", "))), "{text}");
    }

    #[test]
    fn a_variable_that_is_no_setting_is_told_with_the_one_that_was_meant() {
        let check = |names: &[&str]| unknown_variables(names.iter().map(|name| (*name).to_owned()));
        assert!(
            check(&["BROOKLET_IDLE_TIMEOUT", "BROOKLET_ACCESS_KEYS", "BROOKLET_SERVER", "HOME"]).is_empty()
        );
        assert_eq!(
            check(&["BROOKLET_IDLE_TIMEUOT", "BROOKLET_SERVICE_HOST"]),
            [
                "the variable BROOKLET_IDLE_TIMEUOT is not a setting and has no effect: did you mean BROOKLET_IDLE_TIMEOUT?",
                "the variable BROOKLET_SERVICE_HOST is not a setting and has no effect",
            ]
        );
    }

    #[test]
    fn the_reference_for_users_names_every_key() {
        let reference = include_str!("../../../docs/configuration.md");
        for key in KEYS {
            assert!(reference.contains(&format!("`{key}`")), "docs/configuration.md lacks {key}");
        }
    }
}
