//! `brillm plan`: owners, memory and balance of own edges over ranks.
#![cfg(feature = "cli")]

use serde_json::Value;

mod support;
use support::*;

/// Own edges of a small recipe, with any changes.
fn plan(folder: &tempfile::TempDir, more: &[&str]) -> Value {
    let run_file = path(folder.path(), "run.toml");
    let own = "profile={preset=\"sifu-own\",width=8}";
    let mut arguments = vec!["plan", &run_file, "--json", "--set", own];
    arguments.extend(more);
    json(&arguments)
}

fn numbers(plan: &Value, key: &str) -> Vec<f64> {
    let ranks = plan["ranks"].as_array().unwrap().iter();
    ranks.map(|rank| rank[key].as_f64().unwrap()).collect()
}

#[test]
fn every_own_edge_has_an_owner_and_work_is_balanced() {
    let folder = letters_folder();
    for ranks in ["1", "2", "7", "12"] {
        let plan = plan(&folder, &["--ranks", ranks, "--simulate=5"]);
        let (edges, bytes) = (numbers(&plan, "edges"), numbers(&plan, "bytes"));
        assert_eq!(edges.len().to_string(), ranks);
        assert_eq!(
            edges.iter().sum::<f64>(),
            plan["own_edges"].as_f64().unwrap()
        );
        // A weight and two moments in 4 bytes each, for a matrix and a bias of width 8.
        for (edges, bytes) in edges.iter().zip(&bytes) {
            assert_eq!(*bytes, edges * 72.0 * 12.0);
        }
        let equal = plan["own_edges"].as_f64().unwrap() / edges.len() as f64;
        let fullest = edges.iter().copied().fold(0.0, f64::max) / equal;
        assert!((plan["fullest"].as_f64().unwrap() - fullest).abs() < 1e-9);
        assert!(fullest <= 1.1, "{ranks}: {fullest}");
        let work = numbers(&plan, "work");
        let mean = work.iter().sum::<f64>() / work.len() as f64;
        assert!((mean - 1.0).abs() < 1e-9, "work is relative to its mean");
        let busiest = work.iter().copied().fold(0.0, f64::max);
        assert!((plan["imbalance"].as_f64().unwrap() - busiest).abs() < 1e-9);
        assert!(busiest < 1.1, "{ranks}: {busiest}");
        let simulation = &plan["simulation"];
        assert_eq!(simulation["batches"], 5);
        let (mean, worst) = (
            simulation["imbalance"].as_f64().unwrap(),
            simulation["worst"].as_f64().unwrap(),
        );
        assert!(1.0 <= mean && mean <= worst, "{mean} {worst}");
        let crossing = simulation["crossing_hops"].as_f64().unwrap();
        assert_eq!(crossing > 0.0, ranks != "1");
        assert!(crossing < 1.0);
        // One rank has no network.
        let steps = plan["modelled_steps"].as_array().unwrap();
        assert_eq!(steps.len(), 3);
        for step in steps {
            let speed_up = step["speed_up"].as_f64().unwrap();
            assert!(speed_up > 0.0 && (speed_up == 1.0) == (ranks == "1"));
        }
    }
}

#[test]
fn fans_are_cut_where_they_cost_too_much() {
    let folder = letters_folder();
    let cut = plan(&folder, &["--ranks", "40"]);
    let whole = plan(&folder, &["--ranks", "40", "--cut", "0"]);
    let fans = cut["cut_fans"].as_array().unwrap();
    assert!(!fans.is_empty() && whole["cut_fans"].as_array().unwrap().is_empty());
    for fan in fans {
        let (pieces, work) = (
            fan["pieces"].as_f64().unwrap(),
            fan["work"].as_f64().unwrap(),
        );
        assert!(pieces >= 2.0 && pieces <= fan["edges"].as_f64().unwrap());
        assert!(!fan["token"].as_str().unwrap().is_empty());
        assert!((0.0..1.0).contains(&work));
    }
    let work: Vec<f64> = fans
        .iter()
        .map(|fan| fan["work"].as_f64().unwrap())
        .collect();
    assert!(work.is_sorted_by(|a, b| a >= b), "the most expensive first");
    let pieces = |plan: &Value| plan["pieces_a_visit"].as_f64().unwrap();
    assert!(pieces(&cut) > 1.0 && pieces(&whole) == 1.0);
    let imbalance = |plan: &Value| plan["imbalance"].as_f64().unwrap();
    assert!(imbalance(&cut) < imbalance(&whole));
    // The same plan each time.
    assert_eq!(cut, plan(&folder, &["--ranks", "40"]));
}

#[test]
fn visits_of_another_text_can_be_balanced() {
    let folder = recipe_folder();
    let file = path(folder.path(), "requests.u16");
    // Requests that visit two tokens alone.
    write_ids(&file, &[5u16, 6].repeat(100));
    let of_requests = plan(&folder, &["--ranks", "4", "--visits", &file]);
    let of_text = plan(&folder, &["--ranks", "4"]);
    assert_ne!(of_requests["ranks"], of_text["ranks"]);
    assert_eq!(of_requests["own_edges"], of_text["own_edges"]);
    write_ids(&file, &[5u16, 60000, 7]);
    let run_file = path(folder.path(), "run.toml");
    let own = "profile={preset=\"sifu-own\",width=8}";
    let said = fails(&[
        "plan", &run_file, "--set", own, "--ranks", "4", "--visits", &file,
    ]);
    assert!(said.contains("token 60000"), "{said}");
}

#[test]
fn a_plan_is_printed_for_people_too() {
    let folder = letters_folder();
    let run_file = path(folder.path(), "run.toml");
    let own = "profile={preset=\"sifu-own\",width=8}";
    let printed = |ranks: &str| {
        succeeds(&[
            "plan",
            &run_file,
            "--set",
            own,
            "--ranks",
            ranks,
            "--simulate",
        ])
    };
    let few = printed("3");
    for expected in [
        "3 ranks",
        "busiest rank",
        "in 20 random batches",
        "not measured",
    ] {
        assert!(few.contains(expected), "{expected}: {few}");
    }
    let many = printed("40");
    assert!(many.contains(" most ") && many.contains("least "), "{many}");
    assert!(many.contains("fans are cut"), "{many}");
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let folder = recipe_folder();
    let run_file = path(folder.path(), "run.toml");
    let text = path(folder.path(), "text.txt");
    let cases_of: [(&[&str], &str); 3] = [
        (&[&run_file], "only own edges have owners"),
        (
            &[&run_file, "--set", "kind=lstm", "--set", "profile={}"],
            "train in one process",
        ),
        (&[&text], "a plan is made for a run file"),
    ];
    for (arguments, expected) in cases_of {
        let said = fails(&[&["plan", "--ranks", "2"], arguments].concat());
        assert!(said.contains(expected), "{said}");
    }
    assert!(
        !folder.path().join("runs").exists(),
        "a plan leaves no files"
    );
}
