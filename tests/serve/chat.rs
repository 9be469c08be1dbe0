//! `/v1/chat/completions`.

use std::process::Command;

use brillm::path::Sampling;
use brillm::text::Message;
use serde_json::{Value, json};

use crate::server::TestServer;
use crate::support::chat_model;

const PATH: &str = "/v1/chat/completions";

/// Start a server with a chat model and a graph.
fn server() -> (TestServer, brillm::Engine) {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let engine = brillm::open(&model).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_brillm"));
    command.args([
        "serve",
        "--port",
        "0",
        "--max-tokens",
        "40",
        "--max-prompt",
        "300",
        "--model",
    ]);
    command
        .arg(&model)
        .arg("--model")
        .arg(crate::server::model("english.bril"));
    command.arg("--library").arg(folder.path().join("traces"));
    (TestServer::of(command, folder), engine)
}

fn chat(server: &TestServer, body: &Value) -> Value {
    let reply = server.post(PATH, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// The data of a stream's events, without the last, `[DONE]`.
fn stream(server: &TestServer, mut body: Value) -> Vec<Value> {
    body["stream"] = true.into();
    let reply = server.post(PATH, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    let data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let (last, events) = data.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect()
}

#[test]
fn messages_are_answered_in_the_shape_of_openai() {
    let (server, engine) = server();
    let messages = json!([
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
    ]);
    let body = json!({"model": "chat", "messages": messages, "temperature": 0, "max_completion_tokens": 12,
        "max_tokens": 3, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "user": "x"});
    let found = chat(&server, &body);
    let conversation = [
        Message::new("system", "Be kind."),
        Message::new("user", "Hello"),
    ];
    let prompt = engine.chat_prompt(&conversation).unwrap();
    let request = brillm::Request::ids(prompt.clone())
        .tokens(12)
        .sampling(Sampling::greedy());
    let (text, ids) = engine.start(request).unwrap().collect_text().unwrap();
    assert_eq!(found["object"], "chat.completion");
    assert!(found["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(
        found["choices"],
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "length",
        }])
    );
    assert_eq!(
        found["usage"],
        json!({"prompt_tokens": prompt.len(), "completion_tokens": ids.len(),
        "total_tokens": prompt.len() + ids.len(), "prompt_tokens_details": {"cached_tokens": 0}})
    );

    // The same answer as a stream.
    let mut streamed = body.clone();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = stream(&server, streamed);
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk")
    );
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let deltas = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    let [.., end, usage] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(end["choices"][0]["delta"], json!({}));
    assert_eq!(end["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["choices"], json!([]));
    // All of the prompt but its last token was known.
    let mut expected = found["usage"].clone();
    expected["prompt_tokens_details"]["cached_tokens"] = (prompt.len() - 1).into();
    assert_eq!(usage["usage"], expected);

    // Without a limit, the server's; a stop text is not part of the answer.
    let begin: String = text.chars().take(6).collect();
    let stop = text[begin.len()..].chars().next().unwrap().to_string();
    let found = chat(
        &server,
        &json!({"messages": messages, "temperature": 0, "stop": stop}),
    );
    let choice = &found["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert!(
        !choice["message"]["content"]
            .as_str()
            .unwrap()
            .contains(&stop)
    );
    let found = chat(
        &server,
        &json!({"messages": messages, "seed": 1, "ignore_eos": true, "n": 2}),
    );
    assert_eq!(found["choices"].as_array().unwrap().len(), 2);
    assert_eq!(found["usage"]["completion_tokens"], 80);
}

#[test]
fn log_probabilities_of_a_chat_have_its_shape() {
    let (server, _) = server();
    let body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5,
        "logprobs": true, "top_logprobs": 2, "temperature": 0});
    let found = chat(&server, &body);
    let choice = &found["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    let mut text = Vec::new();
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (2, &token["token"]));
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        let bytes = token["bytes"].as_array().unwrap();
        text.extend(bytes.iter().map(|byte| byte.as_u64().unwrap() as u8));
    }
    assert_eq!(
        String::from_utf8(text).unwrap(),
        choice["message"]["content"]
    );
    // Clients send 0 where they want none.
    let none = json!({"messages": body["messages"], "max_tokens": 1, "top_logprobs": 0});
    assert_eq!(chat(&server, &none)["choices"][0]["logprobs"], Value::Null);
    let events = stream(&server, body);
    let streamed = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    let streamed: Vec<Value> = streamed.flatten().cloned().collect();
    assert_eq!(streamed.len(), tokens.len());
    for (streamed, token) in streamed.iter().zip(tokens) {
        let logprob = |token: &Value| token["logprob"].as_f64().unwrap();
        assert_eq!(streamed["token"], token["token"]);
        // The second request continues what the first computed: the same but for rounding.
        assert!((logprob(streamed) - logprob(token)).abs() < 1e-5);
    }
}

