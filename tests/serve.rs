//! The server over real sockets: what it answers, what it refuses, what it stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brillm::hook::Hooks;
use brillm::run::Engine;
use brillm::run::trace::Trace;
use serde_json::{Value, json};

/// How long anything may take before a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name)
}

/// A server of its own; killed when it is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args(["serve", "--port", "0", "--model"])
            .arg(model("english.bril"))
            .arg("--model")
            .arg(model("stories260K"))
            .arg("--library")
            .arg(folder.path().join("traces"))
            .args(arguments)
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
            .strip_prefix("brillm serves on http://")
            .and_then(|rest| rest.strip_suffix('/'))
            .unwrap_or_else(|| panic!("it said {line:?}"));
        Self {
            address: address.parse().unwrap(),
            child,
            _folder: folder,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are, and reads all of the answer.
    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A refusal may come before all is sent.
        let _ = stream.write_all(request);
        Answer::read(stream)
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        self.raw(request.as_bytes())
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "", "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        let kind = "Content-Type: application/json\r\n";
        self.ask("POST", path, kind, &body.to_string())
    }

    fn complete(&self, body: Value) -> Value {
        let answer = self.post("/v1/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A whole trace, put together from its events.
    fn trace(&self, body: Value) -> Value {
        let answer = self.post("/api/v1/trace", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut trace = Value::Null;
        for (event, data) in events(&answer.text()) {
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

    /// Waits until the counts of runs are as they should be.
    fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let runs = self.get("/api/v1/runs");
            if fits(&runs) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {runs}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        let mut answer = Self {
            status,
            headers,
            body: Vec::new(),
        };
        match answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
        {
            Some(length) => {
                answer.body = vec![0; length];
                reader.read_exact(&mut answer.body).unwrap();
            }
            None if answer.header("transfer-encoding") == Some("chunked") => loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let length = usize::from_str_radix(line.trim(), 16).unwrap();
                let from = answer.body.len();
                answer.body.resize(from + length, 0);
                reader.read_exact(&mut answer.body[from..]).unwrap();
                reader.read_line(&mut line).unwrap();
                if length == 0 {
                    break;
                }
            },
            None => {
                reader.read_to_end(&mut answer.body).unwrap();
            }
        }
        answer
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// Named events of a stream.
fn events(text: &str) -> Vec<(String, Value)> {
    text.split("\n\n")
        .filter_map(|event| {
            let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
            Some((name.to_string(), serde_json::from_str(data).unwrap()))
        })
        .collect()
}

fn engine(name: &str) -> Engine {
    Engine::open(&model(name), Default::default()).unwrap()
}

#[test]
fn the_visualisers_page_loads_from_here_alone() {
    let served = Served::start(&[]);
    let page = served.ask("GET", "/", "", "");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let tag = page.header("etag").unwrap();
    let again = served.ask("GET", "/", &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    for path in [
        "/none.js",
        "/../Cargo.toml",
        "/..%2f..%2fCargo.toml",
        "/app/../../mod.rs",
        "/.git",
    ] {
        let answer = served.ask("GET", path, "", "");
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["code"], 404);
    }
    let wrong = served.ask("DELETE", "/api/v1/about", "", "");
    assert_eq!(
        (wrong.status, wrong.json()["error"]["kind"].as_str()),
        (405, Some("http"))
    );
    let about = served.get("/api/v1/about");
    assert_eq!(about["schema"], "brillm-trace/1");
    let models = served.get("/api/v1/models");
    assert_eq!(models[0]["kind"], "graph");
    assert_eq!(models[1]["kind"], "transformer");
    assert_eq!(models[0]["sha256"].as_str().unwrap().len(), 64);
    let shown = served
        .post("/api/v1/tokens", &json!({"text": "Once ☃"}))
        .json();
    assert!(shown["tokens"].as_array().unwrap().len() > 1);
}

#[test]
fn a_trace_is_that_of_the_command_line() {
    let served = Served::start(&[]);
    for (name, file) in [("english", "english.bril"), ("stories260K", "stories260K")] {
        let engine = engine(file);
        let own = served.get("/api/v1/models");
        let own = own.as_array().unwrap();
        let own = own.iter().find(|one| one["name"] == engine.name()).unwrap();
        assert_eq!(own["kind"] == "graph", name == "english");
        let body = json!({
            "model": engine.name(), "prompt": "Once upon a time", "tokens": 5, "temperature": 0.9, "seed": 3,
        });
        let trace = served.trace(body);
        let command = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args([
                "trace",
                "Once upon a time",
                "--tokens",
                "5",
                "--temperature",
                "0.9",
            ])
            .args(["--seed", "3", "--json", "--model"])
            .arg(model(file))
            .output()
            .unwrap();
        let expected: Value = serde_json::from_slice(&command.stdout).unwrap();
        assert_eq!(trace, expected);
        // Exports too.
        for format in ["json", "svg", "dot", "graphml", "gexf", "csv"] {
            let answer = served.post(&format!("/api/v1/export/{format}?theme=dark"), &trace);
            assert_eq!(answer.status, 200, "{format}: {}", answer.text());
            let own: Trace = serde_json::from_value(trace.clone()).unwrap();
            let theme = "dark".parse().unwrap();
            assert_eq!(
                answer.text(),
                own.export(format.parse().unwrap(), theme).unwrap()
            );
            if format == "svg" {
                let kind = "Content-Type: image/svg+xml\r\n";
                let back = served.ask("POST", "/api/v1/import", kind, &answer.text());
                assert_eq!(back.json(), trace);
            }
        }
    }
    let fork = served.trace(json!({
        "prompt": "Once upon a time", "tokens": 5,
        "interventions": [{"kind": "force", "step": 1, "node": 7}],
    }));
    let plain = served.trace(json!({"prompt": "Once upon a time", "tokens": 5}));
    assert_eq!(fork["steps"][1]["chosen"], 7);
    let compared = served
        .post("/api/v1/compare", &json!({"a": plain, "b": fork}))
        .json();
    assert_eq!(compared["first_divergence"], 1);
    assert_eq!(compared["rows"][0]["same"], true);
    let look = served
        .post(
            "/api/v1/fan",
            &json!({"tokens": [1, 2, 3], "k": 5, "targets": [9], "vectors": true}),
        )
        .json();
    assert_eq!(look["contributions"][0]["target"], 9);
    assert!(
        look["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == 9)
    );
}

#[test]
fn errors_are_events_once_a_trace_has_begun() {
    let served = Served::start(&[]);
    for (body, kind) in [
        (json!({"prompt": ""}), "input"),
        (json!({"prompt_ids": [99_999_999]}), "input"),
        (
            json!({"prompt": "a", "plugins": ["nothing-of-that-name"]}),
            "configuration",
        ),
        (
            json!({"prompt": "a", "plugins": ["/bin/true"]}),
            "configuration",
        ),
        (json!({"prompt": "a", "temperature": -1.0}), "input"),
        (
            json!({"model": "stories260K", "prompt": "a", "interventions": [{"kind": "mute_signal", "position": 0}]}),
            "unsupported",
        ),
    ] {
        let answer = served.post("/api/v1/trace", &body);
        let events = events(&answer.text());
        let (name, data) = events.last().unwrap();
        assert_eq!(
            (name.as_str(), &data["error"]["kind"]),
            ("error", &json!(kind)),
            "{body}"
        );
    }
}

#[test]
fn nodes_and_their_edges_are_those_of_the_graph() {
    let served = Served::start(&[]);
    let Engine::Graph(english) = engine("english.bril") else {
        panic!("not a graph")
    };
    let graph = english.mechanism().graph();
    let found = served.get("/api/v1/nodes?q=the&limit=5");
    let first = &found["nodes"][0];
    assert_eq!(first["text"].as_str().unwrap().trim(), "the");
    let id = first["id"].as_u64().unwrap() as u32;
    let node = served.get(&format!("/api/v1/nodes/{id}"));
    let out = graph.row(brillm::graph::NodeId(id)).len();
    assert_eq!(node["out_degree"], out);
    assert_eq!(node["nearest"].as_array().unwrap().len(), 10);
    let fan = served.get(&format!("/api/v1/nodes/{id}/out?k=7"));
    let edges = fan["edges"].as_array().unwrap();
    assert_eq!((edges.len(), &fan["total"]), (7, &json!(out)));
    assert_eq!(fan["rest"]["count"], out - 7);
    let probability = |edge: &Value| edge["probability"].as_f64().unwrap();
    assert!(
        edges
            .windows(2)
            .all(|pair| probability(&pair[0]) >= probability(&pair[1]))
    );
    let listed: f64 = edges.iter().map(probability).sum();
    let all =
        listed + fan["rest"]["probability"].as_f64().unwrap() + fan["unseen"].as_f64().unwrap();
    assert!((all - 1.0).abs() < 1e-6, "{all}");
    let entering = served.get(&format!("/api/v1/nodes/{id}/in?k=3"));
    assert_eq!(entering["edges"][0]["target"], id);
    assert_eq!(served.get("/api/v1/nodes?q=%2317")["nodes"][0]["id"], 17);
    for path in [
        "/api/v1/nodes/x",
        "/api/v1/nodes/99999999",
        "/api/v1/nodes/-1/out",
    ] {
        assert_eq!(served.ask("GET", path, "", "").status, 404, "{path}");
    }
    assert_eq!(
        served.ask("GET", "/api/v1/nodes/1/out?k=x", "", "").status,
        400
    );
    let other = served.ask("GET", "/api/v1/nodes/1/out?model=stories260K", "", "");
    assert_eq!(
        (other.status, &other.json()["error"]["kind"]),
        (422, &json!("unsupported"))
    );
}

#[test]
fn the_map_is_never_more_than_a_page_can_draw() {
    let served = Served::start(&[]);
    let afar = served.get("/api/v1/map");
    let clusters = afar["clusters"].as_array().unwrap();
    assert!((2..=200).contains(&clusters.len()), "{}", clusters.len());
    let nodes: u64 = clusters
        .iter()
        .map(|one| one["nodes"].as_u64().unwrap())
        .sum();
    assert_eq!(json!(nodes), afar["total"]["nodes"]);
    assert!(afar["edges"].as_array().unwrap().len() <= 2000);
    for query in [
        "level=1",
        "level=2",
        "level=2&k=50",
        "level=2&x0=0.4&x1=0.6&y0=0.4&y1=0.6&k=9",
    ] {
        let near = served.get(&format!("/api/v1/map?{query}"));
        let (nodes, edges) = (
            near["nodes"].as_array().unwrap(),
            near["edges"].as_array().unwrap(),
        );
        assert!(nodes.len() <= 4000 && edges.len() <= 20_000, "{query}");
        assert!(!nodes.is_empty() && !edges.is_empty(), "{query}");
        let ids: std::collections::BTreeSet<u64> = nodes
            .iter()
            .map(|node| node["id"].as_u64().unwrap())
            .collect();
        for edge in edges {
            for end in ["source", "target"] {
                assert!(ids.contains(&edge[end].as_u64().unwrap()), "{query}");
            }
        }
        if query.contains("x0") {
            let inside = |node: &Value| (0.4..=0.6).contains(&node["x"].as_f64().unwrap());
            assert!(nodes.iter().all(inside) && nodes.len() < 4000);
        }
    }
    assert_eq!(served.ask("GET", "/api/v1/map?level=3", "", "").status, 400);
}

#[test]
fn saved_traces_keep_their_notes() {
    let served = Served::start(&[]);
    let mut trace = served.trace(json!({"prompt": "Once", "tokens": 2}));
    trace["annotations"]["title"] = "春 风".into();
    trace["annotations"]["notes"] = "why?".into();
    trace["annotations"]["pins"] = json!([{"step": 0, "node": trace["steps"][0]["chosen"]}]);
    let kind = "Content-Type: application/json\r\n";
    let path = "/api/v1/library/%E6%98%A5%20walk-1.a";
    let saved = served.ask("PUT", path, kind, &trace.to_string());
    assert_eq!(
        (saved.status, &saved.json()["name"]),
        (200, &json!("春 walk-1.a"))
    );
    assert_eq!(served.get(path), trace);
    let rows = served.get("/api/v1/library");
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "春 walk-1.a")
        .unwrap();
    assert_eq!(
        (&row["title"], &row["pins"], &row["steps"]),
        (&json!("春 风"), &json!(1), &json!(2))
    );
    for name in ["..%2fx", "%2e%2e", ".hidden", "a%00b", "a%2fb", "%ff"] {
        let path = format!("/api/v1/library/{name}");
        let answer = served.ask("PUT", &path, kind, &trace.to_string());
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    let broken = served.ask("PUT", "/api/v1/library/b", kind, "{\"schema\":\"other\"}");
    assert_eq!(broken.status, 400);
    assert_eq!(served.ask("DELETE", path, "", "").status, 204);
    assert_eq!(served.ask("GET", path, "", "").status, 404);
    assert_eq!(served.ask("DELETE", path, "", "").status, 404);
}

/// Every prompt token's log-probability is the one that `brillm eval` sums up.
#[test]
fn echoed_log_probabilities_are_those_of_eval() {
    let served = Served::start(&[]);
    let text = "Once upon a time, there was a little girl named Lily. She was three years old.";
    for file in ["english.bril", "stories260K"] {
        let engine = engine(file);
        let ids = engine.encode(text).unwrap();
        let answer = served.complete(json!({
            "model": engine.name(), "prompt": text, "echo": true, "logprobs": 5, "max_tokens": 0,
        }));
        let choice = &answer["choices"][0];
        let logprobs = &choice["logprobs"];
        let values = logprobs["token_logprobs"].as_array().unwrap();
        assert_eq!(values.len(), ids.len());
        assert!(values[0].is_null() && logprobs["top_logprobs"][0].is_null());
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!(choice["text"], engine.tokenizer().decode(&ids));
        // One by one, by the sessions that eval walks with.
        let mut nats = 0.0;
        for (place, value) in values.iter().enumerate().skip(1) {
            let resistance = match &engine {
                Engine::Graph(model) => {
                    let mut session = brillm::path::GraphSession::begin(
                        model.mechanism().clone(),
                        &ids[..place],
                        &Default::default(),
                        brillm::path::Sampling::greedy(),
                    )
                    .unwrap();
                    session.resistance(ids[place]).unwrap()
                }
                Engine::Transformer(model) => {
                    let mut session = brillm::transformer::TransformerSession::begin(
                        model,
                        &ids[..place],
                        brillm::path::Sampling::greedy(),
                    )
                    .unwrap();
                    session.resistance(ids[place]).unwrap()
                }
            };
            let value = value.as_f64().unwrap();
            assert!(
                (value + resistance).abs() < 2e-4,
                "{file} {place}: {value}, not {resistance}"
            );
            nats -= value;
            // Greedy means: the likeliest listed has the token's own value.
            let top = logprobs["top_logprobs"][place].as_object().unwrap();
            assert!((1..=5).contains(&top.len()));
            let most = top
                .values()
                .map(|ln| ln.as_f64().unwrap())
                .fold(f64::MIN, f64::max);
            assert!(value <= most + 1e-12);
        }
        // And all together, by eval itself.
        let measured = match &engine {
            Engine::Graph(model) => {
                let hooks = Hooks::default();
                brillm::run::evaluate_stream(model.mechanism(), &ids, 0, None, &hooks).unwrap()
            }
            Engine::Transformer(model) => brillm::transformer::evaluate_stream(model, &ids, 0)
                .unwrap()
                .into(),
        };
        let mean = nats / (ids.len() - 1) as f64;
        assert!(
            (mean - measured.nats_per_token).abs() < 1e-5,
            "{file}: {mean} {measured:?}"
        );
        let offsets = logprobs["text_offset"].as_array().unwrap();
        let characters: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        let tokens = logprobs["tokens"].as_array().unwrap();
        for (place, token) in tokens.iter().enumerate().skip(1) {
            let token: Vec<char> = token.as_str().unwrap().chars().collect();
            let at = offsets[place].as_u64().unwrap() as usize;
            // The space that a tokenizer puts before every text is not in the text.
            let token = if at == 0 { &token[1..] } else { &token[..] };
            let found = characters.get(at..at + token.len());
            assert_eq!(found, Some(token), "{file} {place}");
        }
    }
}

#[test]
fn prompts_may_be_texts_ids_or_lists_and_answers_stream() {
    let served = Served::start(&[]);
    let engine = engine("english.bril");
    let ids = engine.encode("Once upon a time").unwrap();
    let base = json!({"max_tokens": 12, "temperature": 0.8, "seed": 5, "logprobs": 2});
    let with = |fields: Value| {
        let mut body = base.clone();
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body
    };
    let text = served.complete(with(json!({"prompt": "Once upon a time"})));
    let by_ids = served.complete(with(json!({"prompt": ids})));
    assert_eq!(text["choices"], by_ids["choices"]);
    assert_eq!(text["usage"]["prompt_tokens"], ids.len());
    assert_eq!(text["usage"]["completion_tokens"], 12);
    let Engine::Graph(graph) = &engine else {
        panic!()
    };
    let sampling = brillm::path::Sampling::default().temperature(0.8).seed(5);
    let expected = brillm::Request::ids(ids.clone())
        .tokens(12)
        .sampling(sampling)
        .start(graph)
        .unwrap()
        .collect_text()
        .unwrap()
        .0;
    assert_eq!(text["choices"][0]["text"], expected);
    let lists = served.complete(with(json!({"prompt": [ids, ids], "n": 2})));
    let choices = lists["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[0]["text"], expected);
    assert_eq!(choices[3]["index"], 3);
    let texts = served.complete(with(
        json!({"prompt": ["Once", "One day"], "temperature": 0}),
    ));
    assert_eq!(texts["choices"].as_array().unwrap().len(), 2);
    // The stream gives the same text, tokens and figures, in pieces.
    let streamed = served.post(
        "/v1/completions",
        &with(
            json!({"prompt": "Once upon a time", "stream": true, "echo": true,
            "stream_options": {"include_usage": true}}),
        ),
    );
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    let streamed = streamed.text();
    let mut pieces: Vec<&str> = streamed
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect();
    assert_eq!(pieces.pop(), Some("[DONE]"));
    let whole = served.complete(with(json!({"prompt": "Once upon a time", "echo": true})));
    let (mut all, mut values, mut offsets) = (String::new(), Vec::new(), Vec::new());
    let mut finish = Value::Null;
    let mut usage = Value::Null;
    for piece in pieces {
        let piece: Value = serde_json::from_str(piece).unwrap();
        usage = piece["usage"].clone();
        let Some(choice) = piece["choices"].get(0) else {
            continue;
        };
        all.push_str(choice["text"].as_str().unwrap());
        values.extend(
            choice["logprobs"]["token_logprobs"]
                .as_array()
                .unwrap()
                .clone(),
        );
        offsets.extend(
            choice["logprobs"]["text_offset"]
                .as_array()
                .unwrap()
                .clone(),
        );
        finish = choice["finish_reason"].clone();
    }
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], all);
    assert_eq!(choice["logprobs"]["token_logprobs"], json!(values));
    assert_eq!(choice["logprobs"]["text_offset"], json!(offsets));
    assert_eq!((finish, usage), (json!("length"), whole["usage"].clone()));
    // A stop string ends the text before it.
    let cut = served.complete(
        json!({"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0, "stop": "."}),
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    assert!(!cut["choices"][0]["text"].as_str().unwrap().contains('.'));
    let listed = served.get("/v1/models");
    assert_eq!(listed["data"][0]["id"], engine.name());
    // The end token is no text, but its probability is told: a client that asked for one token beyond the prompt counts
    // on one more entry.
    let ended = (0..50)
        .map(|seed| {
            served.complete(json!({"prompt": "Once upon a time", "max_tokens": 400,
                "temperature": 1.0, "seed": seed, "logprobs": 1}))
        })
        .find(|answer| answer["choices"][0]["finish_reason"] == "stop")
        .expect("no text of fifty ends: choose another prompt");
    let (choice, made) = (&ended["choices"][0], &ended["usage"]["completion_tokens"]);
    let logprobs = &choice["logprobs"];
    let made = made.as_u64().unwrap() as usize;
    for entries in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[entries].as_array().unwrap().len(), made + 1);
    }
    assert_eq!(logprobs["tokens"][made], "<end>");
    assert!(logprobs["token_logprobs"][made].as_f64().unwrap() < 0.0);
    let length = choice["text"].as_str().unwrap().chars().count();
    assert_eq!(logprobs["text_offset"][made], length);
    assert!(!choice["text"].as_str().unwrap().contains("<end>"));
}

#[test]
fn what_cannot_be_read_is_refused_with_a_status() {
    let served = Served::start(&[]);
    let address = served.address;
    let host = format!("Host: {address}\r\n");
    let kind = "Content-Type: application/json\r\n";
    let heads: [(&str, u16); 8] = [
        ("GARBAGE\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (
            "GET /health HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
            421,
        ),
        (
            "GET /health HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n",
            421,
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n", 400),
        (
            "POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
            421,
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            421,
        ),
    ];
    for (head, status) in heads {
        assert_eq!(served.raw(head.as_bytes()).status, status, "{head:?}");
    }
    let long = format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(200_000));
    assert_eq!(served.raw(long.as_bytes()).status, 431);
    let foreign = served.ask(
        "GET",
        "/api/v1/about",
        "Origin: http://evil.example\r\n",
        "",
    );
    assert_eq!(foreign.status, 403);
    let own = format!("Origin: http://{address}\r\n");
    assert_eq!(served.ask("GET", "/api/v1/about", &own, "").status, 200);
    for (headers, body, status) in [
        ("Content-Type: text/plain\r\n", "{}", 415),
        ("", "{}", 415),
        (kind, "", 400),
        (kind, "{", 400),
        (kind, "[]", 400),
        (kind, "\u{fffd}", 400),
        (kind, r#"{"prompt":null}"#, 400),
        (kind, r#"{"prompt":""}"#, 400),
        (kind, r#"{"prompt":[]}"#, 400),
        (kind, r#"{"prompt":[[]]}"#, 400),
        (kind, r#"{"prompt":[999999999]}"#, 400),
        (kind, r#"{"prompt":[-1]}"#, 400),
        (kind, r#"{"prompt":"a","max_tokens":1000000}"#, 400),
        (kind, r#"{"prompt":"a","max_tokens":-1}"#, 400),
        (kind, r#"{"prompt":"a","temperature":-1}"#, 400),
        (kind, r#"{"prompt":"a","top_p":0}"#, 400),
        (kind, r#"{"prompt":"a","logprobs":1000}"#, 400),
        (kind, r#"{"prompt":"a","n":0}"#, 400),
        (kind, r#"{"prompt":"a","n":100000}"#, 400),
        (kind, r#"{"prompt":"a","stop":""}"#, 400),
        (kind, r#"{"prompt":"a","suffix":"b"}"#, 400),
        (kind, r#"{"prompt":"a","model":"other"}"#, 404),
    ] {
        let answer = served.ask("POST", "/v1/completions", headers, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        let error = &answer.json()["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{body}"
        );
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        served.ask("POST", "/v1/completions", kind, &deep).status,
        400
    );
    let large = format!("{{\"prompt\":\"{}\"}}", "a ".repeat(4 << 20));
    let answer = served.ask("POST", "/v1/completions", kind, &large);
    assert_eq!(answer.status, 413, "{}", answer.text());
    let many = json!({"prompt": "a ".repeat(100_000)});
    assert_eq!(served.post("/v1/completions", &many).status, 400);
    // After all of that it serves on.
    assert_eq!(served.get("/health")["status"], "ok");
}

#[test]
fn slow_requests_are_ended() {
    let served = Served::start(&["--patience", "1"]);
    let mut head = served.connect();
    head.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    // Nothing more is sent: the server ends it, with words or without.
    head.read_to_end(&mut rest).unwrap();
    let said = String::from_utf8_lossy(&rest);
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 408"),
        "{said}"
    );
    let mut body = served.connect();
    write!(
        body,
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        served.address
    )
    .unwrap();
    let answer = Answer::read(body);
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(served.get("/health")["status"], "ok");
}

#[test]
fn runs_end_when_nobody_reads_and_others_are_refused_meanwhile() {
    let served = Served::start(&[
        "--parallel",
        "1",
        "--queue",
        "1",
        "--max-tokens",
        "100000000",
    ]);
    let long = |stream: bool| {
        json!({"prompt": "Once", "max_tokens": 100_000_000, "ignore_eos": true, "stream": stream})
            .to_string()
    };
    let open = |body: &str, path: &str| {
        let mut stream = served.connect();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            served.address,
            body.len()
        )
        .unwrap();
        stream
    };
    let running = |count: u64| move |runs: &Value| runs["running"] == count;
    let trace =
        json!({"prompt": "Once", "tokens": 100_000_000, "ignore_eos": true, "candidates": 1})
            .to_string();
    for (number, (body, path)) in [
        (long(true), "/v1/completions"),
        (long(false), "/v1/completions"),
        (trace, "/api/v1/trace"),
    ]
    .iter()
    .enumerate()
    {
        let first = open(body, path);
        served.until("the run begins", running(1));
        // One waits, one more is refused at once.
        let second = open(body, path);
        served.until("the next waits", |runs| runs["waiting"] == 1);
        let third = served.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
        assert_eq!(
            (third.status, third.header("retry-after")),
            (429, Some("1"))
        );
        assert_eq!(third.json()["error"]["type"], "rate_limit_error");
        // Who closes a connection ends its run; who waits goes in, and is ended likewise.
        drop(first);
        served.until("the first is cancelled", |runs| {
            runs["cancelled"].as_u64() > Some(2 * number as u64) && runs["waiting"] == 0
        });
        drop(second);
        served.until("nothing runs", running(0));
    }
    let metrics = served.ask("GET", "/metrics", "", "").text();
    let value = |name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!(value("brillm_runs_cancelled_total"), 6.0);
    assert_eq!(value("brillm_runs_refused_total"), 3.0);
    assert_eq!(value("brillm_runs_running"), 0.0);
    assert!(metrics.contains("brillm_request_duration_seconds_bucket{route=\"/v1/completions\",status=\"429\",le=\"+Inf\"} 3"));
}

#[test]
fn time_is_limited() {
    let served = Served::start(&["--max-seconds", "1", "--max-tokens", "100000000"]);
    let body = json!({"prompt": "Once", "max_tokens": 100_000_000, "ignore_eos": true});
    let answer = served.post("/v1/completions", &body);
    assert_eq!(answer.status, 408, "{}", answer.text());
    let body =
        json!({"prompt": "Once", "tokens": 100_000_000, "ignore_eos": true, "candidates": 1});
    let answer = served.post("/api/v1/trace", &body);
    assert_eq!(events(&answer.text()).last().unwrap().0, "error");
    served.until("nothing runs", |runs| runs["running"] == 0);
}

#[test]
fn another_address_needs_a_token() {
    let refused = Command::new(env!("CARGO_BIN_EXE_brillm"))
        .args(["serve", "--port", "0", "--host", "0.0.0.0", "--model"])
        .arg(model("english.bril"))
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--token"));
    let served = Served::start(&["--token", "a-long-secret"]);
    for headers in [
        "",
        "Authorization: Bearer a-long-secre\r\n",
        "Cookie: brillm-token=x\r\n",
    ] {
        let answer = served.ask("GET", "/api/v1/about", headers, "");
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer"))
        );
    }
    assert_eq!(served.ask("GET", "/?token=wrong", "", "").status, 401);
    let bearer = "Authorization: Bearer a-long-secret\r\n";
    assert_eq!(served.ask("GET", "/api/v1/about", bearer, "").status, 200);
    let login = served.ask("GET", "/?token=a-long-secret", "", "");
    assert_eq!((login.status, login.header("location")), (303, Some("/")));
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(served.ask("GET", "/", &cookie, "").status, 200);
    assert_eq!(served.ask("GET", "/health", "", "").status, 200);
}

#[cfg(unix)]
#[test]
fn an_interrupt_lets_answers_end() {
    let mut served = Served::start(&[]);
    let body = json!({"prompt": "Once", "max_tokens": 300, "ignore_eos": true, "stream": true})
        .to_string();
    let mut stream = served.connect();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        served.address,
        body.len()
    )
    .unwrap();
    let mut first = [0u8; 200];
    stream.read_exact(&mut first).unwrap();
    let signal = Command::new("kill")
        .args(["-INT", &served.child.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]"), "{rest}");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = served.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(130));
}
