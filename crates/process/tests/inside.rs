//! What a function finds around itself: variables, packages, and the start of its runtime.
//!
//! Sources: AWS Lambda developer guide, "Using Lambda environment variables" (defined runtime variables),
//! "Modifying the runtime environment" (wrapper scripts), "Working with layers for Node.js".

mod rig;

use ports::InstanceSpec;
use process::Isolation;
use rig::{answer, executor, newest_node, newest_python, spec, write};
use std::path::Path;

/// Runs a file as a function that answers with text, which is returned with JSON's quotes taken off.
async fn run(dir: &Path, isolation: Isolation, spec: InstanceSpec) -> String {
    let answer = answer(&executor(dir, isolation), spec).await;
    serde_json::from_str(&answer).unwrap_or(answer)
}

const PYTHON_ENVIRONMENT: &str = r#"import os
def handler(event, context):
    return "\n".join(sorted(f"{k}={v}" for k, v in os.environ.items() if k != "LC_CTYPE"))
"#;

const NODE_ENVIRONMENT: &str =
    "exports.handler = async () => Object.entries(process.env).map(e => e.join('=')).sort().join('\\n')";

/// Of a program that is not told by a language: the environment that the process began with.
const SHELL_ENVIRONMENT: &str = r#"#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
id=$(curl -sS -o /dev/null -D - "$api/next" | grep -i '^lambda-runtime-aws-request-id' | tr -d '\r' | cut -d' ' -f2)
tr '\0' '\n' < /proc/$$/environ | sed 's/^AWS_LAMBDA_RUNTIME_API=.*/AWS_LAMBDA_RUNTIME_API=HOST:PORT/' | LC_ALL=C sort > /tmp/environment
truncate -s -1 /tmp/environment
curl -sS --data-binary @/tmp/environment "$api/$id/response"
"#;

/// What every runtime gets, and where the rest of its variables goes.
const EVERY: &str = "AWS_ACCESS_KEY_ID=brooklet
AWS_DEFAULT_REGION=us-east-1
{EXECUTION_ENV}
AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256
AWS_LAMBDA_FUNCTION_NAME=f
AWS_LAMBDA_FUNCTION_VERSION=$LATEST
AWS_LAMBDA_INITIALIZATION_TYPE=on-demand
AWS_LAMBDA_LOG_FORMAT=Text
AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/f
AWS_LAMBDA_LOG_STREAM_NAME=stream
{RUNTIME_API}
AWS_REGION=us-east-1
AWS_SECRET_ACCESS_KEY=brooklet
AWS_SESSION_TOKEN=brooklet
AWS_XRAY_CONTEXT_MISSING=LOG_ERROR
AWS_XRAY_DAEMON_ADDRESS=127.0.0.1:2000
LAMBDA_RUNTIME_DIR=/var/runtime
LAMBDA_TASK_ROOT=/var/task
LANG=en_US.UTF-8
LD_LIBRARY_PATH=/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib
{LANGUAGE_PATH}
PATH={PROGRAMS}/usr/local/bin:/usr/bin:/bin:/opt/bin
{PYTHONPATH}
TZ=:UTC
_HANDLER=f.handler
{TRACE}";

async fn check_environment(runtime: &str, file: &str, code: &str, own: &[(&str, &str)]) {
    let dir = tempfile::tempdir().expect("a folder");
    let package = dir.path().join("package");
    write(&package.join(file), code);
    let seen = run(dir.path(), Isolation::Root, spec(runtime, "f.handler", &package)).await;
    let mut expected = EVERY.to_owned();
    for (place, value) in own {
        expected = expected.replace(&format!("{{{place}}}"), value);
    }
    let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(seen, expected.join("\n").replace("{PROGRAMS}", ""), "{runtime}");
}

const TRACE: (&str, &str) =
    ("TRACE", "_X_AMZN_TRACE_ID=Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0");
const PROGRAMS: (&str, &str) = ("PROGRAMS", "/var/lang/bin:");

