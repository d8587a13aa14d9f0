//! `doctor`: what this machine can run and isolate, what is missing and what to do about it.

use super::runtimes::{installed, runtimes_dir};
use crate::cli::{Doctor, Output};
use crate::client::Client;
use crate::error::Result;
use crate::exit::Exit;
use crate::{machine, output, units};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As it should be.
    Ok,
    /// Works, with a restriction.
    Limited,
    /// Not there; what depends on it does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Check {
    area: &'static str,
    name: String,
    state: State,
    found: String,
    remedy: &'static str,
}

impl Check {
    fn new(area: &'static str, name: impl Into<String>, state: State, found: impl Into<String>) -> Check {
        Check { area, name: name.into(), state, found: found.into(), remedy: "" }
    }

    fn remedy(mut self, remedy: &'static str) -> Check {
        if self.state != State::Ok {
            self.remedy = remedy;
        }
        self
    }
}

/// Runs the command.
pub async fn run(args: Doctor, client: &Client) -> Result<Exit> {
    let mut checks = interpreters();
    checks.extend(sdks(&runtimes_dir(None)));
    checks.extend(tools());
    checks.extend(kernel(Path::new("/")));
    checks.extend(sandbox().await);
    checks.extend(resources());
    checks.push(server(client).await);
    match args.output {
        Output::Json => {
            let entry = |check: &Check| {
                json!({
                    "area": check.area, "name": check.name, "state": word(check.state),
                    "found": check.found, "remedy": check.remedy,
                })
            };
            output::json(&checks.iter().map(entry).collect())?;
        }
        Output::Table => output::line(show(&checks))?,
    }
    Ok(Exit::Success)
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "missing",
    }
}

/// One block an area; remedies under what they are for.
fn show(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = vec![];
    let mut area = "";
    for check in checks {
        if check.area != area {
            area = check.area;
            lines.push(format!("{}{area}", if lines.is_empty() { "" } else { "\n" }));
        }
        lines.push(
            format!("  {:<7}  {:<width$}  {}", word(check.state), check.name, check.found)
                .trim_end()
                .to_string(),
        );
        if !check.remedy.is_empty() {
            lines.push(format!("  {:<7}  {:<width$}  → {}", "", "", check.remedy));
        }
    }
    lines.join("\n")
}

fn interpreters() -> Vec<Check> {
    let found = machine::interpreters();
    let remedies = [
        ("python", "install Python 3.9 or newer (Debian: python3)"),
        ("node", "install Node.js 18 or newer (Debian: nodejs)"),
        ("java", "install a JDK or JRE of version 17 or newer (Debian: openjdk-17-jre-headless)"),
        ("dotnet", "install the .NET runtime, or Mono (Debian: mono-runtime)"),
    ];
    let mut checks = vec![];
    for (language, remedy) in remedies {
        let of = |one: &&machine::Interpreter| {
            one.language == language || (language == "dotnet" && one.language == "mono")
        };
        let all: Vec<_> = found.iter().filter(of).collect();
        if all.is_empty() {
            checks.push(Check::new("interpreters", language, State::Missing, "none found").remedy(remedy));
        }
        checks.extend(all.into_iter().map(|one| {
            let name = format!("{} {}", one.language, one.version);
            Check::new("interpreters", name, State::Ok, one.program.display().to_string())
        }));
    }
    let jvms = found.iter().filter(|one| one.language == "java");
    let javac = |one| Some(process::java_compiler(one)).filter(|path| path.is_absolute());
    checks.extend(compilers(jvms.map(|one| javac(one).or_else(|| machine::which("javac")))));
    checks
}

/// The compiler for each JVM: it is needed once, for those that boot ahead of need.
fn compilers(found: impl Iterator<Item = Option<PathBuf>>) -> Option<Check> {
    let check = |state, found: String| Check::new("interpreters", "javac", state, found);
    let found: Vec<_> = found.collect();
    let check = match found.iter().flatten().next() {
        Some(path) if found.iter().all(Option::is_some) => check(State::Ok, path.display().to_string()),
        Some(path) => {
            check(State::Limited, format!("{}; JVMs without one start Java functions slower", path.display()))
        }
        None if found.is_empty() => return None, // there is no Java, which is told already
        None => {
            check(State::Limited, "none: no JVM boots ahead of need, so Java functions start slower".into())
        }
    };
    Some(
        check.remedy(
            "install a JDK, not only a JRE (Debian: default-jdk-headless), and start the server again",
        ),
    )
}

fn sdks(dir: &Path) -> Vec<Check> {
    let check = |language: &str, name: &str, remedy: &'static str| match installed(language, dir) {
        Some(what) => Check::new("carried by Lambda's runtimes", name, State::Ok, what),
        None => {
            let check = Check::new("carried by Lambda's runtimes", name, State::Missing, "not installed");
            check.remedy(remedy)
        }
    };
    vec![
        check("python", "boto3", "brooklet runtimes install python"),
        check("node", "@aws-sdk", "brooklet runtimes install node"),
        check("java", "java client", "brooklet runtimes install java"),
    ]
}

