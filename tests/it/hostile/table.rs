//! The tables of what is right, as text that can be read: one block for each kind, one line for each outcome.
//!
//! `QUESTIONS: GOT | stored N | noted WORDS | AFTERWARDS | asked N`; `asked <=N` and `THIS or THAT` where chance has a part
//! in it. What is `as honest` is as it stands for that kind, which comes first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::question::{QUESTIONS, Question};

const HONEST: &str = "honest";
const AS_HONEST: &str = "as honest";

/// Outcomes by kind and question.
pub(super) type Outcomes = BTreeMap<(String, Question), String>;

fn parse(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut kind = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut kind);
            continue;
        }
        let (questions, outcome) = line.split_once(": ").unwrap_or_else(|| panic!("no outcome in the line {line}"));
        for name in questions.split_whitespace() {
            let question = QUESTIONS.into_iter().find(|question| question.name() == name);
            let question = question.unwrap_or_else(|| panic!("{name} is no question: {line}"));
            let honest = || outcomes.get(&(HONEST.to_owned(), question)).expect("an honest outcome").clone();
            let outcome = if outcome == AS_HONEST { honest() } else { outcome.to_owned() };
            let before = outcomes.insert((kind.clone(), question), outcome);
            assert!(before.is_none(), "[{kind}] has two lines for {name}");
        }
    }
    outcomes
}

/// The text of outcomes, kinds in this order.
fn print(kinds: &[&str], outcomes: &Outcomes) -> String {
    let mut text = String::new();
    for kind in kinds {
        let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
        for question in QUESTIONS {
            let Some(mut outcome) = outcomes.get(&((*kind).to_owned(), question)).map(String::as_str) else { continue };
            let honest = outcomes.get(&(HONEST.to_owned(), question)).filter(|_| *kind != HONEST);
            if honest.is_some_and(|honest| honest == outcome) {
                outcome = AS_HONEST;
            }
            match lines.iter_mut().find(|(said, _)| *said == outcome) {
                Some((_, questions)) => questions.push(question.name()),
                None => lines.push((outcome, vec![question.name()])),
            }
        }
        let _ = writeln!(text, "[{kind}]");
        for (outcome, questions) in lines {
            let _ = writeln!(text, "{}: {outcome}", questions.join(" "));
        }
        text.push('\n');
    }
    text
}

/// A visible failure of a content that is passed on as it comes: which of these depends on whether its head had left.
const FAILED: [&str; 3] = ["broken", "502 http_protocol_error", "502 http_response_incomplete"];

/// Whether what came is what is right.
fn fits(right: &str, came: &str, streams: bool) -> bool {
    let fits = |(right, came): (&str, &str)| match (right.strip_prefix("asked <="), came.strip_prefix("asked ")) {
        (Some(most), Some(asked)) => asked.parse::<usize>().unwrap() <= most.parse::<usize>().unwrap(),
        _ => right
            .split(" or ")
            .any(|right| right == came || (streams && FAILED.contains(&right) && FAILED.contains(&came))),
    };
    let (right, came): (Vec<&str>, Vec<&str>) = (right.split(" | ").collect(), came.split(" | ").collect());
    right.len() == came.len() && right.into_iter().zip(came).all(fits)
}

/// Fails where an outcome is not the table's, and says all that differ.
pub(super) fn compare(family: &str, kinds: &[&str], came: &Outcomes) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/hostile/{family}.txt"));
    let right = parse(&std::fs::read_to_string(&file).unwrap_or_default());
    let mut differ = String::new();
    for ((kind, question), came) in came {
        match right.get(&(kind.clone(), *question)) {
            Some(right) if fits(right, came, question.streams()) => {}
            right => {
                let right = right.map_or("no such line", String::as_str);
                let _ = writeln!(differ, "[{kind}] {}\n   right {right}\n    came {came}", question.name());
            }
        }
    }
    for key in right.keys().filter(|key| !came.contains_key(key)) {
        let _ = writeln!(differ, "[{}] {}\n   there is no such cell", key.0, key.1.name());
    }
    if differ.is_empty() {
        return;
    }
    let whole = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{family}.txt"));
    std::fs::write(&whole, print(kinds, came)).unwrap();
    panic!("{} differs from what came, which is in {}:\n{differ}", file.display(), whole.display());
}

#[test]
fn a_table_reads_as_it_prints_and_bounds_are_bounds() {
    let text =
        "[honest]\nping tag: 200 hit | asked 1\ntoken: 502 | asked 2\n\n[b]\nping: 404 | asked 1\ntag: as honest\n\n";
    assert_eq!(print(&["honest", "b"], &parse(text)), text);
    let table = [("502 | asked 2", "502 | asked 2", true), ("502 | asked <=2", "502 | asked 1", true)];
    let others = [("502 | asked 2", "502 | asked 1", false), ("502 | asked <=2", "502 | asked 3", false)];
    let chance = [("200 or broken | asked 1", "broken | asked 1", true), ("200 or broken", "404", false)];
    for (right, came, expected) in table.into_iter().chain(others).chain(chance) {
        assert_eq!(fits(right, came, false), expected, "{right} {came}");
    }
    assert!(!fits("404 | asked <=2", "502 | asked 1", true));
    let (head, body) = ("502 http_protocol_error | stored 0", "broken | stored 0");
    assert!(fits(head, body, true) && fits(body, head, true) && !fits(head, body, false) && !fits(body, head, false));
    assert!(!fits("200 stored | stored 0", body, true) && !fits(body, "200 stored | stored 0", true));
}