#[tokio::test(flavor = "multi_thread")]
async fn python_gets_the_documented_variables_and_no_others() {
    let runtime = newest_python();
    let execution = format!("AWS_EXECUTION_ENV=AWS_Lambda_{runtime}");
    let own =
        [("EXECUTION_ENV", execution.as_str()), ("PYTHONPATH", "PYTHONPATH=/var/runtime"), PROGRAMS, TRACE];
    check_environment(&runtime, "f.py", PYTHON_ENVIRONMENT, &own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_gets_the_documented_variables_and_no_others() {
    let runtime = newest_node();
    let major = runtime.trim_start_matches("nodejs").trim_end_matches(".x");
    let execution = format!("AWS_EXECUTION_ENV=AWS_Lambda_{runtime}");
    let path = format!(
        "NODE_PATH=/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:\
         /var/runtime:/var/task"
    );
    let own = [("EXECUTION_ENV", execution.as_str()), ("LANGUAGE_PATH", &path), PROGRAMS, TRACE];
    check_environment(&runtime, "f.js", NODE_ENVIRONMENT, &own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_gets_no_execution_environment_and_no_trace() {
    let own = [("RUNTIME_API", "AWS_LAMBDA_RUNTIME_API=HOST:PORT")];
    check_environment("provided.al2023", "bootstrap", SHELL_ENVIRONMENT, &own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interpreter_is_on_the_search_path_and_where_lambda_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let package = dir.path().join("package");
    let code = "import shutil, subprocess, sys\n\
                def handler(event, context):\n    \
                    version = lambda program: subprocess.check_output([program, '-c', 'import sys; print(sys.version)'], text=True).strip()\n    \
                    name = 'python%d.%d' % sys.version_info[:2]\n    \
                    return [version(name) == sys.version, version('/var/lang/bin/' + name) == sys.version]\n";
    write(&package.join("f.py"), code);
    assert_eq!(
        run(dir.path(), Isolation::Root, spec(&newest_python(), "f.handler", &package)).await,
        "[true, true]"
    );
}

/// A package that says where it lies.
fn module(folder: &Path, name: &str, kind: &str, place: &str) {
    let (text, package) = (
        match kind {
            "module" => format!("export const where = '{place}'"),
            _ => format!("exports.where = '{place}'"),
        },
        serde_json::json!({ "name": name, "type": kind, "main": "index.js" }),
    );
    write(&folder.join(name).join("index.js"), &text);
    write(&folder.join(name).join("package.json"), &package.to_string());
}

/// The SDK has all three packages, a layer two of them, the function one.
async fn packages(isolation: Isolation, file: &str, code: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let (package, layer) = (dir.path().join("package"), dir.path().join("layer"));
    let sdk = dir.path().join("runtimes/node/node_modules");
    for name in ["@aws-sdk/one", "@aws-sdk/two", "@aws-sdk/three"] {
        module(&sdk, name, "commonjs", "sdk");
    }
    module(&sdk, "@aws-sdk/esm", "module", "sdk");
    module(&layer.join("nodejs/node_modules"), "@aws-sdk/two", "commonjs", "layer");
    module(&layer.join("nodejs/node_modules"), "@aws-sdk/three", "commonjs", "layer");
    module(&package.join("node_modules"), "@aws-sdk/three", "commonjs", "function");
    write(&package.join(file), code);
    let spec = InstanceSpec { layer_dirs: vec![layer], ..spec(&newest_node(), "f.handler", &package) };
    run(dir.path(), isolation, spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn import_finds_packages_of_the_function_of_layers_and_of_the_sdk_in_this_order() {
    let code = "import one from '@aws-sdk/one'\nimport two from '@aws-sdk/two'\nimport three from '@aws-sdk/three'\n\
                import { where } from '@aws-sdk/esm'\n\
                export const handler = async () => [one.where, two.where, three.where, where, (await import('@aws-sdk/one')).where].join()";
    assert_eq!(packages(Isolation::Root, "f.mjs", code).await, "sdk,layer,function,sdk,sdk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_common_js_function_finds_them_with_require_and_with_import() {
    let code = "const found = ['one', 'two', 'three'].map(name => require('@aws-sdk/' + name).where)\n\
                exports.handler = async () => [...found, (await import('@aws-sdk/esm')).where, (await import('@aws-sdk/two')).where].join()";
    assert_eq!(packages(Isolation::Root, "f.js", code).await, "sdk,layer,function,sdk,layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_isolation_require_finds_the_sdk_and_import_the_functions_own_packages() {
    let code = "exports.handler = async () => [require('@aws-sdk/one').where, require('@aws-sdk/three').where, \
                (await import('@aws-sdk/three')).where, await import('@aws-sdk/one').catch(e => e.code)].join()";
    assert_eq!(packages(Isolation::None, "f.js", code).await, "sdk,function,function,ERR_MODULE_NOT_FOUND");
}

/// With `wrapper` as the function's exec wrapper, which the package brings.
async fn wrapped(runtime: &str, file: &str, code: &str, wrapper: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let package = dir.path().join("package");
    write(&package.join(file), code);
    write(&package.join("wrapper"), wrapper);
    let mut spec = spec(runtime, "f.handler", &package);
    spec.environment.insert("AWS_LAMBDA_EXEC_WRAPPER".into(), "/var/task/wrapper".into());
    run(dir.path(), Isolation::Root, spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_script_starts_the_runtime_with_variables_and_options_of_its_own() {
    // As the documentation's example: an option before the last argument.
    let wrapper = "#!/bin/bash\nargs=(\"$@\")\nexport COLOUR=blue\n\
                   exec \"${args[@]:0:$#-1}\" -X brooklet=yes \"${args[@]: -1}\"\n";
    let code = "import os, sys\ndef handler(event, context):\n    return os.environ['COLOUR'] + ' ' + sys._xoptions['brooklet']\n";
    assert_eq!(wrapped(&newest_python(), "f.py", code, wrapper).await, "blue yes");
    let wrapper = "#!/bin/sh\nprogram=$1\nshift\nexec \"$program\" --title=wrapped \"$@\"\n";
    let code = "exports.handler = async () => process.title";
    assert_eq!(wrapped(&newest_node(), "f.js", code, wrapper).await, "wrapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_that_cannot_be_executed_is_named() {
    let code = "def handler(event, context):\n    return 1\n";
    let error = wrapped(&newest_python(), "f.py", code, "#!/no/such/interpreter\n").await;
    assert!(error.starts_with("init error ") && error.contains("Runtime.InvalidEntrypoint"), "{error}");
    assert!(error.contains("fork/exec /var/task/wrapper: No such file or directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_this_machine_cannot_execute_is_told_as_such() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = async |bootstrap: &[u8], expected: &str| {
        let package = dir.path().join("package");
        write(&package.join("bootstrap"), "");
        std::fs::write(package.join("bootstrap"), bootstrap).expect("written");
        let error = run(dir.path(), Isolation::Root, spec("provided.al2023", "f", &package)).await;
        let wanted = format!("fork/exec /var/task/bootstrap: exec format error. {expected}");
        assert!(error.contains("Runtime.InvalidEntrypoint") && error.contains(&wanted), "{error}");
    };
    check(b"echo no interpreter", "It is neither a program nor a script").await;
    check(b"", "It is neither a program nor a script").await;
    let mut elf = std::fs::read("/bin/true").expect("a program");
    let (other, number) = if std::env::consts::ARCH == "x86_64" { ("aarch64", 183) } else { ("x86_64", 62) };
    elf[18] = number;
    check(&elf, &format!("It was built for {other}; this machine is {}.", std::env::consts::ARCH)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_is_started_without_a_wrapper() {
    let own = "#!/bin/sh\nexit 9\n";
    let answer = wrapped("provided.al2023", "bootstrap", SHELL_ENVIRONMENT, own).await;
    assert!(answer.contains("AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrapper\n"), "{answer}");
}

/// Several starts of one kind: all but the first find a booted runtime, or are forked from one. All must find the same
/// around themselves: what the first did.
async fn check_that_a_stem_is_like_a_new_process(runtime: &str, file: &str, code: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    let forks = runtime.starts_with("python");
    let mut seen = Vec::new();
    for n in 0..4 {
        let package = dir.path().join(format!("package-{n}"));
        write(&package.join(file), &code.replace("NUMBER", &n.to_string()));
        let mut spec = spec(runtime, "f.handler", &package);
        spec.environment.insert("GREETING".into(), "höhö = ja\nnext line".into());
        spec.ephemeral_storage = model::MiB(600);
        seen.push(answer(&executor, spec).await.replace(&format!("number {n}"), "number N"));
        rig::until(|| executor.stems().0 > 0).await;
    }
    assert_eq!(executor.stems().1, 3, "all but the first found a booted runtime");
    assert_eq!((executor.forks().0 > 0, executor.forks().1 >= 3), (forks, forks), "{:?}", executor.forks());
    assert!(seen[0].contains("number N"), "{}", seen[0]);
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
    seen.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_process_that_waited_for_its_function_is_like_a_new_one() {
    // What Linux tells of a process, and what Python keeps of the process it is in.
    let code = r#"import gc, os, resource, signal, sys, time, locale, threading
open("/tmp/mine", "w").close()
size = os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize
mounts = sorted(line.split()[4] + " " + line.split()[5] for line in open("/proc/self/mountinfo"))
SAME = ("Name", "Umask", "Pid", "Tgid", "NStgid", "PPid", "TracerPid", "Uid", "Gid", "Groups", "NSpid", "NSsid",
        "Threads", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Cap", "NoNew", "Seccomp", "CoreDumping")
status = [line for line in open("/proc/self/status") if line.startswith(SAME) and not line.startswith("SigQ")]
read = lambda name: open("/proc/self/" + name).read()
stat = read("stat").rsplit(")", 1)[1].split()
ids = [os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), os.getresuid(), os.getresgid(), os.getgroups()]
linux = [ids, stat[3:6], stat[15:18], read("cmdline"), read("comm"), read("limits"), read("cgroup"), read("oom_score_adj"),
         os.stat("/proc/self/environ").st_uid, os.stat("/proc/self/exe").st_uid, os.readlink("/proc/self/exe"),
         os.readlink("/proc/self/root"), os.uname().nodename, os.sched_getaffinity(0) == os.sched_getaffinity(1),
         sorted(os.listdir("/proc/self/task")) == [str(os.getpid())],
         [p for p in sorted(os.listdir("/proc")) if p.isdigit()], resource.getrusage(resource.RUSAGE_CHILDREN)[0]]
fds = {fd: os.stat(int(fd)).st_mode for fd in os.listdir("/proc/self/fd") if int(fd) < 4}
cloexec = [os.get_inheritable(int(fd)) for fd in sorted(fds)]
handlers = [str(signal.getsignal(n)) for n in range(1, 65) if n not in (32, 33)]
python = [sys.argv, getattr(sys, "orig_argv", 0), sys.path, str(sys.flags), sys.executable, sys.prefix, sys._xoptions,
          str(sys.meta_path), len(sys.path_hooks), sys.warnoptions, sys.getrecursionlimit(), sys.getswitchinterval(),
          sys.dont_write_bytecode, sys.getfilesystemencoding(), str(sys.stdout), str(sys.stderr), sys.stdin.name,
          gc.isenabled(), gc.get_threshold(), gc.callbacks, threading.active_count(), threading.main_thread().ident ==
          threading.get_ident(), str(threading.current_thread()).split(" ")[0], locale.setlocale(locale.LC_ALL),
          os.getcwd(), time.tzname, time.process_time() < 60, "ctypes" in sys.modules, "random" in sys.modules]
def outcome(trick):
    try:
        trick()
        return "done"
    except OSError as error:
        return error.errno
os.makedirs("/tmp/a")
os.makedirs("/tmp/b")
open("/tmp/a/x", "w").close()
confined = [outcome(lambda: open("/proc/self/comm", "w")), outcome(lambda: os.kill(1, 0)),
            outcome(lambda: os.rename("/tmp/a/x", "/tmp/b/x")), outcome(lambda: open("/dev/null", "w").write("x"))]
def handler(event, context):
    environ = sorted(os.environ.items())
    return ["number NUMBER", confined, environ, os.umask(0o22), size, mounts, status, linux, fds, cloexec, handlers, python,
            len(os.listdir("/proc/self/fd")), os.listdir("/tmp"), os.listdir("/var/task")]
"#;
    let seen = check_that_a_stem_is_like_a_new_process(&newest_python(), "f.py", code).await;
    // EACCES and EPERM are Landlock's words.
    let confined = if process::landlock_abi() >= Some(6) { "[13, 1, \"done\", \"done\"]" } else { "[" };
    assert!(seen.contains(confined), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_process_that_waited_for_its_function_is_like_a_new_one() {
    let code = r#"const fs = require('fs')
const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map(l => l.split(' ').slice(4, 6).join(' '))
const status = fs.readFileSync('/proc/self/status', 'utf8').split('\n').filter(l => /^(Cap|NoNew|Seccomp:|Uid|Gid)/.test(l))
const outcome = trick => { try { trick(); return 'done' } catch (error) { return error.code } }
const confined = [outcome(() => fs.writeFileSync('/proc/self/comm', 'x')), outcome(() => process.kill(1, 0)),
  outcome(() => fs.writeFileSync('/dev/null', 'x')), outcome(() => fs.writeFileSync('/tmp/x', 'x'))]
exports.handler = async () => ['number NUMBER', confined, Object.entries(process.env).sort(), module.paths,
  require('module').globalPaths, process.argv, process.execArgv, process.cwd(), process.umask(), mounts.sort(), status,
  fs.readdirSync('/var/task'), fs.statfsSync('/tmp').blocks, new Date(0).getTimezoneOffset(),
  require('v8').getHeapStatistics().heap_size_limit]
"#;
    let seen = check_that_a_stem_is_like_a_new_process(&newest_node(), "f.js", code).await;
    let confined =
        if process::landlock_abi() >= Some(6) { r#"["EACCES","EPERM","done","done"]"# } else { "[" };
    assert!(seen.contains(confined), "{seen}");
}
