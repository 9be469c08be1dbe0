//! The fields of a completion request: what is refused, and what has which effect.

use serde_json::{Value, json};

use crate::server::TestServer;
use crate::support::cases;

/// A completion of "Once upon a time" with more fields.
fn body(fields: &Value) -> Value {
    let mut body = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 8});
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[test]
fn an_invalid_field_is_named_with_what_it_may_be() {
    let server = TestServer::start(&[]);
    let prompt = "a list of token ids";
    let table = [
        (json!({"prompt": null}), "prompt", prompt),
        (json!({"prompt": 5}), "prompt", prompt),
        (json!({"prompt": true}), "prompt", prompt),
        (json!({"prompt": {}}), "prompt", prompt),
        (json!({"prompt": [-1]}), "prompt", prompt),
        (json!({"prompt": [1.5]}), "prompt", prompt),
        (json!({"prompt": [4294967296u64]}), "prompt", prompt),
        (json!({"prompt": [[]]}), "prompt", "empty"),
        (json!({"prompt": [[1], []]}), "prompt", "empty"),
        (json!({"prompt": []}), "prompt", "empty"),
        (json!({"prompt": ""}), "prompt", "empty"),
        (json!({"prompt": [[["a"]]]}), "prompt", prompt),
        (json!({"prompt": ["a", 1]}), "prompt", "different kinds"),
        (json!({"prompt": [null]}), "prompt", prompt),
        (json!({"prompt": [999999999]}), "prompt", "vocabulary"),
        (json!({"model": 5}), "model", "served model"),
        (json!({"max_tokens": "5"}), "max_tokens", "whole number"),
        (json!({"max_tokens": -1}), "max_tokens", "whole number"),
        (json!({"max_tokens": 1.5}), "max_tokens", "whole number"),
        (
            json!({"max_tokens": 1000000}),
            "max_tokens",
            "limit of 1024",
        ),
        (
            json!({"temperature": "hot"}),
            "temperature",
            "number from 0",
        ),
        (json!({"temperature": -1}), "temperature", "number from 0"),
        (json!({"temperature": 1e39}), "temperature", "number from 0"),
        (json!({"top_p": 1.1}), "top_p", "0 to 1"),
        (json!({"top_p": []}), "top_p", "0 to 1"),
        (json!({"top_k": -1}), "top_k", "whole number"),
        (json!({"min_p": 2}), "min_p", "0 to 1"),
        (
            json!({"repetition_penalty": 0}),
            "repetition_penalty",
            "above 0",
        ),
        (
            json!({"presence_penalty": 2.5}),
            "presence_penalty",
            "-2 to 2",
        ),
        (
            json!({"frequency_penalty": "a"}),
            "frequency_penalty",
            "-2 to 2",
        ),
        (json!({"logit_bias": [1]}), "logit_bias", "-100 to 100"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias", "token id"),
        (json!({"logit_bias": {"999999": 1}}), "logit_bias", "999999"),
        (json!({"logit_bias": {"-1": 1}}), "logit_bias", "token id"),
        (json!({"logit_bias": {"5": 101}}), "logit_bias", "token 5"),
        (
            json!({"logit_bias": {"5": "1"}}),
            "logit_bias",
            "-100 to 100",
        ),
        (json!({"n": 0}), "n", "from 1"),
        (json!({"n": 100000}), "n", "256"),
        (json!({"n": 2, "best_of": 1}), "best_of", "from n"),
        (json!({"best_of": 2, "stream": true}), "best_of", "stream"),
        (json!({"stream": "yes"}), "stream", "true or false"),
        (
            json!({"stream_options": 1}),
            "stream_options",
            "include_usage",
        ),
        (
            json!({"stream_options": {"include_usage": 1}}),
            "stream_options",
            "include_usage",
        ),
        (json!({"logprobs": true}), "logprobs", "0 to 100"),
        (json!({"logprobs": 101}), "logprobs", "0 to 100"),
        (json!({"echo": 1}), "echo", "true or false"),
        (json!({"stop": 5}), "stop", "list of at most 16"),
        (json!({"stop": ["a", 5]}), "stop", "list of at most 16"),
        (json!({"stop": vec!["a"; 17]}), "stop", "at most 16"),
        (json!({"seed": "a"}), "seed", "whole number"),
        (json!({"suffix": "b"}), "suffix", "not supported"),
        (json!({"ignore_eos": 0}), "ignore_eos", "true or false"),
    ];
    cases(table, |(fields, name, words)| {
        let reply = server.post("/v1/completions", &body(fields));
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["param"]),
            (400, &json!(name)),
            "{error}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(name) && message.contains(words),
            "{message}"
        );
        assert!(
            !message.contains("untagged") && message.len() < 500,
            "{message}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    });
    let missing = server.post("/v1/completions", &json!({})).json();
    assert_eq!(missing["error"]["param"], "prompt");
    // The value is shown, but not all of a long one.
    let long = json!({"temperature": "x".repeat(1 << 20)});
    assert!(server.post("/v1/completions", &body(&long)).body.len() < 1000);
    let other = server.post("/v1/completions", &body(&json!({"model": "other"})));
    let error = &other.json()["error"];
    assert_eq!(
        (other.status, &error["code"]),
        (404, &json!("model_not_found"))
    );
}

#[test]
fn models_are_described_one_by_one() {
    let server = TestServer::start(&[]);
    let listed = server.get("/v1/models");
    for model in listed["data"].as_array().unwrap() {
        let id = model["id"].as_str().unwrap();
        assert_eq!(&server.get(&format!("/v1/models/{id}")), model);
    }
    let absent = server.send("GET", "/v1/models/a%20b/c", "", "");
    let error = &absent.json()["error"];
    assert_eq!(
        (absent.status, &error["code"]),
        (404, &json!("model_not_found"))
    );
    assert!(
        error["message"].as_str().unwrap().contains("\"a b/c\""),
        "{error}"
    );
}

#[test]
fn fields_at_their_defaults_change_nothing() {
    let server = TestServer::start(&[]);
    for model in ["english", "stories260K"] {
        let text = |fields: Value| {
            let mut body = body(&fields);
            body["model"] = model.into();
            let reply = server.complete(body);
            let text = reply["choices"][0]["text"].as_str().unwrap().to_string();
            (text, reply["choices"][0]["finish_reason"].clone())
        };
        let expected = text(json!({}));
        assert_eq!(expected.1, "length");
        let table = [
            json!({"temperature": 2, "top_p": 0, "seed": 3}),
            json!({"temperature": 2, "top_p": 0, "seed": -4}),
            json!({"temperature": 1.5, "top_k": 1}),
            json!({"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}}),
            json!({"presence_penalty": null, "logit_bias": null, "seed": null, "user": null}),
            json!({"stop": ""}),
            json!({"stop": []}),
            json!({"stop": null}),
            json!({"stop": ["", "never found"]}),
            json!({"n": 1, "best_of": 1, "suffix": "", "echo": false}),
            json!({"user": "someone", "unknown": {"a": [1]}}),
            json!({"logprobs": 0}),
            json!({"stream_options": {"include_usage": null}}),
        ];
        cases(table, |fields| assert_eq!(text(fields.clone()), expected));
        assert_eq!(
            text(json!({"max_tokens": 0})),
            (String::new(), json!("length"))
        );
    }
}

#[test]
fn penalties_and_biases_change_the_choice() {
    let server = TestServer::start(&[]);
    for model in ["english", "stories260K"] {
        let tokens = |fields: Value| -> Vec<String> {
            let mut body = body(&fields);
            body["model"] = model.into();
            body["max_tokens"] = 40.into();
            body["ignore_eos"] = true.into();
            body["logprobs"] = 0.into();
            let reply = server.complete(body);
            let tokens = reply["choices"][0]["logprobs"]["tokens"]
                .as_array()
                .unwrap();
            tokens
                .iter()
                .map(|token| token.as_str().unwrap().into())
                .collect()
        };
        let distinct = |tokens: &[String]| {
            tokens
                .iter()
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        let plain = tokens(json!({}));
        let penalised = tokens(json!({"presence_penalty": 2, "frequency_penalty": 2}));
        assert!(
            distinct(&penalised) > distinct(&plain),
            "{model}: {plain:?} {penalised:?}"
        );
        // The prompt is not penalised: the first token stays.
        assert_eq!(penalised[0], plain[0], "{model}");
        let favoured = tokens(json!({"frequency_penalty": -2, "presence_penalty": -2}));
        assert!(
            distinct(&favoured) < distinct(&plain),
            "{model}: {favoured:?}"
        );
        // A bias of 100 makes a token the only one, -100 excludes it.
        let only = tokens(json!({"logit_bias": {"300": 100}}));
        assert_eq!(distinct(&only), 1, "{model}: {only:?}");
        let never = tokens(json!({"logit_bias": {"300": -100}, "temperature": 2, "seed": 1}));
        assert!(!never.contains(&only[0]), "{model}: {never:?}");
    }
}

#[test]
fn the_best_of_several_draws_are_the_most_probable() {
    let server = TestServer::start(&[]);
    let fields = |more: Value| {
        let mut fields = json!({"temperature": 1, "seed": 7, "logprobs": 0, "ignore_eos": true});
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body(&fields)
    };
    let ln = |choice: &Value| -> f64 {
        let values = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        values.iter().filter_map(Value::as_f64).sum()
    };
    let all = server.complete(fields(json!({"n": 6})));
    let mut drawn: Vec<Value> = all["choices"].as_array().unwrap().clone();
    drawn.sort_by(|a, b| ln(b).total_cmp(&ln(a)));
    let best = server.complete(fields(json!({"n": 2, "best_of": 6})));
    let best_choices = best["choices"].as_array().unwrap();
    assert_eq!(best_choices.len(), 2);
    for (index, choice) in best_choices.iter().enumerate() {
        assert_eq!(
            (&choice["text"], &choice["index"]),
            (&drawn[index]["text"], &json!(index))
        );
    }
    assert_eq!(best["usage"], all["usage"]);
}

#[test]
fn the_finish_reason_is_that_of_the_end() {
    let server = TestServer::start(&[]);
    let plain = server.complete(body(&json!({"logprobs": 0})));
    let third = &plain["choices"][0]["logprobs"]["tokens"][2];
    let long = "Once upon a time there was a dog. ".repeat(20);
    let table = [
        (json!({"max_tokens": 3}), "length"),
        (json!({"max_tokens": 0}), "length"),
        (json!({"max_tokens": 60, "stop": "."}), "stop"),
        // The last token that is allowed completes the stop text.
        (json!({"max_tokens": 3, "stop": [third]}), "stop"),
        // The model's context is full.
        (
            json!({"model": "stories260K", "prompt": long, "max_tokens": 600, "ignore_eos": true}),
            "length",
        ),
    ];
    cases(table, |(fields, reason)| {
        let reply = server.complete(body(fields));
        assert_eq!(reply["choices"][0]["finish_reason"], *reason, "{reply}");
    });
}