fn tools() -> Vec<Check> {
    let check = |program: &'static str, remedy: &'static str| match machine::which(program) {
        Some(path) => Check::new("build tools", program, State::Ok, path.display().to_string()),
        None => Check::new("build tools", program, State::Missing, "not on the search path").remedy(remedy),
    };
    vec![
        check("pip", "needed to deploy Python with requirements (Debian: python3-pip)"),
        check("npm", "needed to deploy Node with dependencies, and TypeScript (Debian: npm)"),
        check("go", "needed to deploy Go from source"),
        check("cargo", "needed to deploy Rust from source"),
        check("mvn", "needed to deploy Java from source (Debian: maven)"),
        check("mcs", "needed to deploy C# from source without a .NET SDK (Debian: mono-mcs)"),
    ]
}

fn kernel(root: &Path) -> Vec<Check> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut checks = vec![
        namespaces(&read),
        cgroups(
            &read("proc/self/mounts"),
            &read("sys/fs/cgroup/cgroup.controllers"),
            rustix::process::geteuid().is_root(),
        ),
    ];
    checks.push(match read("proc/filesystems").contains("overlay") {
        true => Check::new("isolation", "overlayfs", State::Ok, "in the kernel"),
        false => {
            Check::new("isolation", "overlayfs", State::Limited, "not loaded").remedy("modprobe overlay")
        }
    });
    checks.push(landlock(process::landlock_abi()));
    checks.push(match read("proc/sys/kernel/seccomp/actions_avail") {
        text if text.is_empty() => Check::new("isolation", "seccomp", State::Missing, "not in this kernel")
            .remedy("boot a kernel with CONFIG_SECCOMP_FILTER"),
        text if text.contains("user_notif") => {
            Check::new("isolation", "seccomp", State::Ok, "with user notification")
        }
        _ => Check::new("isolation", "seccomp", State::Limited, "without user notification")
            .remedy("boot Linux 5.0 or newer"),
    });
    checks
}

fn landlock(abi: Option<u32>) -> Check {
    let check = |state, found: String| Check::new("isolation", "landlock", state, found);
    let remedy =
        "boot Linux 5.19 or newer (6.12 for signals) with lsm=…,landlock; the other walls stand without it";
    match abi {
        None => check(State::Limited, "not in this kernel".to_owned()).remedy(remedy),
        Some(abi) if abi < process::OLDEST_LANDLOCK => {
            check(State::Limited, format!("ABI {abi}, which is too old to be used")).remedy(remedy)
        }
        Some(abi @ ..=5) => check(State::Ok, format!("ABI {abi}: files")),
        Some(abi) => check(State::Ok, format!("ABI {abi}: files, signals and abstract sockets")),
    }
}

fn namespaces(read: &impl Fn(&str) -> String) -> Check {
    let most: u64 = read("proc/sys/user/max_user_namespaces").trim().parse().unwrap_or(0);
    let is_root = rustix::process::geteuid().is_root();
    let barred = read("proc/sys/kernel/unprivileged_userns_clone").trim() == "0"
        || read("proc/sys/kernel/apparmor_restrict_unprivileged_userns").trim() == "1";
    let check = |state, found: &str| Check::new("isolation", "user namespaces", state, found);
    match (is_root, most, barred) {
        (true, _, _) => check(State::Ok, "running as root: namespaces of every kind"),
        (false, 0, _) => check(State::Limited, "none allowed: functions see this machine's files")
            .remedy("sysctl user.max_user_namespaces=15000, or run the server as root"),
        (false, _, true) => check(State::Limited, "barred for ordinary users: functions see this machine's files").remedy(
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Debian: kernel.unprivileged_userns_clone=1), or run \
             the server as root",
        ),
        (false, most, false) => check(State::Ok, &format!("up to {most}")),
    }
}

fn cgroups(mounts: &str, controllers: &str, is_root: bool) -> Check {
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    let check = |state, found: String| Check::new("isolation", "cgroups", state, found);
    match (has("cgroup2") && controllers.contains("memory"), has("cgroup")) {
        (true, _) => check(State::Ok, format!("v2 with {}", controllers.trim())),
        (false, true) if is_root => check(State::Ok, "v1 controllers".to_string()),
        (false, true) => check(State::Limited, "v1 controllers, which are root's alone".to_string())
            .remedy("run the server as root, or boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)"),
        _ => check(
            State::Limited,
            "no controllers: what a function takes of memory and processes is not limited".to_string(),
        )
        .remedy("mount cgroup2 with the memory controller (systemd does)"),
    }
}

