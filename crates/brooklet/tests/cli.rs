//! The program as people and scripts use it: help, errors, exit codes, and its commands against a fake server.

mod fake;

use fake::Fake;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own, removed when the test ends; also the home folder of the program.
struct Folder(PathBuf);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            Folder(std::env::temp_dir().join(format!("brooklet-cli-{}-{number}", std::process::id())));
        std::fs::create_dir_all(&folder.0).expect("a folder can be made");
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the program in `dir` with nothing of the user's environment but the search path.
fn run(dir: &Path, server: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brooklet"));
    command.args(args).current_dir(dir).env_clear().stdin(std::process::Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("BROOKLET_SERVER", server).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output and standard error as one text, with the folder and the server left out.
fn transcript(folder: &Folder, server: &str, args: &[&str]) -> String {
    let output = run(&folder.0, server, args);
    let all = format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr)
    );
    all.replace(&folder.0.display().to_string(), "[folder]").replace(server, "[server]")
}

const APP: (&str, &str) = ("app.py", "def handler(event, context):\n    return event\n");
const MANIFEST: (&str, &str) = (
    "brooklet.toml",
    "[function.hello]\nruntime = \"python3.11\"\nhandler = \"app.handler\"\nbuild = false\n",
);
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn help_teaches_every_command() {
    let folder = Folder::of(&[]);
    let commands = [
        "",
        "up",
        "new",
        "deploy",
        "dev",
        "invoke",
        "logs",
        "list",
        "show",
        "rm",
        "runtimes",
        "doctor",
        "simulate",
        "bench",
        "bench coldstart",
        "completions",
    ];
    for command in commands {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        insta::assert_snapshot!(
            format!("help {command}").trim(),
            text(&run(&folder.0, NOBODY, &args).stdout)
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_said_with_the_remedy() {
    let folder = Folder::of(&[APP, MANIFEST]);
    insta::assert_snapshot!(transcript(&folder, NOBODY, &["list"]), @r"
    exit 5
    --- stdout
    --- stderr
    error: no server answers at [server]
      because: Connection refused (os error 111)
      fix:     start one with `brooklet up`, or name another with --server URL
    ");
}

#[test]
fn all_mistakes_of_a_manifest_are_said_at_once() {
    let folder = Folder::of(&[
        APP,
        ("brooklet.toml", "[function.hello]\nmemory = 128\nhandlr = \"x\"\ntimeout = \"1h\"\n"),
    ]);
    insta::assert_snapshot!(transcript(&folder, NOBODY, &["deploy"]), @r"
    exit 3
    --- stdout
    --- stderr
    error: 3 mistakes:
      brooklet.toml:2: function.hello.memory: `128` is not a size: write a whole number with KiB, MiB, GiB or TiB, such as 256MiB
      brooklet.toml:3: unknown key `function.hello.handlr`: did you mean `handler`?
      brooklet.toml:4: function.hello.timeout: `1h` is outside 1s to 900s in whole seconds
    ");
}

#[test]
fn all_mistakes_of_the_configuration_are_said_at_once() {
    let folder = Folder::of(&[("c.toml", "idle-timeout = \"1w\"\nmemory_reserve = \"1GiB\"\n")]);
    let args = ["up", "--config", "c.toml", "--listen", "nowhere", "--account-id", "42"];
    insta::assert_snapshot!(transcript(&folder, NOBODY, &args), @r"
    exit 3
    --- stdout
    --- stderr
    error: 4 mistakes:
      --listen: `nowhere` is not an address and port, such as 127.0.0.1:9170 or [::1]:9170
      --account-id: `42` is not an account id: twelve digits in quotes
      c.toml:1: idle-timeout: `1w` is not a duration: write a whole number with ms, s, m, h or d, such as 30s
      c.toml:2: unknown key `memory_reserve`: did you mean `memory-reserve`?
    ");
}

/// Made-up functions in the layout of the Azure trace.
const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/tests/sample");

#[test]
fn policies_are_compared_on_a_trace_as_table_chart_and_plot() {
    let folder = Folder::of(&[]);
    let args = ["simulate", "--trace", TRACE, "--plot", "plot.svg"];
    insta::assert_snapshot!(transcript(&folder, NOBODY, &args));
    let plot = std::fs::read_to_string(folder.0.join("plot.svg")).expect("a plot");
    assert_eq!(plot.matches("<circle").count(), 10, "{plot}");
}

#[test]
fn scripts_get_all_numbers_of_the_policies_they_name() {
    let folder = Folder::of(&[]);
    let policies = ["--policy", "fixed:10m", "--policy", "learned:10m", "--output", "json"];
    let output = run(&folder.0, NOBODY, &[&["simulate", "--trace", TRACE][..], &policies[..]].concat());
    let reports: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (fixed, learned) = (&reports[0], &reports[1]);
    assert_eq!((&fixed["policy"], &learned["policy"]), (&"fixed 10m".into(), &"learned 10m".into()));
    assert_eq!(fixed["invocations"], learned["invocations"]);
    for key in ["coldStarts", "coldShare", "idleGbSeconds", "busyGbSeconds", "starts"] {
        assert!(fixed[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {fixed}");
    }
    assert!(fixed["waitMs"]["max"].as_f64() >= Some(200.0) && fixed["startedAhead"] == 0, "{fixed}");
}

#[test]
fn made_up_functions_are_the_same_for_the_same_seed() {
    let folder = Folder::of(&[]);
    let of = |seed: &str| {
        let args = [
            "simulate",
            "--synthetic",
            "--functions",
            "8",
            "--hours",
            "3",
            "--policy",
            "learned:10m",
            "--seed",
            seed,
        ];
        text(&run(&folder.0, NOBODY, &args).stdout)
    };
    assert!(of("1").contains("learned 10m"), "{}", of("1"));
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1"), of("2"));
}

#[test]
fn a_trace_that_is_none_is_said_with_its_place() {
    let folder = Folder::of(&[
        ("i.csv", "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,http,1,many\n"),
        ("log.ndjson", "{\"function\": 7}\n"),
    ]);
    insta::assert_snapshot!(
        "a table with a mistake",
        transcript(&folder, NOBODY, &["simulate", "--trace", "i.csv"])
    );
    insta::assert_snapshot!(
        "a log with a mistake",
        transcript(&folder, NOBODY, &["simulate", "--trace", "log.ndjson"])
    );
    insta::assert_snapshot!(
        "no such trace",
        transcript(&folder, NOBODY, &["simulate", "--trace", "nowhere"])
    );
    insta::assert_snapshot!("nothing to simulate", transcript(&folder, NOBODY, &["simulate"]));
    insta::assert_snapshot!(
        "no such policy",
        transcript(&folder, NOBODY, &["simulate", "--synthetic", "--policy", "lru:10m"])
    );
}

#[test]
fn a_folder_that_is_nothing_says_what_was_looked_for() {
    let folder = Folder::of(&[("code/notes.txt", "")]);
    insta::assert_snapshot!(transcript(&folder, NOBODY, &["deploy", "code"]));
}

#[test]
fn listening_beyond_loopback_is_refused_without_keys() {
    let folder = Folder::of(&[]);
    let output = run(&folder.0, NOBODY, &["up", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(24), "{}", text(&output.stderr));
}

#[test]
fn a_deployment_is_planned_carried_out_and_then_left_alone() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST, ("event.json", "{}")]));
    insta::assert_snapshot!(
        "a dry run changes nothing",
        transcript(&folder, &fake.url, &["deploy", "--dry-run"])
    );
    assert!(fake.changes().is_empty());
    insta::assert_snapshot!("a first deployment", transcript(&folder, &fake.url, &["deploy"]));
    assert_eq!(fake.changes(), ["POST /2015-03-31/functions"]);
    insta::assert_snapshot!("a second deployment", transcript(&folder, &fake.url, &["deploy"]));
    assert!(fake.changes().is_empty());
    folder.write("app.py", "def handler(event, context):\n    return 1\n");
    folder
        .write("brooklet.toml", &format!("{}memory = \"256MiB\"\nurl = true\nconcurrency = 3\n", MANIFEST.1));
    insta::assert_snapshot!("a changed deployment", transcript(&folder, &fake.url, &["deploy"]));
    assert_eq!(
        fake.changes(),
        [
            "PUT /2015-03-31/functions/hello/code",
            "PUT /2017-10-31/functions/hello/concurrency",
            "POST /2021-10-31/functions/hello/url",
        ]
    );
}

#[test]
fn when_one_of_several_functions_is_refused_it_is_named_and_what_was_done_is_said() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    folder.write("brooklet.toml", &format!("{0}{1}", MANIFEST.1, MANIFEST.1.replace("hello", "refused")));
    insta::assert_snapshot!(transcript(&folder, &fake.url, &["deploy"]), @r"
    exit 6
    --- stdout
    hello  created  155 B
    --- stderr
    hello    create     python3.11, 155 B
    refused  create     python3.11, 155 B
    error: refused: This machine has no Python 3.11.
      because: InvalidParameterValueException (status 400)
    ");
    assert_eq!(fake.changes(), ["POST /2015-03-31/functions", "POST /2015-03-31/functions"]);
}

#[test]
fn what_would_be_lost_is_asked_for_first() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    folder.write(
        "brooklet.toml",
        &format!("{0}url = true\n{1}", MANIFEST.1, MANIFEST.1.replace("hello", "other")),
    );
    assert_eq!(run(&folder.0, &fake.url, &["deploy"]).status.code(), Some(0));
    fake.changes();
    folder.write("brooklet.toml", MANIFEST.1);
    insta::assert_snapshot!("nobody is there to ask", transcript(&folder, &fake.url, &["deploy", "--prune"]));
    assert!(fake.changes().is_empty());
    assert_eq!(run(&folder.0, &fake.url, &["deploy", "--prune", "--yes"]).status.code(), Some(0));
    assert_eq!(
        fake.changes(),
        ["DELETE /2021-10-31/functions/hello/url", "DELETE /2015-03-31/functions/other"]
    );
}

#[test]
fn functions_of_other_projects_are_not_pruned() {
    let fake = Fake::start();
    let (mine, theirs) = (Folder::of(&[APP, MANIFEST]), Folder::of(&[APP, MANIFEST]));
    theirs.write("brooklet.toml", &MANIFEST.1.replace("hello", "theirs"));
    for folder in [&theirs, &mine] {
        assert_eq!(run(&folder.0, &fake.url, &["deploy", "--prune", "--yes"]).status.code(), Some(0));
    }
    assert!(fake.changes().iter().all(|call| !call.starts_with("DELETE")));
}

#[test]
fn deploy_answers_scripts_in_json() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    let output = run(&folder.0, &fake.url, &["deploy", "--output", "json"]);
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("JSON alone on standard output");
    assert_eq!(
        (&answer["functions"][0]["name"], &answer["functions"][0]["action"]),
        (&"hello".into(), &"created".into())
    );
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn an_answer_goes_to_standard_output_and_the_rest_to_standard_error() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    run(&folder.0, &fake.url, &["deploy"]);
    let headers = [
        ("x-amz-executed-version", "$LATEST"),
        ("x-amzn-requestid", "id-1"),
        ("x-amz-log-result", "bGluZQ=="),
    ];
    fake.answer_invocations(&headers, "{\"a\":1}");
    let output = run(&folder.0, &fake.url, &["invoke", "hello", "--tail", "--data", "{}"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "{\"a\":1}"));
    let rest = text(&output.stderr);
    assert!(
        rest.starts_with("line\nok · version $LATEST · ") && rest.ends_with(" · request id-1\n"),
        "{rest}"
    );
}

#[test]
fn an_invocation_is_told_to_scripts_in_json() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    run(&folder.0, &fake.url, &["deploy"]);
    let headers = [
        ("x-amz-executed-version", "3"),
        ("x-amzn-requestid", "id-1"),
        ("x-amz-function-error", "Unhandled"),
        ("x-amz-log-result", "bGluZQ=="),
    ];
    fake.answer_invocations(&headers, "{\"a\":1}");
    let output = run(&folder.0, &fake.url, &["invoke", "hello", "--tail", "--output", "json"]);
    let mut told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert!(told["waitedMs"].take().is_u64());
    let expected = serde_json::json!({
        "requestId": "id-1", "executedVersion": "3", "functionError": "Unhandled", "waitedMs": null,
        "log": "line", "payload": {"a": 1},
    });
    assert_eq!((told, output.status.code(), text(&output.stderr)), (expected, Some(9), String::new()));
}

#[test]
fn invoke_ends_with_the_code_of_what_happened() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST, ("bad.json", "{")]));
    run(&folder.0, &fake.url, &["deploy"]);
    let code = |args: &[&str]| run(&folder.0, &fake.url, &[&["invoke"], args].concat()).status.code();
    assert_eq!(code(&["hello"]), Some(8), "throttled");
    fake.answer_invocations(&[("x-amz-function-error", "Unhandled")], "{\"errorMessage\":\"x\"}");
    assert_eq!(code(&["hello"]), Some(9), "the function failed");
    assert_eq!(code(&["other"]), Some(7), "no such function");
    assert_eq!(code(&["hello", "--data", "text"]), Some(2), "not JSON");
    assert_eq!(code(&["hello", "--data", "@bad.json"]), Some(2), "not JSON");
    assert_eq!(code(&["hello", "--event", "missing.json"]), Some(2), "no such file");
    folder.write("large.json", &format!("\"{}\"", "x".repeat(6 << 20)));
    assert_eq!(code(&["hello", "--event", "large.json"]), Some(2), "more than an event may have");
}

