//! The clients stands as it is drawn: imports go down, never up, and never sideways between rooms.

use std::path::{Path, PathBuf};

/// Rooms that share a floor do not know each other; those of one bracket below the top are single.
const FLOORS: [&[&str]; 7] = [
    &["cli"],
    &["server"],
    &["config"],
    &["proxy", "admin"],
    &["cache"],
    &["store", "upstream", "ca", "telemetry"],
    &["oci", "wire", "host", "setup"],
];

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().rev().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("{room} is on no floor: draw it in this test and in docs/architecture.md"))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The rooms that a text imports or names: `crate::ROOM`, also inside `use crate::{a, b}`.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut item = String::new();
                for c in list.chars() {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    if depth == 0 || (depth == 1 && c == ',') {
                        rooms.push(word(item.trim()));
                        item.clear();
                    } else {
                        item.push(c);
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn imports_only_go_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut seen = 0;
    for file in all {
        let inside = file.strip_prefix(&src).unwrap();
        let Some(room) = inside.parent().and_then(|folder| folder.iter().next()).and_then(|room| room.to_str()) else {
            continue;
        };
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let down = floor(&import) < floor(room);
            assert!(import == room || down, "{} imports {import}, which is not below {room}", inside.display());
        }
    }
    assert!(seen > 200, "only {seen} imports were read: the reader of this test is broken");
}

#[test]
fn the_reader_of_imports_sees_what_is_there() {
    let text = "use crate::store::Store;\nuse crate::{ca, host::{self, Reserved}, oci};\n// crate::nothing\nlet x = crate::wire::Body::empty();";
    assert_eq!(imports(text), ["store", "ca", "host", "oci", "wire"]);
}