/// Starts a trial program in a sandbox, as the server does before it says that it is ready: what comes of its network,
/// and who it is.
async fn sandbox() -> [Check; 2] {
    let folder = std::env::temp_dir().join(format!("brooklet-doctor-{}", std::process::id()));
    let settings = process::Settings {
        training_runs: false,
        users: None,
        run_dir: folder.clone(),
        runtimes_dir: folder.clone(),
        install: String::new(),
        isolation: process::Isolation::Root,
        network: model::Network::Internet,
        endpoints: Default::default(),
        credentials: Default::default(),
        connections: 0,
        stems: 0,
        keep_alive: Duration::ZERO,
    };
    let found = match process::ProcessExecutor::new(settings) {
        Err(error) => ["network", "users"].map(|name| {
            let found = format!("could not be tried in {}: {error}", folder.display());
            let check = Check::new("isolation", name, State::Limited, found);
            check.remedy("set TMPDIR to a folder that can be written to")
        }),
        Ok(executor) => {
            let isolation = executor.isolation().await;
            [network(isolation, executor.no_internet()), users(isolation, executor.no_own_users())]
        }
    };
    let _ = std::fs::remove_dir_all(folder);
    found
}

fn network(isolation: process::Isolation, no_internet: Option<&str>) -> Check {
    let check = |state, found: String| Check::new("isolation", "network", state, found);
    match (isolation, no_internet) {
        (process::Isolation::None, _) => {
            check(State::Limited, "functions share this machine's network".to_string())
                .remedy("make user namespaces available, or run the server as root")
        }
        (_, Some(why)) => {
            check(State::Limited, format!("its own; `internet` reaches no more than `none`: {why}"))
                .remedy("modprobe nft_tproxy, or boot a kernel with it; or give functions network = \"host\"")
        }
        (_, None) => check(State::Ok, "its own for each instance: none, internet or host".to_string()),
    }
}

fn users(isolation: process::Isolation, no_own_users: Option<&str>) -> Check {
    let check = |state, found: String| Check::new("isolation", "users", state, found);
    match (isolation, no_own_users) {
        (process::Isolation::Root, None) => {
            check(State::Ok, "each instance is a user of its own on this machine".to_string())
        }
        (process::Isolation::Root, Some(why)) => {
            check(State::Limited, format!("all instances are one user: {why}")).remedy(
                "sysctl user.max_user_namespaces=15000; in a container, a range of `users` that it has",
            )
        }
        _ => check(
            State::Limited,
            "all instances are this user: what the kernel counts by user (inotify, pipes) they share"
                .to_string(),
        )
        .remedy("run the server as root"),
    }
}

fn resources() -> Vec<Check> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let state = if hard < 16_384 { State::Limited } else { State::Ok };
    let files = Check::new("resources", "open files", state, format!("at most {hard}"))
        .remedy("raise the hard limit (LimitNOFILE=, ulimit -Hn): an instance takes about 11");
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let free = format!(
        "{} of {} available",
        units::show_size(kib("MemAvailable:") << 10),
        units::show_size(kib("MemTotal:") << 10)
    );
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    vec![
        files,
        Check::new("resources", "memory", State::Ok, free),
        Check::new("resources", "cores", State::Ok, cores.to_string()),
    ]
}

async fn server(client: &Client) -> Check {
    match client.is_up().await {
        true => Check::new("server", "server", State::Ok, format!("answers at {}", client.url())),
        false => Check::new("server", "server", State::Limited, format!("none at {}", client.url()))
            .remedy("brooklet up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_told_by_what_is_mounted() {
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0";
        let v1 = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0";
        let check = |mounts: &str, controllers: &str| {
            let check = cgroups(mounts, controllers, true);
            (check.state, check.found)
        };
        assert_eq!(check(v2, "cpu memory pids\n"), (State::Ok, "v2 with cpu memory pids".to_string()));
        assert_eq!(check(&format!("{v1}\n{v2}"), ""), (State::Ok, "v1 controllers".to_string()));
        assert_eq!(check(v2, "").0, State::Limited);
        assert_eq!(check("", "").0, State::Limited);
        assert_eq!(cgroups(v1, "", false).state, State::Limited, "an ordinary user may make no groups there");
    }

    #[test]
    fn a_jvm_without_a_compiler_is_told_of_with_what_follows() {
        let javac = || Some(PathBuf::from("/jdk/bin/javac"));
        let check = |found: &[Option<PathBuf>]| compilers(found.iter().cloned());
        assert!(check(&[]).is_none(), "no Java at all");
        let state =
            |found: &[Option<PathBuf>]| check(found).map(|check| (check.state, check.remedy.is_empty()));
        assert_eq!(state(&[javac(), javac()]), Some((State::Ok, true)));
        assert_eq!(state(&[javac(), None]), Some((State::Limited, false)));
        assert_eq!(state(&[None]), Some((State::Limited, false)));
        assert!(check(&[None]).expect("told").found.contains("slower"));
    }

    #[test]
    fn a_remedy_stands_under_what_it_is_for() {
        let checks = [
            Check::new("tools", "go", State::Ok, "/usr/bin/go").remedy("never shown"),
            Check::new("tools", "cargo", State::Missing, "not there").remedy("install Rust"),
            Check::new("server", "server", State::Ok, "answers"),
        ];
        insta::assert_snapshot!(show(&checks), @r"
        tools
          ok       go      /usr/bin/go
          missing  cargo   not there
                           → install Rust

        server
          ok       server  answers
        ");
    }
}
