//! The log of a training run in its three formats, and its continuation by a resumed run.

use std::collections::BTreeMap;
use std::path::Path;

use brillm::ErrorKind;
use brillm::learn::log::{CSV_FILE, EVENT_FILE, JSON_FILE, Record, RunLog, Training, Validation};
use brillm::measure::Perplexity;

/// What a run writes down: ten steps, a validation after every fourth, times that depend on `clock`.
fn records(clock: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for step in 1..=10_u64 {
        let seconds = clock + step as f64 / 3.0;
        records.push(Record::Training(Training {
            step,
            tokens: 960 * step,
            loss: 8.0 / (step as f64).sqrt(),
            rate: 1e-3 / step as f64,
            gradient_norm: (step % 2 == 0).then_some(0.1 * step as f64),
            wall_tokens_per_second: 960.0 / seconds,
            wall_seconds: seconds,
            wall_time: 1.7e9 + seconds,
        }));
        if step % 4 == 0 {
            let mut measured = Perplexity::new(4000);
            measured.add_sum(5000.0 / step as f64, 1000);
            let mut validation = Validation::new(step, 960 * step, &measured, seconds);
            validation.wall_time = 1.7e9 + seconds;
            records.push(Record::Validation(validation));
        }
    }
    records
}

fn write(log: &mut RunLog, records: &[Record]) {
    for record in records {
        log.add(record).unwrap();
    }
}

/// The three files of a run as text, without what depends on the clock.
fn without_clock(folder: &Path) -> [String; 3] {
    let text = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    let json = text(JSON_FILE)
        .lines()
        .map(|line| {
            let mut record: BTreeMap<String, serde_json::Value> =
                serde_json::from_str(line).unwrap();
            record.retain(|name, _| !name.starts_with("wall_"));
            format!("{record:?}\n")
        })
        .collect();
    let csv = text(CSV_FILE);
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let csv = csv
        .lines()
        .map(|line| {
            let values: Vec<&str> = line.split(',').collect();
            assert_eq!(values.len(), columns.len());
            let kept = columns.iter().zip(values);
            let kept = kept.filter(|(name, _)| !name.starts_with("wall_"));
            format!("{:?}\n", kept.collect::<Vec<_>>())
        })
        .collect();
    let events = events(&std::fs::read(folder.join(EVENT_FILE)).unwrap());
    let events = events
        .into_iter()
        .filter(|event| event.tag != "train/tokens_per_second")
        .map(|event| format!("{} {} {:?}\n", event.step, event.tag, event.value))
        .collect();
    [json, csv, events]
}

#[derive(Debug)]
struct Event {
    step: u64,
    tag: String,
    value: f32,
    wall_time: f64,
}

/// CRC-32C bit by bit, as the polynomial is written, to check the table of the writer.
fn checksum(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let top = (remainder >> 31) ^ u32::from(byte >> bit & 1);
            remainder = (remainder << 1) ^ if top == 1 { 0x1edc_6f41 } else { 0 };
        }
    }
    !remainder.reverse_bits()
}

/// Reads an event file by the formats' documentation: frames, checksums, messages.
fn events(mut file: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut first = true;
    while !file.is_empty() {
        let checked = |bytes: &[u8], stored: &[u8]| {
            let stored = u32::from_le_bytes(stored.try_into().unwrap());
            let unmasked = stored.wrapping_sub(0xa282_ead8).rotate_left(15);
            assert_eq!(unmasked, checksum(bytes));
        };
        checked(&file[..8], &file[8..12]);
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let data = &file[12..12 + length];
        checked(data, &file[12 + length..16 + length]);
        file = &file[16 + length..];

        let fields = fields(data);
        let wall_time = f64::from_le_bytes(fields[0].1.clone().try_into().unwrap());
        if first {
            assert_eq!(fields[1], (3, b"brain.Event:2".to_vec()));
            first = false;
            continue;
        }
        let step = u64::from_le_bytes(fields[1].1.clone().try_into().unwrap());
        assert_eq!([fields[0].0, fields[1].0, fields[2].0], [1, 2, 5]);
        for (number, value) in self::fields(&fields[2].1) {
            assert_eq!(number, 1);
            let [(1, tag), (2, float)] = &self::fields(&value)[..] else {
                panic!("a tag and a value");
            };
            events.push(Event {
                step,
                tag: String::from_utf8(tag.clone()).unwrap(),
                value: f32::from_le_bytes(float.clone().try_into().unwrap()),
                wall_time,
            });
        }
    }
    events
}

