//! A server on a free port with an in-memory control plane, and a client that speaks text.

use api::{AccessKeys, App, AppConfig, Invoker, Limits, Token};
use bytes::Bytes;
use model::Account;
use node::control::{Options, Registry, Target};
use node::invoke::{InvokeRequest, Invoked, Refusal, Reply};
use node::logs::Logs;
use ports::memory::{MemoryBlobs, MemoryStore};
use ports::{BoxFuture, Payload, StreamReply};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A function in place of the data plane.
type Run = dyn Fn(Target, InvokeRequest) -> BoxFuture<'static, Result<Reply, Refusal>> + Send + Sync;

struct Fake(Box<Run>);

impl Invoker for Fake {
    fn invoke(&self, target: Target, request: InvokeRequest) -> BoxFuture<'_, Result<Invoked, Refusal>> {
        let (version, tail) = (target.version, request.tail);
        let reply = (self.0)(target, request);
        Box::pin(async move {
            let log_tail = tail.then(|| Bytes::from_static(b"START\nEND\n"));
            Ok(Invoked { reply: reply.await?, executed_version: version, log_tail, ending: None })
        })
    }
}

/// How a server is started.
pub struct Setup {
    run: Box<Run>,
    keys: AccessKeys,
    metrics_token: Option<Token>,
    limits: Limits,
}

