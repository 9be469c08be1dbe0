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

mod support;
use support::{brillm, build_plugins, error_of, root, stdout_of};

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

/// The plan's own sizes are for articles: stories give nothing, and that is said once, with what to do.
#[test]
fn references_that_are_too_short_are_told() {
    let output = good(corpus("generator=extract", &[ENGLISH, "--no-model"]));
    assert!(output.stdout.is_empty());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("words of whole sentences").count(), 1);
    assert!(errors.contains("a smaller assistant-words="), "{errors}");
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

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
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
    let (status, headers, body) = match first.starts_with("POST /v1/chat/completions ") {
        true => answer(&asked, before),
        false => (404, "", first),
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

#[test]
fn it_passes_the_validator() {
    let report = |action| {
        support::json(&[
            "plugin",
            action,
            "refgpt",
            "--json",
            "--plugin-path",
            &PLUGINS,
        ])
    };
    let (checked, info) = (report("check"), report("info"));
    assert_eq!(checked["passed"], true, "{checked}");
    assert_eq!(info["hooks"], json!(["corpus/1"]));
}

#[test]
fn real_texts_of_both_languages_become_dialogues_without_a_model() {
    for (path, language, options) in [
        (ENGLISH, "en", SHORT.to_string()),
        (CHINESE, "zh", SHORT.replace("words=40", "words=80")),
    ] {
        let run = |seed| {
            let arguments = [path, "--no-model", "--seed", seed];
            good(corpus(&format!("{options},dialogues=3"), &arguments)).stdout
        };
        let told = run("1");
        assert_eq!(told, run("1"));
        assert_ne!(told, run("2"));
        let told = lines(&told);
        let least = if language == "en" { 34 } else { 14 };
        assert!(told.len() >= least, "{language}: {}", told.len());
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sources: Vec<String> = fixture(path).iter().map(|text| squeeze(text)).collect();
        let mut keys = HashSet::new();
        for record in &told {
            assert!(keys.insert(record["key"].as_str().unwrap()));
            assert_eq!(
                (&record["language"], &record["type"]),
                (&json!(language), &json!("fact"))
            );
            let place: usize = record["reference_id"].as_str().unwrap().parse().unwrap();
            let source = &sources[place];
            let cut = record["reference"].as_str().unwrap();
            assert!(source.starts_with(&squeeze(cut)), "{cut}");
            let counts = record["word_counts"]["assistant"].as_array().unwrap();
            let budget: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
            let length = match language {
                "en" => cut.split_whitespace().count(),
                _ => cut
                    .chars()
                    .filter(|letter| letter.is_alphanumeric())
                    .count(),
            } as u64;
            assert!(
                5 * length >= 4 * budget && length <= budget,
                "{length} of {budget}"
            );
            assert_eq!(turns(record).len(), 2 * counts.len());
            for (place, turn) in turns(record).iter().enumerate() {
                assert_eq!(turn["speaker"], ["human", "assistant"][place % 2]);
                assert!(turn["words"].as_u64().unwrap() > 0);
                assert_eq!(turn["grounded_edges"], Value::Null);
            }
            for answer in answers(record) {
                assert!(
                    source.contains(&squeeze(answer["text"].as_str().unwrap())),
                    "{answer}"
                );
                assert_eq!(answer["grounding"]["overlap"], 1.0);
                assert_eq!(answer["grounding"]["numbers"], 1.0);
            }
        }
    }
}

#[test]
fn code_of_this_repository_is_discussed_written_and_mended() {
    let code = std::fs::read_to_string(root().join("plugins/bidirectional/measure.py")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("code.jsonl");
    std::fs::write(&path, json!({"text": code}).to_string() + "\n").unwrap();
    let path = path.display().to_string();
    for kind in ["code-discussion", "code-creation", "code-bug-fix"] {
        let options = format!("kind={kind},language=en,dialogues=4,rounds=1 0,assistant-words=150");
        let told = records(&options, &[&path, "--no-model"]);
        assert_eq!(told.len(), 4, "{kind}");
        for record in &told {
            assert_eq!(record["type"], kind);
            let cut = record["reference"].as_str().unwrap();
            assert!(code.starts_with(cut));
            let [question, answer] = [0, 1].map(|at| turns(record)[at]["text"].as_str().unwrap());
            let fenced = |text: &str| -> Vec<String> {
                let body = text
                    .split_once("```\n")
                    .unwrap()
                    .1
                    .strip_suffix("\n```")
                    .unwrap();
                body.lines().map(str::to_string).collect()
            };
            let right: Vec<&str> = cut.lines().collect();
            if kind == "code-bug-fix" {
                let shown = fenced(question);
                let wrong: Vec<usize> = (0..right.len())
                    .filter(|&at| right[at] != shown[at])
                    .collect();
                assert_eq!(wrong.len(), 1, "{question}");
                assert_eq!(fenced(answer), [right[wrong[0]]]);
            } else {
                assert_eq!(fenced(answer), right);
            }
        }
    }
}

#[test]
fn a_model_speaks_through_the_host_and_is_held_to_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "stories.jsonl", 0..5);
    let run = |model: &str, options: &str| {
        let options = format!("generator=turns,{SHORT},{options}");
        records(&options, &[&stories, "--model", model])
    };
    let attribution = |told: &[Value]| -> Vec<f64> {
        let answers = told.iter().flat_map(answers);
        answers
            .map(|turn| turn["grounded_edges"].as_f64().unwrap())
            .collect()
    };
    let overlap = |told: &[Value]| {
        mean(
            told.iter()
                .map(|record| record["grounding"].as_f64().unwrap()),
        )
    };
    let graph = "models/english.bril";
    let (free, biased, restricted) = (
        run(graph, "attempts=9"),
        run(graph, "attempts=9,gain=4"),
        run(graph, "attempts=9,restrict=true"),
    );
    for told in [&free, &biased, &restricted] {
        assert!(told.len() >= 4);
        for turn in told.iter().flat_map(turns) {
            for score in ["overlap", "sentences", "numbers"] {
                let score = turn["grounding"][score].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&score), "{turn}");
            }
        }
    }
    assert!(attribution(&restricted).iter().all(|&share| share == 1.0));
    let [low, high] = [&free, &biased].map(|told| mean(attribution(told).into_iter()));
    assert!(low < 0.3 && high > low + 0.3, "{low} {high}");
    assert!(overlap(&free) < overlap(&biased) && overlap(&biased) < overlap(&restricted));
    // The sub-graph of a reference holds a transformer's tokens as well.
    let stories = references(folder.path(), "three.jsonl", 0..3);
    let options = format!("generator=turns,{SHORT},restrict=true");
    let told = records(&options, &[&stories, "--model", "models/stories260K"]);
    assert!(!told.is_empty());
    assert!(attribution(&told).iter().all(|&share| share == 1.0));
}

