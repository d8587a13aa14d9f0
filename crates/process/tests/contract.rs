//! Every transport of a process keeps to the executor's contract.

mod rig;

use model::Contract;
use ports::InstanceSpec;
use ports::contract::{Functions, executor};
use process::Isolation;
use rig::{newest_node, newest_python, write};
use std::path::Path;
use std::time::Duration;

/// The functions of the suite in one language: a file, how it is called, and its text for each behaviour.
struct Language {
    runtime: fn() -> String,
    handler: &'static str,
    file: &'static str,
    contract: Contract,
    /// Text before the function is ready, and instead of an answer.
    text: fn(before: &str, answer: &str) -> String,
    echo: &'static str,
    fails: &'static str,
    exits: &'static str,
    hangs: &'static str,
    /// Text that counts in the background, and answers with the number.
    counts: [&'static str; 2],
    exits_before: &'static str,
    hangs_before: &'static str,
}

const SHELL: Language = Language {
    runtime: || "provided.al2023".into(),
    handler: "none",
    file: "bootstrap",
    contract: Contract::Lambda,
    text: |before, answer| {
        format!(
            r#"#!/bin/sh
{before}
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  curl -sS -o /tmp/event -D /tmp/head "$api/invocation/next"
  id=$(grep -i '^lambda-runtime-aws-request-id' /tmp/head | tr -d '\r' | cut -d' ' -f2)
  {answer}
done
"#
        )
    },
    echo: r#"echo got it; curl -sS --data-binary @/tmp/event "$api/invocation/$id/response" > /dev/null"#,
    fails: r#"curl -sS -d '{"errorMessage":"no luck"}' "$api/invocation/$id/error" > /dev/null"#,
    exits: "exit 3",
    hangs: "sleep 600",
    counts: [
        ": > /tmp/count; (while true; do echo >> /tmp/count; sleep 0.005; done) &",
        r#"curl -sS -d "$(wc -l < /tmp/count)" "$api/invocation/$id/response" > /dev/null"#,
    ],
    exits_before: "exit 4",
    hangs_before: "sleep 600",
};

const PYTHON: Language = Language {
    runtime: newest_python,
    handler: "f.handler",
    file: "f.py",
    contract: Contract::Lambda,
    text: |before, answer| format!("import os, time\n{before}\ndef handler(event, context):\n    {answer}\n"),
    echo: "print('got it'); return event",
    fails: "raise ValueError('no luck')",
    exits: "os._exit(3)",
    hangs: "time.sleep(600)",
    counts: [PYTHON_COUNTS, "return counted[0]"],
    exits_before: "os._exit(4)",
    hangs_before: "time.sleep(600)",
};

const PYTHON_COUNTS: &str = "
import threading
counted = [0]
def count():
    while True:
        counted[0] += 1
        time.sleep(0.005)
threading.Thread(target=count, daemon=True).start()
";

const NODE: Language = Language {
    runtime: newest_node,
    handler: "f.handler",
    file: "f.js",
    contract: Contract::Lambda,
    text: |before, answer| format!("{before}\nexports.handler = async (event) => {{ {answer} }};\n"),
    echo: "process.stdout.write('got it\\n'); return event",
    fails: "throw new Error('no luck')",
    exits: "process.exit(3)",
    hangs: "await new Promise((done) => setTimeout(done, 600000))",
    counts: ["let counted = 0; setInterval(() => counted++, 5);", "return counted"],
    exits_before: "process.exit(4)",
    hangs_before: "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
};

const WEB: Language = Language {
    runtime: || "http".into(),
    handler: "python3 -u app.py",
    file: "app.py",
    contract: Contract::Http,
    text: |before, answer| {
        format!(
            r#"import http.server, os, time
{before}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        {answer}
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#
        )
    },
    echo: "print('got it'); self.answer(200, body)",
    fails: "self.answer(500, b'no luck')",
    exits: "os._exit(3)",
    hangs: "time.sleep(600)",
    counts: [PYTHON_COUNTS, "self.answer(200, str(counted[0]).encode())"],
    exits_before: "os._exit(4)",
    hangs_before: "time.sleep(600)",
};

async fn check(language: Language, isolation: Isolation) {
    let dir = tempfile::tempdir().expect("a folder");
    let processes = rig::executor(dir.path(), isolation);
    if may_have(isolation) {
        assert_eq!(processes.isolation().await, isolation);
    }
    let make = |name: &str, before: &str, answer: &str| {
        let code_dir = dir.path().join(name);
        write(&code_dir.join(language.file), &(language.text)(before, answer));
        spec(&language, name, &code_dir)
    };
    let functions = Functions {
        echo: make("echo", "", language.echo),
        fails: make("fails", "", language.fails),
        exits: make("exits", "", language.exits),
        hangs: make("hangs", "", language.hangs),
        counts: make("counts", language.counts[0], language.counts[1]),
        never_starts: make("never_starts", language.exits_before, language.echo),
        hangs_before_ready: make("hangs_before_ready", language.hangs_before, language.echo),
    };
    executor(&processes, functions).await;
}

fn spec(language: &Language, name: &str, code_dir: &Path) -> InstanceSpec {
    let one = Duration::from_secs(1);
    let usual = rig::spec(&(language.runtime)(), language.handler, code_dir);
    InstanceSpec {
        function: name.into(),
        contract: language.contract,
        timeout: if name == "hangs" { one } else { usual.timeout },
        init_timeout: if name == "hangs_before_ready" { one } else { usual.init_timeout },
        ..usual
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_on_the_runtime_api_keeps_the_contract() {
    check(SHELL, Isolation::Root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_python_bootstrap_keeps_the_contract() {
    check(PYTHON, Isolation::Root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_bootstrap_keeps_the_contract() {
    check(NODE, Isolation::Root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_program_keeps_the_contract() {
    check(WEB, Isolation::Root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_without_isolation() {
    check(PYTHON, Isolation::None).await;
}

/// Root's walls are not to be had for others; no walls are to be had for everybody.
fn may_have(isolation: Isolation) -> bool {
    use std::os::unix::fs::MetadataExt;
    isolation == Isolation::None || std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
