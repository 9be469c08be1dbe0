//! Dialogues from an OpenAI-compatible endpoint.

use super::*;

#[test]
fn a_busy_endpoint_is_retried() {
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
fn requests_keep_to_the_limit_per_minute() {
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

/// The published script's requests share one header, so that one may be sent with another's key.
#[test]
fn concurrent_runs_use_their_own_keys() {
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