#[test]
fn a_resumed_model_says_what_it_would_have_said() {
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "stories.jsonl", 0..3);
    let path = folder.path().join("out.jsonl");
    let out = path.display().to_string();
    let options = format!("generator=turns,dialogues=2,{SHORT}");
    let arguments = [&stories, "--model", "models/english.bril", "--out", &out];
    good(corpus(&options, &arguments));
    let whole = std::fs::read(&path).unwrap();
    assert!(lines(&whole).len() >= 4);
    // Interrupted within the third record.
    let ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
    std::fs::write(&path, &whole[..ends[1] + 50]).unwrap();
    let mut again = arguments.to_vec();
    again.push("--resume");
    good(corpus(&options, &again));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

/// The published script compares the whole text with the cut one that it wrote, so that next to nothing is ever resumed.
#[test]
fn defect_resume_knows_what_is_written_though_it_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "stories.jsonl", 0..6);
    let options = format!("generator=chat,{SHORT}");
    let run = |endpoint: &Endpoint, out: &Path, resume: bool| {
        let out = out.display().to_string();
        let mut arguments = vec![stories.as_str(), "--out", &out];
        arguments.extend(at(endpoint));
        if resume {
            arguments.push("--resume");
        }
        corpus(&options, &arguments)
    };
    let whole = folder.path().join("whole.jsonl");
    let willing = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    good(run(&willing, &whole, false));
    let whole = std::fs::read(&whole).unwrap();
    let told = lines(&whole);
    assert_eq!((told.len(), willing.asked().len()), (6, 6));
    for (record, story) in told.iter().zip(fixture(ENGLISH)) {
        assert!(record["reference"].as_str().unwrap().len() < story.len());
    }
    // The endpoint refuses after two.
    let part = folder.path().join("part.jsonl");
    let failing = Endpoint::start(|asked, before| match before {
        0 | 1 => said(&obedient(asked.prompt()), "stop"),
        _ => (401, "", "no such key".into()),
    });
    let errors = bad(run(&failing, &part, false));
    assert!(
        errors.contains("status 401") && errors.contains(KEY),
        "{errors}"
    );
    assert_eq!(lines(&std::fs::read(&part).unwrap()).len(), 2);
    let willing = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    good(run(&willing, &part, true));
    assert_eq!(willing.asked().len(), 4);
    assert_eq!(std::fs::read(&part).unwrap(), whole);
    // Once more: nothing is left.
    good(run(&willing, &part, true));
    assert_eq!(willing.asked().len(), 4);
    assert_eq!(std::fs::read(&part).unwrap(), whole);
}

