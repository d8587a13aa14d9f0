//! Python runtimes are forked: what is learned, what copies share and what they do not, and what happens when a zygote or
//! its files are gone.

#![allow(unsafe_code)] // one kills a zygote

mod rig;

use process::{Isolation, ProcessExecutor};
use rig::{answer, executor, newest_python, spec, until, write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// A function in a folder of its own.
fn package(dir: &Path, name: &str, code: &str) -> PathBuf {
    let package = dir.join(name);
    write(&package.join("f.py"), code);
    package
}

async fn run(executor: &ProcessExecutor, package: &Path) -> serde_json::Value {
    let answer = answer(executor, spec(&newest_python(), "f.handler", package)).await;
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
}

/// Starts a function until a zygote is up that has imported what the function imports.
async fn until_learned(executor: &ProcessExecutor, package: &Path) -> serde_json::Value {
    for _ in 0..40 {
        let seen = run(executor, package).await;
        if seen["ahead"] == true {
            return seen;
        }
        let zygotes = executor.forks().0;
        until(|| executor.stems().0 > 0 || executor.forks().0 != zygotes).await;
    }
    panic!("nothing was imported ahead");
}

/// Tells whether `json` was there before the function asked for it. Slow enough for it to pay.
const LEARNS: &str = "import sys\nahead = 'json' in sys.modules\nimport time, json, random, ssl, uuid, logging, tempfile, secrets\n\
                      import multiprocessing.process\ntime.sleep(0 if ahead else 0.2)\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_imports_is_imported_ahead_of_its_next_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    let sdk = dir.path().join("runtimes/python/site-packages");
    write(&sdk.join("sdk/__init__.py"), "import time\nfrom . import part\nborn = time.monotonic()\n");
    write(&sdk.join("sdk/part.py"), "import os\nplace = os.getcwd()\n");
    let code = "import sys\nahead = 'sdk' in sys.modules\nimport sdk, own, time\ntime.sleep(0 if ahead else 0.2)\n\
                def handler(event, context):\n    return {'ahead': ahead, 'file': sdk.__file__, 'own': own.value, \
                'old': time.monotonic() - sdk.born > 0, 'stray': 'decimal' in sys.modules}\n";
    let learning = package(dir.path(), "learning", code);
    write(&learning.join("own.py"), "import sys\nvalue = 'own' in sys.modules\n");
    assert_eq!(run(&executor, &learning).await["ahead"], false);
    let seen = until_learned(&executor, &learning).await;
    let expected = serde_json::json!({ "ahead": true, "file": "/var/sdk/site-packages/sdk/__init__.py", "own": true,
                                       "old": true, "stray": false });
    assert_eq!(seen, expected);
    // One that brings a module of this name gets its own.
    let code = "import sdk\ndef handler(event, context):\n    return {'ahead': hasattr(sdk, 'born'), 'file': sdk.__file__}\n";
    let other = package(dir.path(), "other", code);
    write(&other.join("sdk.py"), "");
    for _ in 0..3 {
        assert_eq!(run(&executor, &other).await["file"], "/var/task/sdk.py");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_one_zygote_have_randomness_and_clocks_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    let code = LEARNS.to_owned()
        + "import os\nlogging.getLogger().setLevel('INFO')\nhandlers = [type(h).__name__ for h in logging.getLogger().handlers]\n\
           record = logging.makeLogRecord({})\n\
           def handler(event, context):\n    return {'ahead': ahead, 'random': [random.random(), random.Random().random(), \
           ssl.RAND_bytes(8).hex(), str(uuid.uuid4()), os.urandom(8).hex(), secrets.token_hex(8), tempfile.mktemp(), \
           next(tempfile._get_candidate_names()), bytes(multiprocessing.process.current_process().authkey).hex()], \
           'fresh': record.relativeCreated < 10000, 'handlers': handlers, 'pid': [os.getpid(), record.process], \
           'dir': multiprocessing.process.ORIGINAL_DIR, 'tmp': tempfile.gettempdir()}\n";
    let package = package(dir.path(), "package", &code);
    let plain = run(&executor, &package).await;
    let mut seen =
        vec![plain, until_learned(&executor, &package).await, until_learned(&executor, &package).await];
    let mut drawn: Vec<_> = seen.iter_mut().map(|seen| seen["random"].take()).collect();
    seen[0]["ahead"] = true.into();
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
    let expected = serde_json::json!({ "ahead": true, "random": null, "fresh": true, "handlers": ["LambdaLoggerHandler"],
                                       "pid": [2, 2], "dir": "/var/task", "tmp": "/tmp" });
    assert_eq!(seen[0], expected);
    let last = drawn.pop().expect("three");
    let others: Vec<_> = drawn.iter().flat_map(|drawn| drawn.as_array().expect("a list")).collect();
    assert!(
        last.as_array().expect("a list").iter().all(|value| !others.contains(&value)),
        "{last} {others:?}"
    );
}

fn children() -> Vec<i32> {
    let own = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let children = own.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn kill(child: i32) {
    // SAFETY: a signal to a child of this process, which has not been reaped: it was found a moment ago.
    unsafe { libc::kill(child, libc::SIGKILL) };
}

/// A child's state (`Z` when it has ended and nobody has taken it out of the process table) and its process group.
fn stat(child: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.parse().ok()?, fields.nth(1)?.parse().ok()?))
}

/// The zygotes of an executor among this process's children: those that lead a group and see its bootstraps.
fn zygotes(dir: &Path) -> Vec<i32> {
    let runtime = dir.canonicalize().expect("there").join("run/runtime").to_string_lossy().into_owned();
    let is_one = |pid: &i32| {
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.contains(&runtime) && stat(*pid).is_some_and(|(_, group)| group == *pid)
    };
    children().into_iter().filter(is_one).collect()
}