#[test]
fn a_conversation_continues_where_the_last_answer_ended() {
    let (server, engine) = server();
    let cached = |found: &Value| {
        let details = &found["usage"]["prompt_tokens_details"];
        details["cached_tokens"].as_u64().unwrap() as usize
    };
    let first = json!([{"role": "user", "content": "Tell me of a girl and her dog in the park."}]);
    let ask = |messages: &Value, seed: u64| {
        chat(
            &server,
            &json!({"messages": messages, "max_tokens": 16, "seed": seed, "n": 2,
            "temperature": 0.9, "top_p": 0.8}),
        )
    };
    let found = ask(&first, 1);
    // The second choice knows the prompt, which is counted as the first reads it.
    assert_eq!(cached(&found), 0);
    let answer = found["choices"][1]["message"].clone();
    let next = json!([first[0], {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": "And then?"}]);
    let found = ask(&next, 2);
    let prompt = |messages: &Value| {
        let messages: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        engine.chat_prompt(&messages).unwrap()
    };
    let (read, longer) = (prompt(&first), prompt(&next));
    let common = read.iter().zip(&longer).take_while(|(a, b)| a == b);
    assert_eq!(cached(&found), common.count());
    // The same text as a session of its own draws.
    for (index, choice) in found["choices"].as_array().unwrap().iter().enumerate() {
        let request = brillm::Request::ids(longer.clone()).tokens(16).sampling(
            Sampling::default()
                .temperature(0.9)
                .top_p(0.8)
                .seed(2 + index as u64),
        );
        let (text, _) = engine.start(request).unwrap().collect_text().unwrap();
        assert_eq!(choice["message"]["content"], text);
    }
    let metrics = server.send("GET", "/metrics", "", "").text();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("brillm_cached_tokens_total"));
    let total: usize = line.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(total > cached(&found));
}

#[test]
fn chats_that_cannot_be_answered_are_refused() {
    let (server, _) = server();
    let user = json!([{"role": "user", "content": "Hello"}]);
    let long = json!([{"role": "user", "content": "Hello ".repeat(400)}]);
    let message = |message: Value| json!({"messages": [message]});
    let cases = [
        (json!({}), 400, "messages", "it is missing"),
        (
            json!({"messages": []}),
            400,
            "messages",
            "at least one message",
        ),
        (
            json!({"messages": "Hello"}),
            400,
            "messages",
            "expected a list",
        ),
        (
            json!({"messages": long}),
            400,
            "messages",
            "more than this server's limit of 300",
        ),
        (
            message(json!({"role": "user"})),
            400,
            "messages",
            "no content at messages[0]",
        ),
        (message(json!({"content": "a"})), 400, "messages", "role"),
        (
            message(json!({"role": "tool", "content": "a"})),
            400,
            "messages",
            "the role \"tool\"",
        ),
        (
            message(json!({"role": "user", "content": 5})),
            400,
            "messages",
            "the content 5",
        ),
        (
            message(json!({"role": "assistant", "content": "a"})),
            400,
            "messages",
            "the user speaks first",
        ),
        (
            message(json!({"role": "assistant", "content": "a", "tool_calls": [{}]})),
            400,
            "messages",
            "not supported",
        ),
        (
            message(
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
            ),
            400,
            "messages",
            "a part of type \"image_url\"",
        ),
        (
            json!({"messages": user, "tools": [{"type": "function"}]}),
            400,
            "tools",
            "tools are not supported",
        ),
        (
            json!({"messages": user, "tool_choice": "required"}),
            400,
            "tool_choice",
            "not supported",
        ),
        (
            json!({"messages": user, "functions": [{}]}),
            400,
            "functions",
            "not supported",
        ),
        (
            json!({"messages": user, "response_format": {"type": "json_object"}}),
            400,
            "response_format",
            "text",
        ),
        (
            json!({"messages": user, "modalities": ["text", "audio"]}),
            400,
            "modalities",
            "audio",
        ),
        (
            json!({"messages": user, "audio": {"voice": "x"}}),
            400,
            "audio",
            "not supported",
        ),
        (
            json!({"messages": user, "top_logprobs": 3}),
            400,
            "top_logprobs",
            "with logprobs set to true",
        ),
        (
            json!({"messages": user, "logprobs": 3}),
            400,
            "logprobs",
            "true or false",
        ),
        (
            json!({"messages": user, "max_completion_tokens": 41}),
            400,
            "max_completion_tokens",
            "limit of 40",
        ),
        (
            json!({"messages": user, "max_tokens": -1}),
            400,
            "max_tokens",
            "a whole number from 0",
        ),
        (json!({"messages": user, "n": 0}), 400, "n", "1 to 256"),
        (
            json!({"messages": user, "model": "none"}),
            404,
            "model",
            "is not served",
        ),
        (
            json!({"messages": user, "model": "english"}),
            422,
            "",
            "has no chat template",
        ),
    ];
    let mut wrong = Vec::new();
    for (body, status, param, part) in cases {
        let reply = server.post(PATH, &body);
        let error = reply.json()["error"].clone();
        let named = error["param"].as_str().unwrap_or_default();
        let message = error["message"].as_str().unwrap_or_default();
        if reply.status != status || named != param || !message.contains(part) {
            wrong.push(format!("{body}: {} {error}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
