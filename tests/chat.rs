//! Chat templates against Hugging Face's, and `brillm chat`.
#![cfg(all(feature = "cli", feature = "transformer"))]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use brillm::text::Message;
use brillm::transformer::ChatTemplate;
use brillm::{Engine, ErrorKind};
use serde_json::{Map, Value, json};
use support::{brillm, chat_model, error_of, fails, stdout_of, text_of};

fn conversation(messages: &[(&str, &str)]) -> Vec<Message> {
    let messages = messages.iter();
    messages
        .map(|(role, text)| Message::new(*role, *text))
        .collect()
}

#[test]
fn templates_are_rendered_as_by_hugging_face() {
    let path = support::root().join("tests/golden/chat/templates.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut wrong, mut refused) = (Vec::new(), 0);
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = golden["templates"][name].as_str().unwrap();
        let tokens = golden["tokens"].as_object().unwrap().clone();
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let found = ChatTemplate::new(source, tokens).render(&messages);
        let what = format!("{name}, {}", case["conversation"]);
        match (&found, case["text"].as_str()) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(error), None) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Input, "{what}: {error}");
                let message = case["error"].as_str().unwrap();
                assert!(error.to_string().contains(message), "{what}: {error}");
            }
            _ => wrong.push(format!("{what}: {found:?}, expected {}", case["text"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 0 && refused < cases.len());
}

#[test]
fn templates_that_cannot_be_rendered_are_described() {
    let loops = "{% set ns = namespace(x='a') %}{% for i in range(9999) %}{% for j in range(9999) %}{% set ns.x = ns.x ~ ns.x %}\
                 {% endfor %}{% endfor %}";
    let cases = [
        ("{% if %}", ErrorKind::Format, "chat_template, line 1: "),
        (
            "a\n{{ messages[0].content.swapcase() }}",
            ErrorKind::Format,
            "line 2",
        ),
        ("{{ 1 | no_filter }}", ErrorKind::Format, "unknown filter"),
        (
            "{{ strftime_now('%') }}",
            ErrorKind::Format,
            "cannot be rendered",
        ),
        ("{% include 'secret' %}", ErrorKind::Format, "line 1"),
        (loops, ErrorKind::Resource, "more than"),
        (
            "{{ [1] | tojson(separators=['12345678901234567', ':']) }}",
            ErrorKind::Format,
            "at most 16 bytes",
        ),
        (
            "{{ [1] | tojson(separators=[',']) }}",
            ErrorKind::Format,
            "two texts",
        ),
    ];
    for (source, kind, part) in cases {
        let template = ChatTemplate::new(source, Map::new());
        let error = template
            .render(&conversation(&[("user", "a")]))
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{source}: {error}");
        assert!(error.to_string().contains(part), "{source}: {error}");
        assert!(error.parts().advice.is_some(), "{source}: {error}");
    }
}

#[test]
fn dates_are_written_for_templates() {
    let template = ChatTemplate::new("{{ strftime_now('%d %B %Y') }}", Map::new());
    let date = template.render(&conversation(&[("user", "a")])).unwrap();
    let parts: Vec<&str> = date.split(' ').collect();
    assert!(
        matches!(parts[..], [day, _, year] if day.len() == 2 && year.starts_with("20")),
        "{date}"
    );
}

#[test]
fn the_template_of_a_folder_is_found_in_each_layout() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let jinja = model.join("chat_template.jinja");
    let ids = |text: &str| {
        Engine::open(&model, Default::default())
            .unwrap()
            .encode(text)
            .unwrap()
    };
    // The text of the template is encoded without the tokens that enclose other texts.
    let expected = |text: &str| ids(text)[1..].to_vec();
    let prompt = || {
        let engine = brillm::open(&model).unwrap();
        engine.chat_prompt(&conversation(&[("user", "Hello")]))
    };
    assert_eq!(prompt().unwrap(), expected("user: Hello\nassistant: Once"));
    let named =
        |name: &str| json!({"name": name, "template": format!("{name} {{{{ eos_token }}}}")});
    let cases = [
        (
            json!({"chat_template": "{{ messages[0].content }}!"}),
            Some("Hello!"),
        ),
        (
            json!({"chat_template": [named("tool_use"), named("default")], "eos_token": {"content": "E"}}),
            Some("default E"),
        ),
        (
            json!({"chat_template": {"default": "{{ bos_token }}."}, "bos_token": "B"}),
            Some("B."),
        ),
        (json!({"chat_template": [named("tool_use")]}), None),
        (json!({"chat_template": null}), None),
        (json!({}), None),
    ];
    for (settings, text) in cases {
        std::fs::write(model.join("tokenizer_config.json"), settings.to_string()).unwrap();
        // The file of the template alone has priority.
        std::fs::write(&jinja, "file").unwrap();
        assert_eq!(prompt().unwrap(), expected("file"), "{settings}");
        std::fs::remove_file(&jinja).unwrap();
        match text {
            Some(text) => assert_eq!(prompt().unwrap(), expected(text), "{settings}"),
            None => assert_eq!(
                prompt().unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{settings}"
            ),
        }
    }
}

