//! `plugins/refgpt`: references become dialogues; by their own sentences, by a loaded model, by an endpoint played here. Each
//! defect that the published script is known for has a test that says so.
#![cfg(all(
    feature = "plugin",
    feature = "cli",
    feature = "endpoint",
    feature = "transformer"
))]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "../support/mod.rs"]
mod support;
use support::{brillm, build_plugins, error_of, root, stdout_of};

mod defects;
mod dialogues;
mod endpoint;

const ENGLISH: &str = "tests/golden/transformer/tinystories_12.json";
const CHINESE: &str = "tests/golden/rongzhai_12.json";
/// Plans short enough for the fixtures' references.
const SHORT: &str = "rounds=0 1 2,assistant-words=40,deviation=10,step=10,human-words=20";
const KEY: &str = "BRILLM_TEST_ENDPOINT_KEY";

fn command(arguments: &[&str]) -> Command {
    let mut command = brillm(arguments);
    command.env_remove(KEY);
    command
}

/// The plugin, built once.
static PLUGINS: LazyLock<String> = LazyLock::new(|| build_plugins("refgpt", &["refgpt"]));

/// `brillm corpus` with the plugin and its options.
fn corpus(options: &str, arguments: &[&str]) -> Command {
    let plugin = format!("refgpt:{options}");
    let mut all = vec!["corpus", "--plugin-path", &PLUGINS, "--plugin", &plugin];
    all.push("--quiet");
    all.extend(arguments);
    command(&all)
}

fn good(mut command: Command) -> Output {
    let output = command.output().unwrap();
    stdout_of(&output, "corpus");
    output
}

fn bad(mut command: Command) -> String {
    error_of(&command.output().unwrap(), "corpus")
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The records of a run that writes to its standard output.
fn records(options: &str, arguments: &[&str]) -> Vec<Value> {
    lines(&good(corpus(options, arguments)).stdout)
}

fn fixture(path: &str) -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(root().join(path)).unwrap()).unwrap()
}

fn turns(record: &Value) -> &Vec<Value> {
    record["turns"].as_array().unwrap()
}

fn answers(record: &Value) -> impl Iterator<Item = &Value> {
    turns(record).iter().skip(1).step_by(2)
}

/// What an endpoint was asked.
#[derive(Clone, Debug)]
struct Asked {
    authorization: String,
    body: Value,
}

impl Asked {
    fn prompt(&self) -> &str {
        self.body["messages"][1]["content"].as_str().unwrap()
    }
}

/// An answer: a status, more headers, a body.
type Prediction = (u16, &'static str, String);

/// An endpoint on a port of its own, that answers as a function of what is asked and how many were before.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Endpoint {
    fn start(answer: impl Fn(&Asked, usize) -> Prediction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*answer));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked, usize) -> Prediction,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut authorization) = (0, String::new());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => authorization = value.trim().to_string(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let asked = Asked {
        authorization,
        body: serde_json::from_slice(&body).unwrap(),
    };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(asked.clone());
        seen.len() - 1
    };
    let (status, headers, body) = if first.starts_with("POST /v1/chat/completions ") {
        answer(&asked, before)
    } else {
        (404, "", first)
    };
    write!(
        stream,
        "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n{headers}connection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

fn said(text: &str, end: &str) -> Prediction {
    let answer = json!({"choices": [{"message": {"content": text}, "finish_reason": end}]});
    (200, "", answer.to_string())
}

/// The words of each round that a prompt's plan asks for: the human's and the assistant's.
fn planned(prompt: &str) -> Vec<(usize, usize)> {
    let counts: Vec<usize> = prompt
        .split("(word count: ")
        .skip(1)
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect();
    counts.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The reference that a prompt shows.
fn shown(prompt: &str) -> &str {
    let rest = prompt.strip_prefix("Reference:\n").unwrap();
    rest.split_once("\n\n").unwrap().0
}

/// So many words of a text, around and around.
fn words(text: &str, count: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().cycle().take(count).collect();
    words.join(" ")
}

/// A dialogue that keeps to a prompt's plan.
fn obedient(prompt: &str) -> String {
    let mut text = String::from("<start_chat>");
    for (place, (human, assistant)) in planned(prompt).into_iter().enumerate() {
        let (human, assistant) = (words(shown(prompt), human), words(shown(prompt), assistant));
        let place = place + 1;
        text += &format!("<Human {place}>: {human}\n<Assistant {place}>: {assistant}\n");
    }
    text + "<end_chat>"
}

/// Where the endpoint is, and limits that do not matter.
fn at(endpoint: &Endpoint) -> [&str; 8] {
    [
        "--endpoint",
        &endpoint.url,
        "--endpoint-key",
        KEY,
        "--requests-per-minute",
        "100000",
        "--tokens-per-minute",
        "1e9",
    ]
}

/// The records of a run whose endpoint answers so.
fn asked_for(options: &str, text: &str, endpoint: &Endpoint) -> Vec<Value> {
    let mut arguments = vec![text];
    arguments.extend(at(endpoint));
    records(&format!("generator=chat,{SHORT},{options}"), &arguments)
}

/// A file with the first stories as references in the published script's form.
fn references(folder: &Path, name: &str, stories: std::ops::Range<usize>) -> String {
    let stories = &fixture(ENGLISH)[stories];
    let rows: Vec<String> = stories
        .iter()
        .map(|story| json!({"title": "A story", "desc": story}).to_string())
        .collect();
    let path = folder.join(name);
    std::fs::write(&path, rows.join("\n") + "\n").unwrap();
    path.display().to_string()
}