#[test]
fn logs_ask_for_what_was_asked_and_show_when_and_what() {
    let (fake, folder) = (Fake::start(), Folder::of(&[]));
    fake.answer_logs(
        "{\"timestamp\":1795000000123,\"stream\":\"s\",\"request_id\":null,\"message\":\"hello\"}\n\n",
    );
    let output = run(&folder.0, &fake.url, &["logs", "a", "--request-id", "r-1", "--stream", "x[1]"]);
    assert_eq!(text(&output.stdout), "2026-11-18T11:06:40.123Z  hello\n");
    assert_eq!(fake.calls(), ["GET /_brooklet/v1/functions/a/logs?request_id=r-1&stream=x%5B1%5D"]);
}

#[test]
fn list_show_and_rm_work_on_what_was_deployed() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    run(&folder.0, &fake.url, &["deploy"]);
    let list = run(&folder.0, &fake.url, &["list", "--output", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert_eq!(list[0]["FunctionName"], "hello");
    let show = text(&run(&folder.0, &fake.url, &["show", "hello"]).stdout);
    assert!(show.contains("handler      app.handler"), "{show}");
    assert_eq!(run(&folder.0, &fake.url, &["rm", "hello"]).status.code(), Some(10), "nobody to ask");
    assert_eq!(run(&folder.0, &fake.url, &["rm", "hello", "--yes"]).status.code(), Some(0));
    assert_eq!(run(&folder.0, &fake.url, &["show", "hello"]).status.code(), Some(7));
}

#[test]
fn a_project_can_be_made_in_the_folder_one_is_in() {
    let folder = Folder::of(&[]);
    let here = folder.0.join("hello");
    std::fs::create_dir(&here).expect("a folder can be made");
    let made = run(&here, NOBODY, &["new", "shell", "."]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let manifest = std::fs::read_to_string(here.join("brooklet.toml")).expect("is there");
    assert!(manifest.contains("[function.hello]"), "{manifest}");
}

#[test]
fn what_a_failed_function_wrote_is_one_command_away() {
    let (fake, folder) = (Fake::start(), Folder::of(&[APP, MANIFEST]));
    run(&folder.0, &fake.url, &["deploy"]);
    let headers = [("x-amz-function-error", "Unhandled"), ("x-amzn-requestid", "id-1")];
    fake.answer_invocations(&headers, "{}");
    let output = run(&folder.0, &fake.url, &["invoke", "hello"]);
    let rest = text(&output.stderr);
    assert!(rest.ends_with("what it wrote: brooklet logs hello --request-id id-1\n"), "{rest}");
}

#[test]
fn a_name_that_is_empty_is_a_mistake_of_the_command_line() {
    let folder = Folder::of(&[]);
    for command in ["invoke", "show", "logs", "rm"] {
        assert_eq!(run(&folder.0, NOBODY, &[command, ""]).status.code(), Some(2), "{command}");
    }
}

#[test]
fn new_makes_a_project_that_deploys() {
    let (fake, folder) = (Fake::start(), Folder::of(&[]));
    assert_eq!(run(&folder.0, &fake.url, &["new", "shell", "my-shell"]).status.code(), Some(0));
    let deployed = run(&folder.0, &fake.url, &["deploy", "my-shell"]);
    assert_eq!(deployed.status.code(), Some(0), "{}", text(&deployed.stderr));
    let again = run(&folder.0, &fake.url, &["new", "shell", "my-shell"]);
    assert!(text(&again.stderr).contains("is not empty"), "{}", text(&again.stderr));
}