/// The published script stops at "20.": any sentence that ends in a year of this century's twenties is cut and refused.
#[test]
fn defect_a_sentence_may_end_in_20() {
    let endpoint = Endpoint::start(|asked, _| {
        let text = obedient(asked.prompt()).replace("<end_chat>", " It was in 2020. <end_chat>");
        said(&text, "stop")
    });
    let folder = tempfile::tempdir().unwrap();
    let told = asked_for("", &references(folder.path(), "a.jsonl", 0..1), &endpoint);
    let asked = endpoint.asked();
    assert_eq!((told.len(), asked.len()), (1, 1));
    assert_eq!(asked[0].body.get("stop"), None);
    assert!(
        turns(&told[0]).last().unwrap()["text"]
            .as_str()
            .unwrap()
            .ends_with("in 2020.")
    );
    assert_eq!(told[0]["refused"], json!([]));
    // What is not the reference's is told by the score.
    let numbers = turns(&told[0]).last().unwrap()["grounding"]["numbers"]
        .as_f64()
        .unwrap();
    assert_eq!(numbers, 0.0);
}

/// The published script joins the references after its loop over the files: only the last file's are used.
#[test]
fn defect_every_file_of_references_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        references(folder.path(), "a.jsonl", 0..2),
        references(folder.path(), "b.jsonl", 2..3),
        references(folder.path(), "c.jsonl", 3..5),
    ];
    let arguments = [&files[0], &files[1], &files[2], "--no-model"];
    let told = records(SHORT, &arguments);
    let stories = fixture(ENGLISH);
    assert_eq!(told.len(), 5);
    for (record, story) in told.iter().zip(&stories) {
        let cut = record["reference"].as_str().unwrap();
        assert!(story.starts_with(cut.lines().next().unwrap()), "{cut}");
    }
}