/// The fields of a protocol buffer, varints widened to eight bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                let value = varint(&mut message);
                fields.push((key >> 3, value.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, message[..length].to_vec()));
        message = &message[length..];
    }
    fields
}

#[test]
fn all_three_forms_of_a_log_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("runs/first");
    let records = records(0.0);
    let mut log = RunLog::create(&folder).unwrap();
    write(&mut log, &records);
    log.sync().unwrap();
    // Every bit of every number comes back.
    assert_eq!(RunLog::read(&folder).unwrap(), records);

    let events = events(&std::fs::read(folder.join(EVENT_FILE)).unwrap());
    let csv = std::fs::read_to_string(folder.join(CSV_FILE)).unwrap();
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(rows.len(), records.len());
    for (record, row) in records.iter().zip(rows) {
        let (expected, values) = match record {
            Record::Training(record) => {
                let mut expected = vec![
                    ("train/loss", record.loss),
                    ("train/rate", record.rate),
                    ("train/tokens_per_second", record.wall_tokens_per_second),
                    ("train/tokens", record.tokens as f64),
                ];
                let mut norm = String::new();
                if let Some(value) = record.gradient_norm {
                    expected.push(("train/gradient_norm", value));
                    norm = value.to_string();
                }
                let values = format!(
                    "training,{},{},{},,{},{norm},,,{},{},{}",
                    record.step,
                    record.tokens,
                    record.loss,
                    record.rate,
                    record.wall_tokens_per_second,
                    record.wall_seconds,
                    record.wall_time
                );
                (expected, values)
            }
            Record::Validation(record) => (
                vec![
                    ("validation/loss", record.loss),
                    ("validation/perplexity", record.loss.exp()),
                ],
                format!(
                    "validation,{},{},{},{},,,1000,4000,,{},{}",
                    record.step,
                    record.tokens,
                    record.loss,
                    record.perplexity,
                    record.wall_seconds,
                    record.wall_time
                ),
            ),
        };
        assert_eq!(row, values);
        for (tag, value) in expected {
            let event = events
                .iter()
                .find(|event| event.step == record.step() && event.tag == tag)
                .unwrap();
            assert_eq!(event.value, value as f32, "{tag}");
            assert_eq!(event.wall_time, record.wall_time());
        }
    }
    assert_eq!(events.len(), 10 * 4 + 5 + 2 * 2);
}

#[test]
fn a_resumed_run_has_the_log_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    write(&mut RunLog::create(&whole).unwrap(), &records(0.0));
    for (checkpoint, died_after) in [(0, 3), (4, 4), (4, 9), (7, 9), (10, 10)] {
        let again = folder.path().join(format!("{checkpoint}-{died_after}"));
        let until = |step: u64| move |record: &Record| record.step() <= step;
        let first: Vec<Record> = records(0.0).into_iter().filter(until(died_after)).collect();
        write(&mut RunLog::create(&again).unwrap(), &first);
        // The kill tore the last line of each file, each at another place.
        for (name, torn) in [
            (JSON_FILE, &b"{\"kind\":\"training\",\"st"[..]),
            (CSV_FILE, b"training,11,"),
            (EVENT_FILE, &[21, 0, 0]),
        ] {
            use std::io::Write;
            let file = std::fs::OpenOptions::new()
                .append(true)
                .open(again.join(name));
            file.unwrap().write_all(torn).unwrap();
        }
        assert_eq!(RunLog::read(&again).unwrap(), first);
        let mut log = RunLog::resume(&again, checkpoint).unwrap();
        let later = records(1000.0)
            .into_iter()
            .filter(|record| record.step() > checkpoint);
        write(&mut log, &later.collect::<Vec<_>>());
        assert_eq!(without_clock(&again), without_clock(&whole));
        let names = std::fs::read_dir(&again).unwrap().count();
        assert_eq!(names, 3, "no leftovers");
    }
}