impl Setup {
    /// Every function runs `run`.
    pub fn new<F>(run: impl Fn(Target, InvokeRequest) -> F + Send + Sync + 'static) -> Setup
    where
        F: Future<Output = Result<Reply, Refusal>> + Send + 'static,
    {
        let run: Box<Run> = Box::new(move |target, request| Box::pin(run(target, request)));
        Setup { run, keys: AccessKeys::default(), metrics_token: None, limits: Limits::default() }
    }

    /// With access keys.
    pub fn keys(mut self, keys: &[(&str, &str)]) -> Setup {
        self.keys = keys.iter().map(|(id, secret)| (id.to_string(), secret.to_string())).collect();
        self
    }

    /// With a token for the metrics.
    pub fn metrics_token(mut self, token: &str) -> Setup {
        self.metrics_token = Token::new(token);
        self
    }

    /// With other limits.
    pub fn limits(mut self, limits: Limits) -> Setup {
        self.limits = limits;
        self
    }

    /// Starts it.
    pub async fn start(self) -> Rig {
        let dir = std::env::temp_dir().join(format!("brooklet-api-{}", uuid::Uuid::new_v4().simple()));
        let options = Options {
            account: Account { id: "123456789012".into(), region: "us-east-1".into() },
            code_dir: dir.join("code"),
            limits: Default::default(),
            check_runtime: Arc::new(|_, _| Ok(())),
        };
        let registry =
            Registry::open(Arc::new(MemoryStore::new()), Arc::new(MemoryBlobs::new()), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let logs = Logs::open(&dir, node::logs::DEFAULT_KEPT).unwrap();
        let app = App::new(AppConfig {
            registry: Arc::new(registry),
            invoker: Box::new(Fake(self.run)),
            logs: logs.clone(),
            keys: self.keys,
            metrics_token: self.metrics_token,
            url_authority: format!("localhost:{}", address.port()),
            local: true,
            version: "0.0.0-test",
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = api::serve(listener, app, self.limits, async { drop(stopped.await) });
        Rig { address, dir, logs, stop: Some(stop), serving: Some(tokio::spawn(serving)) }
    }
}

/// A running server.
pub struct Rig {
    pub address: SocketAddr,
    pub logs: Arc<Logs>,
    dir: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.logs.close();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A response: status, headers, body as it is after its framing has been taken off.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value; several are joined with `|`.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `404 ResourceNotFoundException {"Message":…}`: how errors are compared.
    pub fn error(&self) -> String {
        format!("{} {} {}", self.status, self.header("x-amzn-errortype").unwrap_or_default(), self.text())
    }
}

impl Rig {
    /// A server whose functions give back their event.
    pub async fn echo() -> Rig {
        Setup::new(|_, request| async move {
            Ok(match request.payload {
                Payload::Event(event) => Reply::Answer(event),
                Payload::Http(request) => {
                    Reply::Stream(StreamReply::Http(Box::new(http::Response::new(request.into_body()))))
                }
            })
        })
        .start()
        .await
    }

    /// A server whose functions answer with this, whatever they are asked.
    pub async fn answering(answer: &'static str) -> Rig {
        Setup::new(move |_, _| async move { Ok(Reply::Answer(Bytes::from_static(answer.as_bytes()))) })
            .start()
            .await
    }

    /// Ends the server and waits until it has ended.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        self.serving.take().unwrap().await.unwrap();
    }

    /// Begins the shutdown and does not wait.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `METHOD target`, headers one a line, an empty line, the body; on a connection of its own.
    pub async fn send(&self, request: &str) -> Answer {
        self.send_bytes(&self.wire(request)).await
    }

    /// A request as it goes over the wire. `Host` and `Content-Length` are added unless they are there.
    pub fn wire(&self, request: &str) -> Vec<u8> {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        let lower = headers.to_ascii_lowercase();
        if !lower.contains("host:") {
            text += &format!("Host: {}\r\n", self.address);
        }
        if !body.is_empty() && !lower.contains("content-length:") && !lower.contains("transfer-encoding:") {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        for header in headers.lines().filter(|line| !line.is_empty()) {
            text += &format!("{}\r\n", header.trim_start());
        }
        format!("{text}\r\n{body}").into_bytes()
    }

    pub async fn send_bytes(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        parse(&received)
    }

    /// Sends JSON.
    pub async fn json(&self, line: &str, body: Value) -> Answer {
        self.send(&format!("{line}\nContent-Type: application/json\n\n{body}")).await
    }

    /// Creates a function with this runtime.
    pub async fn create_with(&self, name: &str, runtime: &str) -> Value {
        let body = json!({
            "FunctionName": name,
            "Runtime": runtime,
            "Handler": "index.handler",
            "Role": "arn:aws:iam::123456789012:role/r",
            "Code": { "ZipFile": zip_base64() },
        });
        let answer = self.json("POST /2015-03-31/functions", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    pub async fn create(&self, name: &str) -> Value {
        self.create_with(name, "python3.12").await
    }

    /// Gives a function a URL; its host name.
    pub async fn create_url(&self, name: &str, settings: Value) -> String {
        let answer = self.json(&format!("POST /2021-10-31/functions/{name}/url"), settings).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let url = answer.json()["FunctionUrl"].as_str().unwrap().to_owned();
        url.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }
}

/// A small deployment package.
pub fn zip() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("index.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"def handler(event, context): return event\n").unwrap();
    writer.finish().unwrap().into_inner()
}

pub fn zip_base64() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(zip())
}

/// A response stream of these chunks with this content type.
pub fn chunks(content_type: &str, chunks: Vec<Result<&'static str, &'static str>>) -> Reply {
    let (sender, receiver) = mpsc::channel(chunks.len().max(1));
    for chunk in chunks {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        sender.try_send(chunk.map(bytes).map_err(bytes)).unwrap();
    }
    Reply::Stream(StreamReply::Chunks { content_type: content_type.into(), chunks: receiver })
}

/// Takes a response apart; chunked bodies are joined. One that breaks off has status 0 or a short body.
pub fn parse(received: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(at)) = response.parse(received) else {
        return Answer { status: 0, headers: vec![], body: received.to_vec() };
    };
    let headers: Vec<(String, String)> = response
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(&received[at..]) } else { received[at..].to_vec() };
    Answer { status: response.code.unwrap(), headers, body }
}

/// The body of a chunked answer; `<broken off>` at its end when the last chunk is missing.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, length))) = httparse::parse_chunk_size(rest) {
        if length == 0 {
            return body;
        }
        let length = length as usize;
        body.extend_from_slice(&rest[start..start + length]);
        rest = &rest[start + length + 2..];
    }
    body.extend_from_slice(b"<broken off>");
    body
}