/// The published script looks at the first and last mark alone.
#[test]
fn defect_rounds_speakers_words_and_grounding_are_checked() {
    let endpoint = Endpoint::start(|asked, before| {
        let right = obedient(asked.prompt());
        let rounds = planned(asked.prompt()).len();
        let answer = words(shown(asked.prompt()), planned(asked.prompt())[0].1);
        match before {
            // A round too few.
            0 => {
                let last = right.find(&format!("<Human {rounds}>")).unwrap();
                said(&format!("{}<end_chat>", &right[..last]), "stop")
            }
            // Speakers in the wrong order.
            1 => said(
                &right
                    .replace("<Human 1>", "<x>")
                    .replace("<Assistant 1>", "<Human 1>")
                    .replace("<x>", "<Assistant 1>"),
                "stop",
            ),
            // Too few words.
            2 => said(&right.replacen(&answer, "Yes.", rounds), "stop"),
            // Words that are no reference's.
            3 => {
                let text: Vec<String> = right
                    .split_inclusive(' ')
                    .map(|word| match word.contains('<') || word.contains('>') {
                        true => word.to_string(),
                        false => "xyzzy ".to_string(),
                    })
                    .collect();
                said(&text.concat(), "stop")
            }
            // No end, and one that the endpoint cut.
            4 => said(right.trim_end_matches("<end_chat>"), "stop"),
            5 => said(&right, "length"),
            _ => said(&right, "stop"),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let story = references(folder.path(), "a.jsonl", 0..1);
    let told = asked_for("attempts=7,least-grounding=0.8", &story, &endpoint);
    assert_eq!((told.len(), endpoint.asked().len()), (1, 7));
    let refused = told[0]["refused"].as_array().unwrap();
    let reasons = [
        "rounds, planned",
        "turn 1 is",
        "words, planned",
        "grounding",
        "end with",
        "cut",
    ];
    assert_eq!(refused.len(), reasons.len(), "{refused:?}");
    for (refused, reason) in refused.iter().zip(reasons) {
        assert!(
            refused.as_str().unwrap().contains(reason),
            "{refused}: {reason}"
        );
    }
    // Where no attempt is left there is no record.
    let deaf = Endpoint::start(|_, _| said("I would rather not.", "stop"));
    assert_eq!(asked_for("attempts=3", &story, &deaf).len(), 0);
    assert_eq!(deaf.asked().len(), 3);
}

/// The published script forgets the manners that it drew.
#[test]
fn defect_what_was_drawn_is_recorded() {
    let endpoint = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "a.jsonl", 0..4);
    let told = asked_for("dialogues=3", &stories, &endpoint);
    let asked = endpoint.asked();
    assert_eq!((told.len(), asked.len()), (12, 12));
    let mut drawn = HashSet::new();
    for (record, asked) in told.iter().zip(&asked) {
        assert_eq!(record["prompt"], asked.prompt());
        let plan = record["plan"].as_str().unwrap();
        assert!(asked.prompt().contains(plan));
        let styles = record["styles"].as_array().unwrap();
        assert_eq!(styles.len(), planned(asked.prompt()).len());
        for (line, manner) in plan
            .lines()
            .skip(1)
            .zip(styles.iter().flat_map(|pair| pair.as_array().unwrap()))
        {
            let manner = manner.as_str().unwrap();
            assert!(line.ends_with(manner), "{line}: {manner}");
            drawn.insert(manner.to_string());
        }
        assert!(record["seed"].is_u64());
    }
    assert!(drawn.len() >= 8, "{drawn:?}");
}

/// The published script's requests share one header, so that one may be sent with another's key.
#[test]
fn defect_runs_at_once_keep_their_own_keys() {
    let endpoint = Endpoint::start(|asked, _| {
        // Both are under way at once.
        std::thread::sleep(Duration::from_millis(20));
        said(&obedient(asked.prompt()), "stop")
    });
    let folder = tempfile::tempdir().unwrap();
    let stories = references(folder.path(), "a.jsonl", 0..6);
    let runs = ["first", "second"].map(|name| {
        let mut arguments = vec![stories.as_str(), "--endpoint-model", name];
        arguments.extend(at(&endpoint));
        let mut run = corpus(&format!("generator=chat,{SHORT}"), &arguments);
        run.env(KEY, format!("key-of-the-{name}"));
        std::thread::spawn(move || good(run).stdout)
    });
    for run in runs {
        let told = run.join().unwrap();
        assert_eq!(lines(&told).len(), 6);
        // No key reaches the plugin, and so none its records.
        assert!(!String::from_utf8_lossy(&told).contains("key-of-the"));
    }
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 12);
    for asked in asked {
        let name = asked.body["model"].as_str().unwrap();
        assert_eq!(asked.authorization, format!("Bearer key-of-the-{name}"));
        assert!(!asked.body.to_string().contains("key-of-the"));
    }
}

#[test]
fn a_busy_endpoint_is_asked_again() {
    let endpoint = Endpoint::start(|asked, before| match before {
        0 => (429, "retry-after: 0\r\n", String::new()),
        1 => (429, "", "Please retry after 0 seconds.".into()),
        2 => (503, "retry-after: 0\r\n", String::new()),
        _ => said(&obedient(asked.prompt()), "stop"),
    });
    let folder = tempfile::tempdir().unwrap();
    let story = references(folder.path(), "a.jsonl", 0..1);
    let told = asked_for("", &story, &endpoint);
    let asked = endpoint.asked();
    assert_eq!((told.len(), asked.len()), (1, 4));
    // The same is asked each time: what is tried again is the request, not the dialogue.
    assert!(asked.iter().all(|other| other.body == asked[0].body));
    assert_eq!(told[0]["refused"], json!([]));
    let body = &asked[0].body;
    assert_eq!((&body["n"], &body["top_p"]), (&json!(1), &json!(1)));
    assert_eq!(body["messages"][0]["role"], "system");
    assert!(asked[0].authorization.is_empty());
    // One that stays busy ends the run with a word on how to go on.
    let busy = Endpoint::start(|_, _| (429, "retry-after: 0\r\n", String::new()));
    let mut arguments = vec![story.as_str(), "--endpoint-attempts", "3"];
    arguments.extend(at(&busy));
    let errors = bad(corpus(&format!("generator=chat,{SHORT}"), &arguments));
    assert!(
        errors.contains("status 429 (3 attempts)") && errors.contains("--resume"),
        "{errors}"
    );
    assert_eq!(busy.asked().len(), 3);
}

/// A bucket of 120 requests, filled at two a second, lets the 124th through after two seconds at the earliest, however fast
/// the machine is.
#[test]
fn requests_keep_to_the_minute() {
    let endpoint = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    let folder = tempfile::tempdir().unwrap();
    let story = references(folder.path(), "a.jsonl", 0..1);
    let options = format!("generator=chat,dialogues=124,{SHORT}");
    let mut arguments = vec![story.as_str()];
    arguments.extend(at(&endpoint));
    let limit = arguments
        .iter()
        .position(|&argument| argument == "100000")
        .unwrap();
    arguments[limit] = "120";
    let begun = Instant::now();
    let told = records(&options, &arguments);
    let asked = endpoint.asked().len();
    assert_eq!(told.len(), asked);
    assert!(asked > 120, "{asked}");
    let least = (asked - 120) as f64 / 2.0;
    assert!(
        begun.elapsed().as_secs_f64() >= least,
        "{:?} {asked}",
        begun.elapsed()
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let path = PathBuf::from(ENGLISH).display().to_string();
    for (options, arguments, why) in [
        ("restrict=true", vec!["--no-model"], "steer a model"),
        ("gain=1", vec!["--no-model"], "steer a model"),
        ("rounds=0 0", vec!["--no-model"], "rounds"),
        ("rounds=a", vec!["--no-model"], "weight"),
        ("generator=turns", vec!["--no-model"], "no model"),
    ] {
        let mut all = vec![path.as_str()];
        all.extend(arguments);
        let options = match options.contains("rounds") {
            true => options.to_string(),
            false => format!("{options},{SHORT}"),
        };
        let errors = bad(corpus(&options, &all));
        assert!(errors.contains(why), "{options}: {errors}");
    }
    let endpoint = Endpoint::start(|asked, _| said(&obedient(asked.prompt()), "stop"));
    let mut all = vec![path.as_str()];
    all.extend(at(&endpoint));
    let errors = bad(corpus(
        &format!("generator=chat,restrict=true,{SHORT}"),
        &all,
    ));
    assert!(errors.contains("sub-graph"), "{errors}");
    assert!(endpoint.asked().is_empty());
}
