//! `/v1/completions`.

use brillm::hook::Hooks;
use brillm::path::Sampling;
use brillm::run::Engine;
use serde_json::{Value, json};

use crate::server::{TestServer, engine};

#[test]
fn echoed_log_probabilities_equal_those_of_eval() {
    let server = TestServer::start(&[]);
    let text = "Once upon a time, there was a little girl named Lily. She was three years old.";
    for file in ["english.bril", "stories260K"] {
        let engine = engine(file);
        let ids = engine.encode(text).unwrap();
        let reply = server.complete(json!({
            "model": engine.name(), "prompt": text, "echo": true, "logprobs": 5, "max_tokens": 0,
        }));
        let choice = &reply["choices"][0];
        let logprobs = &choice["logprobs"];
        let values = logprobs["token_logprobs"].as_array().unwrap();
        assert_eq!(values.len(), ids.len());
        assert!(values[0].is_null() && logprobs["top_logprobs"][0].is_null());
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!(choice["text"], engine.tokenizer().decode(&ids));
        // Each by itself, by the sessions of eval.
        let mut nats = 0.0;
        for (position, value) in values.iter().enumerate().skip(1) {
            let before = &ids[..position];
            let mut session = engine.session(before, Sampling::greedy()).unwrap();
            let resistance = session.resistance(ids[position]).unwrap();
            let value = value.as_f64().unwrap();
            assert!(
                (value + resistance).abs() < 2e-4,
                "{file} {position}: {value}, not {resistance}"
            );
            nats -= value;
            // The most likely token listed is at least as likely as the token itself.
            let top = logprobs["top_logprobs"][position].as_object().unwrap();
            assert!((1..=5).contains(&top.len()));
            let most = top
                .values()
                .map(|ln| ln.as_f64().unwrap())
                .fold(f64::MIN, f64::max);
            assert!(value <= most + 1e-12);
        }
        // Their mean, by eval.
        let hooked = engine.with_hooks(&Hooks::default(), 0).unwrap();
        let measured = hooked.stream(&ids, 0, &Default::default()).unwrap();
        let mean = nats / (ids.len() - 1) as f64;
        assert!(
            (mean - measured.nats_per_token).abs() < 1e-5,
            "{file}: {mean} {measured:?}"
        );
        let offsets = logprobs["text_offset"].as_array().unwrap();
        let characters: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        let tokens = logprobs["tokens"].as_array().unwrap();
        for (position, token) in tokens.iter().enumerate().skip(1) {
            let token: Vec<char> = token.as_str().unwrap().chars().collect();
            let at = offsets[position].as_u64().unwrap() as usize;
            // The text does not have the space that a tokenizer puts before every text.
            let token = if at == 0 { &token[1..] } else { &token[..] };
            let found = characters.get(at..at + token.len());
            assert_eq!(found, Some(token), "{file} {position}");
        }
    }
}

#[test]
fn prompts_may_be_texts_ids_or_lists_and_replys_stream() {
    let server = TestServer::start(&[]);
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
    let text = server.complete(with(json!({"prompt": "Once upon a time"})));
    let by_ids = server.complete(with(json!({"prompt": ids})));
    assert_eq!(text["choices"], by_ids["choices"]);
    assert_eq!(text["usage"]["prompt_tokens"], ids.len());
    assert_eq!(text["usage"]["completion_tokens"], 12);
    let Engine::Graph(graph) = &engine else {
        panic!()
    };
    let sampling = Sampling::default().temperature(0.8).seed(5);
    let expected = brillm::Request::ids(ids.clone())
        .tokens(12)
        .sampling(sampling)
        .start(graph)
        .unwrap()
        .collect_text()
        .unwrap()
        .0;
    assert_eq!(text["choices"][0]["text"], expected);
    let lists = server.complete(with(json!({"prompt": [ids, ids], "n": 2})));
    let choices = lists["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert_eq!(choices[0]["text"], expected);
    assert_eq!(choices[3]["index"], 3);
    let texts = server.complete(with(
        json!({"prompt": ["Once", "One day"], "temperature": 0}),
    ));
    assert_eq!(texts["choices"].as_array().unwrap().len(), 2);
    // The stream has the same text, tokens and figures, in pieces.
    let streamed = server.post(
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
    let whole = server.complete(with(json!({"prompt": "Once upon a time", "echo": true})));
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
    let cut = server.complete(
        json!({"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0, "stop": "."}),
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    assert!(!cut["choices"][0]["text"].as_str().unwrap().contains('.'));
    let listed = server.get("/v1/models");
    assert_eq!(listed["data"][0]["id"], engine.name());
    // The end token has an entry although it has no text: a client that asked for one token beyond the prompt expects
    // one more entry.
    let (ended, mut body) = (0..50)
        .map(|seed| {
            let body = json!({"prompt": "Once upon a time", "max_tokens": 400,
                "temperature": 1.0, "seed": seed, "logprobs": 1});
            (server.complete(body.clone()), body)
        })
        .find(|(reply, _)| reply["choices"][0]["finish_reason"] == "stop")
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
    // Text that is held back until the end, because a stop text begins like it, adds no token.
    let text = choice["text"].as_str().unwrap();
    let last = text.chars().last().unwrap();
    body["stop"] = format!("{last}{last}{last}").into();
    let held = server.complete(body.clone());
    assert_eq!(held["choices"], ended["choices"]);
    assert_eq!(held["usage"], ended["usage"]);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let streamed = server.post("/v1/completions", &body).text();
    let events = streamed
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok());
    let (mut found, mut count, mut usage) = (String::new(), 0, Value::Null);
    for event in events {
        usage = event["usage"].clone();
        let choice = &event["choices"][0];
        found += choice["text"].as_str().unwrap_or_default();
        count += choice["logprobs"]["tokens"].as_array().map_or(0, Vec::len);
    }
    assert_eq!((&*found, count, &usage), (text, made + 1, &ended["usage"]));
}

#[test]
fn concurrent_completions_of_a_transformer_are_those_of_each_alone() {
    let server = TestServer::start(&["--parallel", "6"]);
    let complete = |seed: u64| {
        server.complete(json!({
            "model": "stories260K", "prompt": &"Once upon a time, there was"[..4 + seed as usize], "max_tokens": 40,
            "seed": seed, "temperature": 0.7, "top_p": 1, "ignore_eos": true, "logprobs": 3,
        }))["choices"]
            .clone()
    };
    let alone: Vec<Value> = (0..12).map(complete).collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|seed| scope.spawn(move || complete(seed)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(together, alone);
}