/// What a zygote has forked and is still in the process table, with its state.
fn forks_of(zygote: i32) -> Vec<(i32, char)> {
    let of =
        |pid| stat(pid).filter(|(_, group)| *group == zygote && pid != zygote).map(|(state, _)| (pid, state));
    children().into_iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_outlive_their_zygote_and_the_next_start_works_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    let package =
        package(dir.path(), "package", "import os\ndef handler(event, context):\n    return os.getpid()\n");
    run(&executor, &package).await;
    until(|| executor.forks().0 == 1 && executor.stems().0 == 1).await;
    let running = rig::start(&executor, spec(&newest_python(), "f.handler", &package)).await;
    let zygotes = zygotes(dir.path());
    assert!(!zygotes.is_empty());
    zygotes.into_iter().for_each(kill);
    until(|| executor.forks().0 == 0).await;
    assert_eq!(rig::invoke(&running).await, "2");
    for _ in 0..4 {
        assert_eq!(run(&executor, &package).await, 2);
    }
    running.stop(std::time::Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_zygote_was_forking_when_it_was_killed_nothing_is_left() {
    let mut orphans = 0;
    // A zygote that dies is not replaced for a while: another server each time.
    for round in 0..20 {
        let dir = tempfile::tempdir().expect("a folder");
        let executor = Arc::new(executor(dir.path(), Isolation::Root));
        let package = package(dir.path(), "package", "def handler(event, context):\n    return 1\n");
        run(&executor, &package).await;
        until(|| executor.forks().0 == 1).await;
        let zygote = zygotes(dir.path())[0];
        let before = forks_of(zygote).len();
        let mut burst = JoinSet::new();
        for _ in 0..8 {
            let (executor, spec) = (executor.clone(), spec(&newest_python(), "f.handler", &package));
            burst.spawn(async move { rig::start(&executor, spec).await });
        }
        until(|| forks_of(zygote).len() > before + round % 4).await;
        kill(zygote);
        for instance in burst.join_all().await {
            assert_eq!(rig::invoke(&instance).await, "1");
            instance.stop(std::time::Duration::ZERO).await;
        }
        let died = |(_, state): &(i32, char)| *state == 'Z';
        orphans += usize::from(forks_of(zygote).iter().any(died));
        until(|| !forks_of(zygote).iter().any(died)).await;
        if orphans == 2 {
            return;
        }
    }
    panic!("{orphans} times in 20 a zygote was killed between its fork and its answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forked_from_files_that_have_been_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    let sdk = dir.path().join("runtimes/python/site-packages");
    write(&sdk.join("sdk.py"), "version = 1\n");
    let code = "import sys\nahead = 'sdk' in sys.modules\nimport sdk, time\ntime.sleep(0 if ahead else 0.2)\n\
                def handler(event, context):\n    return {'ahead': ahead, 'version': sdk.version}\n";
    let package = package(dir.path(), "package", code);
    run(&executor, &package).await;
    assert_eq!(until_learned(&executor, &package).await["version"], 1);
    std::fs::remove_dir_all(&sdk).expect("removed");
    write(&sdk.join("sdk.py"), "version = 2\n");
    assert_eq!(run(&executor, &package).await["version"], 2);
    assert_eq!(until_learned(&executor, &package).await["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_forked() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = Arc::new(executor(dir.path(), Isolation::Root));
    let package = package(dir.path(), "package", "def handler(event, context):\n    return 1\n");
    run(&executor, &package).await;
    until(|| executor.forks().0 == 1).await;
    let mut burst = JoinSet::new();
    for _ in 0..30 {
        let (executor, spec) = (executor.clone(), spec(&newest_python(), "f.handler", &package));
        burst.spawn(async move { rig::start(&executor, spec).await });
    }
    let burst = burst.join_all().await;
    assert!(executor.forks().1 >= 30, "{:?}", executor.forks());
    for instance in &burst {
        assert_eq!(rig::invoke(instance).await, "1");
        instance.stop(std::time::Duration::ZERO).await;
    }
}

/// It costs the zygote at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_ends_programs_while_it_is_imported_ahead_costs_no_function_anything() {
    for (end, zygote_stays) in [
        ("raise SystemExit(3)", true),
        ("raise KeyboardInterrupt", true),
        ("os._exit(3)", false),
        ("os.kill(os.getpid(), 9)", false),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let executor = executor(dir.path(), Isolation::Root);
        // A zygote has no function, and sees the machine beside it.
        let tried = dir.path().join("tried");
        let module = format!(
            "import os\nif '_HANDLER' not in os.environ:\n    open('/.host{}', 'w').close()\n    {end}\nvalue = 7\n",
            tried.display()
        );
        write(&dir.path().join("runtimes/python/site-packages/ends.py"), &module);
        let code = "import sys\nahead = 'json' in sys.modules\nimport time, json, ends\ntime.sleep(0 if ahead else 0.2)\n\
                    def handler(event, context):\n    return {'ahead': ahead, 'value': ends.value}\n";
        let package = package(dir.path(), "package", code);
        for _ in 0..40 {
            assert_eq!(run(&executor, &package).await["value"], 7, "{end}");
            if tried.exists() {
                break;
            }
        }
        assert!(tried.exists(), "nothing was imported ahead");
        if zygote_stays {
            assert_eq!(until_learned(&executor, &package).await["value"], 7, "{end}");
        }
        // That of functions without imports is another.
        until(|| executor.forks().0 == 1 + usize::from(zygote_stays)).await;
        for _ in 0..4 {
            assert_eq!(run(&executor, &package).await["value"], 7, "{end}");
        }
    }
}
