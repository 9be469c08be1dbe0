//! Starts `brillm serve`, sends HTTP requests to it over plain sockets, and reads the responses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brillm::run::Engine;
use serde_json::Value;

use crate::support::root;

/// Time after which a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const JSON: &str = "Content-Type: application/json\r\n";

/// The path of a model of the repository.
pub fn model(name: &str) -> PathBuf {
    root().join("models").join(name)
}

/// Open a model of the repository.
pub fn engine(name: &str) -> Engine {
    Engine::open(&model(name), Default::default()).unwrap()
}

/// A server in its own process, killed when it is dropped.
pub struct TestServer {
    pub child: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl TestServer {
    /// Start a server with both models and an empty library on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_brillm"));
        command
            .args(["serve", "--port", "0", "--model"])
            .arg(model("english.bril"))
            .arg("--model")
            .arg(model("stories260K"))
            .arg("--library")
            .arg(folder.path().join("traces"))
            .args(arguments);
        Self::of(command, folder)
    }

    /// Start a server by a command, and keep a folder as long as it runs.
    pub fn of(mut command: Command, folder: tempfile::TempDir) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.strip_suffix('/'))
            .unwrap_or_else(|| panic!("the first line is {line:?}"));
        Self {
            address: address.parse().unwrap(),
            child,
            _folder: folder,
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Send bytes as they are, and read the response.
    pub fn raw(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A refusal may arrive before the whole request is sent.
        let _ = stream.write_all(request);
        Reply::read(stream)
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        self.raw(request.as_bytes())
    }

    /// GET that must succeed.
    pub fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, "", "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, JSON, &body.to_string())
    }

    /// Send a request and leave the response unread.
    pub fn open(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        let body = body.to_string();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{JSON}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        stream
    }

    /// A completion that must succeed.
    pub fn complete(&self, body: Value) -> Value {
        let reply = self.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// A whole trace, put together from its events.
    pub fn trace(&self, body: Value) -> Value {
        let reply = self.post("/api/v1/trace", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut trace = Value::Null;
        for (event, data) in events(&reply.text()) {
            match event.as_str() {
                "start" => trace = data,
                "step" => trace["steps"]
                    .as_array_mut()
                    .unwrap()
                    .push(data["step"].clone()),
                "end" => {
                    for field in ["finish", "text", "tokens"] {
                        trace[field] = data[field].clone();
                    }
                }
                other => panic!("{other}: {data}"),
            }
        }
        trace
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.send("GET", "/metrics", "", "").text();
        let prefix = format!("{name} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no metric {name}"));
        value.parse().unwrap()
    }

    /// Wait until the counts of `/api/v1/runs` satisfy a condition.
    pub fn wait_for_runs(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let runs = self.get("/api/v1/runs");
            if holds(&runs) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {runs}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Send a signal such as `INT` to the server.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill.args([format!("-{name}"), self.child.id().to_string()]);
        assert!(status.status().unwrap().success());
    }

    /// Wait until the server has ended; return its exit code and what it printed to standard error.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        (status.code(), errors)
    }

    /// Kill the server and return what it printed to standard error.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        errors
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response.
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a response: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        let mut reply = Self {
            status,
            headers,
            body: Vec::new(),
        };
        match reply
            .header("content-length")
            .and_then(|length| length.parse().ok())
        {
            Some(length) => {
                reply.body = vec![0; length];
                reader.read_exact(&mut reply.body).unwrap();
            }
            None if reply.header("transfer-encoding") == Some("chunked") => loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let length = usize::from_str_radix(line.trim(), 16).unwrap();
                let from = reply.body.len();
                reply.body.resize(from + length, 0);
                reader.read_exact(&mut reply.body[from..]).unwrap();
                reader.read_line(&mut line).unwrap();
                if length == 0 {
                    break;
                }
            },
            None => {
                reader.read_to_end(&mut reply.body).unwrap();
            }
        }
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }
}

/// The named events of a stream, with their data.
pub fn events(text: &str) -> Vec<(String, Value)> {
    text.split("\n\n")
        .filter_map(|event| {
            let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
            Some((name.to_string(), serde_json::from_str(data).unwrap()))
        })
        .collect()
}
