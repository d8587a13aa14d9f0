//! What Node.js functions load of the platform's AWS SDK is learned, and loaded ahead by processes that wait for them.

mod rig;

use process::{Isolation, ProcessExecutor};
use rig::{answer, executor, newest_node, spec, until, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A function in a folder of its own.
fn package(dir: &Path, name: &str, file: &str, code: &str) -> PathBuf {
    let package = dir.join(name);
    write(&package.join(file), code);
    package
}

/// An SDK with one client that takes long to load, and says when it was.
fn install(dir: &Path, index: &str) {
    let sdk = dir.join("runtimes/node/node_modules");
    write(&sdk.join("@sdk/client/package.json"), r#"{"main": "dist/index.js"}"#);
    let slow = "const began = performance.now()\nwhile (performance.now() - began < 100);\nexports.born = performance.now()\n\
                exports.part = require('part')\nexports.file = __filename\n";
    write(&sdk.join("@sdk/client/dist/index.js"), &format!("{slow}{index}"));
    write(&sdk.join("part/index.js"), "exports.folder = __dirname\n");
}

async fn run(executor: &ProcessExecutor, package: &Path, variables: &[(&str, &str)]) -> serde_json::Value {
    let mut spec = spec(&newest_node(), "f.handler", package);
    let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    spec.environment = BTreeMap::from_iter(owned);
    let answer = answer(executor, spec).await;
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
}

/// The first answer, and that of a start for which the SDK was loaded ahead. But for that both have to be the same.
async fn learned(
    executor: &ProcessExecutor,
    package: &Path,
    variables: &[(&str, &str)],
) -> serde_json::Value {
    let mut first = run(executor, package, variables).await;
    assert_eq!(first["ahead"], false, "{first}");
    first["ahead"] = true.into();
    for _ in 0..100 {
        until(|| executor.stems().0 > 0).await;
        let seen = run(executor, package, variables).await;
        if seen["ahead"] == true {
            assert_eq!(seen, first);
            return seen;
        }
    }
    panic!("nothing was loaded ahead");
}

/// What the function sees of itself and of its SDK.
const SEES: &str = "const seen = () => ({ ahead: sdk.born < began, file: sdk.file, part: sdk.part, region: sdk.region?.(), \
     global: typeof globalThis.awslambda, names: Object.keys(globalThis).sort(), env: Object.entries(process.env).filter(([n]) => \
     !/^(AWS_LAMBDA_LOG_STREAM_NAME|_X_AMZN_TRACE_ID)$/.test(n)).sort(), load: Module.prototype.load.name + Module._resolveFilename.name, \
     cached: Object.keys(require.cache).filter(f => f.startsWith('/node_modules')).sort(), handles: process._getActiveHandles().length, \
     cwd: process.cwd(), main: require.main.children.map(m => m.id).filter(id => !id.includes('/var/runtime')) })\n";

fn script(more: &str) -> String {
    format!(
        "const Module = require('module')\nconst began = performance.now()\nconst sdk = require('@sdk/client')\n{more}\n{SEES}\
         exports.handler = async () => seen()\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_loads_of_the_sdk_is_loaded_ahead_and_all_it_sees_is_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), "exports.region = () => process.env.AWS_REGION + process.env.COLOUR\n");
    // That a function calls what it has loaded says nothing about how that is loaded.
    let code = script("if (sdk.region() !== 'us-east-1blue') throw new Error(sdk.region())");
    let package = package(dir.path(), "package", "f.js", &code);
    let seen = learned(&executor, &package, &[("COLOUR", "blue")]).await;
    assert_eq!(seen["file"], "/node_modules/@sdk/client/dist/index.js");
    assert_eq!(seen["part"]["folder"], "/node_modules/part");
    assert_eq!(seen["region"], "us-east-1blue");
    assert_eq!(seen["cached"].as_array().expect("a list").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_es_module_imports_of_the_sdk_is_loaded_ahead() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), "exports.region = () => process.env.AWS_REGION\n");
    let code = "import { createRequire } from 'module'\nimport Module from 'module'\nconst require = createRequire(import.meta.url)\n\
                require.main = process.mainModule\nconst began = performance.now()\nconst sdk = await import('@sdk/client')\n"
        .to_owned()
        + SEES
        + "const same = sdk.born === require('@sdk/client').born\nexport const handler = async () => ({ ...seen(), same })\n";
    let package = package(dir.path(), "package", "f.mjs", &code);
    let seen = learned(&executor, &package, &[]).await;
    assert_eq!(seen["file"], "/node_modules/@sdk/client/dist/index.js");
    assert_eq!((&seen["region"], &seen["same"]), (&"us-east-1".into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_brings_the_sdk_gets_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), "");
    learned(&executor, &package(dir.path(), "learning", "f.js", &script("")), &[]).await;
    let other = package(dir.path(), "other", "f.js", &script(""));
    write(&other.join("node_modules/@sdk/client/index.js"), "exports.file = __filename\n");
    for _ in 0..4 {
        until(|| executor.stems().0 > 0).await;
        let seen = run(&executor, &other, &[]).await;
        assert_eq!(seen["file"], "/var/task/node_modules/@sdk/client/index.js");
        assert_eq!(seen["cached"], serde_json::json!([]));
    }
}

/// A client of which this is part is loaded by the function itself, at each of its starts, with these variables.
async fn is_not_loaded_ahead(index: &str, variables: &[(&str, &str)], expected: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), index);
    let package = package(dir.path(), "package", "f.js", &script(""));
    write(&package.join("node_modules/mine/index.js"), "module.exports = 'mine'\n");
    for _ in 0..6 {
        let seen = run(&executor, &package, variables).await;
        assert_eq!((&seen["ahead"], &seen["region"]), (&false.into(), &expected.into()), "{index}");
        until(|| executor.stems().0 > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_reads_variables_while_it_is_loaded_is_not_loaded_ahead_where_they_are_set() {
    let reads = "const mode = process.env.SDK_MODE\nexports.region = () => mode\n";
    is_not_loaded_ahead(reads, &[("SDK_MODE", "fips")], "fips").await;
    let reads = "const { AWS_REGION: region } = process.env\nexports.region = () => region\n";
    is_not_loaded_ahead(reads, &[], "us-east-1").await;
    let reads = "const all = [1].map(() => ({ ...process.env }))[0]\nexports.region = () => all._HANDLER\n";
    is_not_loaded_ahead(reads, &[], "f.handler").await;
    // A configuration without the variable is another matter, and so is the next one with it.
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), "const mode = process.env.SDK_MODE\nexports.region = () => mode ?? 'none'\n");
    let package = package(dir.path(), "package", "f.js", &script(""));
    assert_eq!(learned(&executor, &package, &[]).await["region"], "none");
    for _ in 0..4 {
        let seen = run(&executor, &package, &[("SDK_MODE", "fips")]).await;
        assert_eq!((&seen["ahead"], &seen["region"]), (&false.into(), &"fips".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_that_looks_for_modules_of_the_function_is_not_loaded_ahead() {
    let looks = "let mine = 'none'\ntry { mine = require('mine') } catch {}\nexports.region = () => mine\n";
    is_not_loaded_ahead(looks, &[("NODE_PATH", "/var/task/node_modules")], "mine").await;
    is_not_loaded_ahead(looks, &[], "none").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_lies_about_what_it_loads_has_no_file_of_its_own_loaded() {
    let dir = tempfile::tempdir().expect("a folder");
    let executor = executor(dir.path(), Isolation::Root);
    install(dir.path(), "");
    let sdk = dir.path().join("runtimes/node/node_modules");
    let code = script("globalThis.ran = globalThis.ran ?? 'by itself'")
        + "const tell = names => { const text = Buffer.from('900000\\n' + names.join('\\n')), head = Buffer.alloc(12)\n\
             head.write('M'); head.writeUInt32LE(text.length, 8); require('fs').writeSync(4, Buffer.concat([head, text])) }\n\
           const plain = exports.handler\nexports.handler = async () => { tell([HOST, '../var/task/evil.js', 'import:../var/task/evil.js',\n\
             'linked/evil.js', '@sdk/client/dist/index.js'].flat())\nreturn { ...await plain(), ran: globalThis.ran } }\n";
    let package = dir.path().join("package").canonicalize().unwrap_or(dir.path().join("package"));
    let evil = package.join("evil.js");
    let host = format!("../.host{0}", evil.display());
    write(&package.join("f.js"), &code.replace("HOST", &format!("'{host}', 'import:{host}'")));
    write(&evil, "globalThis.ran = 'ahead'\n");
    // What an administrator has linked into the folder leads out of it.
    std::os::unix::fs::symlink(
        Path::new("/.host").join(package.strip_prefix("/").expect("absolute")),
        sdk.join("linked"),
    )
    .expect("a link");
    let mut ahead = false;
    for _ in 0..100 {
        let seen = run(&executor, &package, &[]).await;
        assert_eq!(seen["ran"], "by itself");
        ahead |= seen["ahead"] == true;
        if ahead {
            return;
        }
        until(|| executor.stems().0 > 0).await;
    }
    panic!("nothing was loaded ahead");
}