#[test]
fn models_without_a_template_are_refused() {
    for model in ["models/english.bril", "models/stories260K"] {
        let error = fails(&["chat", "--model", model]);
        assert!(error.contains("no chat template"), "{error}");
        assert!(error.contains("use a chat model"), "{error}");
    }
    let engine = brillm::open("models/stories260K").unwrap();
    let error = engine.chat_prompt(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
}

/// Run `brillm chat` with an input.
fn chat(model: &Path, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut child = brillm(&["chat", "--temperature", "0", "--tokens", "6", "--model"])
        .arg(model)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ended early does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    child.wait_with_output().unwrap()
}

fn answers(model: &Path, arguments: &[&str], input: &str) -> Vec<Value> {
    let arguments = [arguments, &["--json"]].concat();
    let text = stdout_of(&chat(model, &arguments, input), input);
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_conversation_remembers_its_messages_until_it_is_reset() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let engine = brillm::open(&model).unwrap();
    let length =
        |messages: &[(&str, &str)]| engine.chat_prompt(&conversation(messages)).unwrap().len();
    let system = ["--system", "Be kind."];
    let found = answers(
        &model,
        &system,
        "Hello\r\n\n  \nAnd you?\n/reset\nHello\n/exit\nnot read\n",
    );
    assert_eq!(found.len(), 3, "{found:?}");
    let first = found[0]["content"].as_str().unwrap();
    let begin = [("system", "Be kind."), ("user", "Hello")];
    let longer = [&begin[..], &[("assistant", first), ("user", "And you?")]].concat();
    assert_eq!(found[0]["prompt_tokens"], length(&begin));
    assert_eq!(found[1]["prompt_tokens"], length(&longer));
    // The same conversation has the same answer.
    for field in [
        "content",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
    ] {
        assert_eq!(found[2][field], found[0][field], "{field}");
    }
    // The second answer continues where the conversations differ (the template ends a prompt with a word that an answer does
    // not begin with); the third knows its prompt.
    let prompt = |messages: &[(&str, &str)]| engine.chat_prompt(&conversation(messages)).unwrap();
    let (read, longer) = (prompt(&begin), prompt(&longer));
    let common = read.iter().zip(&longer).take_while(|(a, b)| a == b).count();
    assert!(common > read.len() / 2);
    assert_eq!(found[0]["cached_tokens"], 0);
    assert_eq!(found[1]["cached_tokens"], common);
    assert_eq!(found[2]["cached_tokens"], length(&begin) - 1);
    assert!(
        found
            .iter()
            .all(|answer| answer["first_token_seconds"].as_f64().unwrap() > 0.0)
    );
    let whole = answers(
        &model,
        &[&system[..], &["--prefix-cache", "0"]].concat(),
        "Hello\nAnd you?\n",
    );
    for (found, expected) in found.iter().zip(&whole) {
        assert_eq!(expected["cached_tokens"], 0);
        assert_eq!(found["content"], expected["content"]);
    }
    assert_eq!(found[0]["finish_reason"], "length");
    assert_eq!(found[0]["completion_tokens"], 6);
    // The same text is streamed, the last line without an end.
    let text = stdout_of(&chat(&model, &system, "Hello"), "text");
    assert_eq!(text, format!("{first}\n"));
    assert_eq!(stdout_of(&chat(&model, &[], ""), "empty"), "");
}

#[test]
fn messages_that_are_no_commands_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let output = chat(&model, &["--json"], "/nope\n/help\n/etc/passwd\n/a b\n");
    assert_eq!(stdout_of(&output, "commands").lines().count(), 2);
    let errors = text_of(&output.stderr);
    assert!(
        errors.contains("/nope is not a command: /reset begins"),
        "{errors}"
    );
    let stopped = answers(&model, &["--stop", "e"], "Hello");
    assert_eq!(stopped[0]["finish_reason"], "stop_text");
}

#[test]
fn errors_end_a_conversation_that_is_not_in_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    std::fs::write(
        model.join("chat_template.jinja"),
        "{{ raise_exception('No.') }}",
    )
    .unwrap();
    let error = error_of(&chat(&model, &[], "Hello\nHello\n"), "refused");
    assert!(error.contains("refuses the conversation: No."), "{error}");
    std::fs::write(model.join("chat_template.jinja"), "{{ '' }}").unwrap();
    let error = error_of(&chat(&model, &[], "Hello\n"), "empty");
    assert!(error.contains("empty prompt"), "{error}");
    let error = error_of(&chat(&model, &[], b"caf\xe9\n"), "not UTF-8");
    assert!(error.contains("not UTF-8"), "{error}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let model = chat_model(folder.path());
    let mut child = brillm(&["chat", "--tokens", "1000000", "--model"])
        .arg(&model)
        .args(["--repetition-penalty", "1.3", "--banned", "1,2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        writeln!(input, "Hello").unwrap();
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        let interrupt = format!("kill -INT {}", child.id());
        let sent = std::process::Command::new("sh")
            .args(["-c", &interrupt])
            .status();
        assert!(sent.unwrap().success());
        // The rest of the answer ends with its line; story text may have lines of its own.
        let mut line = Vec::new();
        output.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\n"));
    }
    drop(input);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