#[test]
fn a_log_keeps_its_order_and_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut log = RunLog::create(folder).unwrap();
    write(&mut log, &records(0.0));
    let error = log.add(&records(0.0)[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("step 1 follows one of step 10"));
    let error = RunLog::create(folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("resume"), "{error}");
    assert_eq!(RunLog::read(folder).unwrap(), records(0.0));
}

#[test]
fn a_log_damaged_in_the_middle_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&mut RunLog::create(folder).unwrap(), &records(0.0));
    let path = folder.join(JSON_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = text.replacen("\"step\":3", "\"step\":x", 1);
    assert_ne!(text, damaged);
    std::fs::write(&path, &damaged).unwrap();
    for error in [
        RunLog::resume(folder, 10).unwrap_err(),
        RunLog::read(folder).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains("log.jsonl: line 3"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    // What lies behind the step resumed from is cut off unread.
    RunLog::resume(folder, 1).unwrap();
    assert_eq!(RunLog::read(folder).unwrap(), records(0.0)[..1]);
}

#[test]
fn a_diverged_run_is_logged_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = RunLog::create(folder.path()).unwrap();
    let Record::Training(mut training) = records(0.0).remove(0) else {
        panic!("a training record");
    };
    for loss in [f64::NAN, f64::INFINITY] {
        training.loss = loss;
        log.add(&Record::Training(training.clone())).unwrap();
    }
    let before = without_clock(folder.path());
    let mut seen = 0;
    for record in RunLog::read(folder.path()).unwrap() {
        assert!(matches!(record, Record::Training(training) if training.loss.is_nan()));
        seen += 1;
    }
    assert_eq!(seen, 2);
    RunLog::resume(folder.path(), 1).unwrap();
    assert_eq!(without_clock(folder.path()), before);
}

#[cfg(feature = "cli")]
mod plot {
    use super::{records, write};
    use brillm::ErrorKind;
    use brillm::learn::log::{Record, RunLog};
    use brillm::learn::plot;
    use std::path::PathBuf;

    fn run(folder: &std::path::Path, name: &str, records: &[Record]) -> PathBuf {
        let folder = folder.join(name);
        write(&mut RunLog::create(&folder).unwrap(), records);
        folder
    }

    #[test]
    fn curves_have_axes_names_and_as_many_points_as_records() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            run(folder.path(), "composed", &records(0.0)),
            run(folder.path(), "own <&> edges", &records(5.0)),
        ];
        let path = folder.path().join("curves.svg");
        plot::write(&runs, &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert_eq!(svg, plot::draw(&runs).unwrap());
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in [
            "Learning curves",
            "training loss (nats per token)",
            "validation perplexity",
            "training tokens seen",
            "composed",
            "own &lt;&amp;&gt; edges",
            "8k",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        // Each run: 10 training records and 2 validations, each a dot; keys of the legend are paths.
        assert_eq!(svg.matches("<circle").count(), 2 * (10 + 2));
    }

    #[test]
    fn a_run_that_is_going_on_is_drawn_as_far_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let training = run(folder.path(), "new", &records(0.0)[..1]);
        let svg = plot::draw(&[training]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("validation perplexity"));
        let empty = run(folder.path(), "empty", &[]);
        let error = plot::draw(std::slice::from_ref(&empty)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(plot::draw(&[]).unwrap_err().kind(), ErrorKind::Input);
        let error = plot::draw(&[empty.join("absent")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("absent"));
    }

    #[test]
    fn no_value_is_too_large_to_draw() {
        let folder = tempfile::tempdir().unwrap();
        let mut extreme = records(0.0);
        let mut values = [f64::MAX, f64::MIN, 0.0, f64::MIN_POSITIVE, 1e300]
            .into_iter()
            .cycle();
        for record in &mut extreme {
            let value = values.next().unwrap();
            match record {
                Record::Training(record) => {
                    record.loss = value;
                    record.tokens = u64::MAX - 10 + record.step;
                }
                Record::Validation(record) => record.perplexity = value.abs(),
            }
        }
        let run = run(folder.path(), "extreme", &extreme);
        let svg = plot::draw(&[run]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 12);
    }
}
