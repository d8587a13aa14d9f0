//! A server that knows just enough of the Lambda API to test the command line against: functions in memory,
//! invocations answered by what the test says.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A fake server on a free port of loopback. Its thread ends with the test program.
pub struct Fake {
    /// Its base URL.
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    functions: BTreeMap<String, Value>,
    calls: Vec<String>,
    invoke: Option<(Vec<(&'static str, &'static str)>, String)>,
    logs: String,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Fake {
    /// Starts one.
    pub fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("has an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &mut shared.lock().expect("no test panicked"));
            }
        });
        Fake { url, state }
    }

    /// What `Invoke` answers from now on.
    pub fn answer_invocations(&self, headers: &[(&'static str, &'static str)], body: &str) {
        self.state.lock().expect("no test panicked").invoke = Some((headers.to_vec(), body.to_string()));
    }

    /// What the log endpoint answers from now on.
    pub fn answer_logs(&self, lines: &str) {
        self.state.lock().expect("no test panicked").logs = lines.to_string();
    }

    /// Requests since the last call that changed something, as `METHOD path`.
    pub fn changes(&self) -> Vec<String> {
        let calls = std::mem::take(&mut self.state.lock().expect("no test panicked").calls);
        calls.into_iter().filter(|call| !call.starts_with("GET")).collect()
    }

    /// All requests since the last call, as `METHOD path?query`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no test panicked").calls)
    }
}

fn serve(mut stream: TcpStream, state: &mut State) {
    let mut reader = BufReader::new(stream.try_clone().expect("can be cloned"));
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("the body is sent");
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state.calls.push(format!("{method} {target}"));
    let path = target.split('?').next().unwrap_or_default();
    let answer = route(state, method, path, &serde_json::from_slice(&body).unwrap_or_default());
    let mut text = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{text}\r\n{}", answer.body).as_bytes());
}

fn route(state: &mut State, method: &str, path: &str, body: &Value) -> Answer {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, &parts[..]) {
        ("GET", ["healthz"]) => ok(json!({})),
        ("GET", [_, "functions"]) => {
            let all: Vec<Value> = state.functions.values().map(|f| f["Configuration"].clone()).collect();
            ok(json!({ "Functions": all }))
        }
        ("POST", [_, "functions"]) => create(state, body),
        (_, ["_brooklet", "v1", "functions", _, "logs"]) => {
            Answer { status: 200, headers: vec![], body: state.logs.clone() }
        }
        (_, [_, "functions", name, rest @ ..]) => match state.functions.get_mut(*name) {
            None => refuse(404, "ResourceNotFoundException", &format!("Function not found: {name}")),
            Some(_) if (method, rest) == ("DELETE", &[][..]) => {
                state.functions.remove(*name);
                ok(Value::Null)
            }
            Some(_) if rest == ["invocations"] => match state.invoke.clone() {
                Some((headers, body)) => Answer { status: 200, headers, body },
                None => refuse(429, "TooManyRequestsException", "Rate Exceeded."),
            },
            Some(function) => change(function, method, rest, body),
        },
        _ => refuse(404, "UnknownOperationException", path),
    }
}

fn create(state: &mut State, body: &Value) -> Answer {
    let name = body["FunctionName"].as_str().unwrap_or_default().to_string();
    if name == "refused" {
        return refuse(400, "InvalidParameterValueException", "This machine has no Python 3.11.");
    }
    let mut configuration = body.clone();
    let tags = configuration["Tags"].take();
    let code = configuration["Code"].take();
    configuration["FunctionArn"] = json!(format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"));
    upload(&mut configuration, &code);
    let answer = configuration.clone();
    state.functions.insert(name, json!({ "Configuration": configuration, "Tags": tags, "Url": null }));
    ok(answer)
}

fn configure(configuration: &mut Value, members: &Value) {
    for (key, value) in members.as_object().into_iter().flatten() {
        configuration[key] = value.clone();
    }
}

fn change(function: &mut Value, method: &str, rest: &[&str], body: &Value) -> Answer {
    match (method, rest) {
        ("GET", []) => return ok(function.clone()),
        ("PUT", ["code"]) => {
            upload(&mut function["Configuration"], body);
            configure(&mut function["Configuration"], &body["Brooklet"]["Configuration"]);
        }
        ("PUT", ["configuration"]) => configure(&mut function["Configuration"], body),
        ("PUT", ["concurrency"]) => function["Concurrency"] = body.clone(),
        ("DELETE", ["concurrency"]) => function["Concurrency"] = Value::Null,
        ("GET", ["url"]) if function["Url"].is_null() => {
            return refuse(404, "ResourceNotFoundException", "The resource you requested does not exist.");
        }
        ("GET", ["url"]) => return ok(function["Url"].clone()),
        ("DELETE", ["url"]) => function["Url"] = Value::Null,
        (_, ["url"]) => {
            function["Url"] = body.clone();
            function["Url"]["FunctionUrl"] = json!("http://abc.lambda-url.us-east-1.localhost/");
        }
        ("GET", ["versions" | "aliases" | "provisioned-concurrency"]) => return ok(json!({})),
        _ => return refuse(404, "UnknownOperationException", &rest.join("/")),
    }
    ok(function["Configuration"].clone())
}

/// Takes the package; a `CodeSha256` is real, so that "unchanged" is what it is with a real server.
fn upload(configuration: &mut Value, code: &Value) {
    use base64::Engine;
    use sha2::Digest;
    let engine = base64::engine::general_purpose::STANDARD;
    let zip = engine.decode(code["ZipFile"].as_str().unwrap_or_default()).expect("base64");
    configuration["CodeSha256"] = json!(engine.encode(sha2::Sha256::digest(&zip)));
    configuration["CodeSize"] = json!(zip.len());
}

fn ok(value: Value) -> Answer {
    Answer {
        status: 200,
        headers: vec![],
        body: if value.is_null() { String::new() } else { value.to_string() },
    }
}

fn refuse(status: u16, kind: &'static str, message: &str) -> Answer {
    let body = json!({ "Type": "User", "Message": message }).to_string();
    Answer { status, headers: vec![("x-amzn-errortype", kind)], body }
}
