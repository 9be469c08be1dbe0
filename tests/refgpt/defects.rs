//! Known defects of the published script, each with a test.

use super::*;

/// The published script compares the whole text with the cut one that it wrote, so that next to nothing is ever resumed.
#[test]
fn resuming_keeps_complete_records_of_a_truncated_file() {
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
fn a_sentence_may_end_in_a_number() {
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
    // The score shows what does not come from the reference.
    let numbers = turns(&told[0]).last().unwrap()["grounding"]["numbers"]
        .as_f64()
        .unwrap();
    assert_eq!(numbers, 0.0);
}

/// The published script joins the references after its loop over the files: only the last file's are used.
#[test]
fn every_reference_file_is_used() {
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
fn rounds_speakers_lengths_and_grounding_are_checked() {
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
            // Words that are in no reference.
            3 => {
                let text: Vec<String> = right
                    .split_inclusive(' ')
                    .map(|word| {
                        if word.contains('<') || word.contains('>') {
                            word.to_string()
                        } else {
                            "xyzzy ".to_string()
                        }
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
fn random_choices_are_recorded() {
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
