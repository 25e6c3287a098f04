//! The documents hold together: links lead somewhere, configurations pass `check`, each client's page says what it must.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

mod shown;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("docs"), root().join("packaging")];
    let mut pages = ["README.md", "CONTRIBUTING.md", "ca/README.md"].map(|page| root().join(page)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(end) if end == "md" => pages.push(path),
                _ => {}
            }
        }
    }
    pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The targets of its links that stay in the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// The anchors of its headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let plain = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    plain
        .map(|line| line.replace(|c: char| !(c.is_alphanumeric() || c == ' ' || c == '-'), "").replace(' ', "-"))
        .collect()
}

/// The fenced blocks of one language, in their order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    text.split("\n```").filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading_that_are_there() {
    let mut followed = 0;
    for (path, text) in pages() {
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(target).unwrap());
                assert!(there.iter().any(|one| one == anchor), "{}: no heading {link}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 40, "{followed} links");
}

#[test]
fn the_readme_is_short_and_its_docker_quick_start_has_no_proxy() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(text.lines().count() < 200, "the README has {} lines", text.lines().count());
    let docker = blocks(&text, "sh").into_iter().find(|block| block.contains("docker pull")).unwrap();
    assert!(docker.contains("Environment=NO_PROXY="), "{docker}");
}

#[test]
fn the_readme_and_the_operations_page_state_the_same_costs() {
    for page in ["README.md", "docs/operations.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap().replace('\n', " ");
        for cost in
            ["20 MiB at rest", "30 KiB for each idle connection", "about 150 MiB", "0.3 to 0.5 CPU seconds", "2 to 6"]
        {
            assert!(text.contains(cost), "{page} does not say {cost}");
        }
    }
}

#[test]
fn every_clients_page_is_listed_and_says_how_to_set_up_check_and_undo() {
    let folder = root().join("docs/clients");
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut seen = 0;
    for (path, text) in pages().into_iter().filter(|(path, _)| path.starts_with(&folder)) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        assert!(list.contains(&format!("({name})")), "{name} is not listed");
        let lower = text.to_lowercase();
        for word in ["check", "undo", "proxy.example:3128"] {
            assert!(lower.contains(word), "{name} says nothing of {word}");
        }
        assert!(
            text.contains("\nTried: ") || text.contains("\nUntried here"),
            "{name} does not say whether it was tried"
        );
        seen += 1;
    }
    assert!(seen >= 20, "{seen} pages");
}

#[test]
fn where_a_behaviour_lives_is_a_file_that_is_there() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let table =
        text.split("\n## Where a behaviour lives\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let files = table.lines().filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | "));
    let files: Vec<&str> = files.flat_map(|(_, files)| files.split('`').skip(1).step_by(2)).collect();
    assert!(files.len() > 30, "{} files", files.len());
    for file in files {
        assert!(root().join("src").join(file).exists(), "CONTRIBUTING.md: there is no src/{file}");
    }
}

/// Makes what a configuration takes its passwords from: files in its folder, variables, helper programs.
fn lend_secrets(yaml: &str, folder: &Path, check: &mut Command) {
    let values = |key: &str| {
        let key = format!("{key}: ");
        let after = yaml.split(key.as_str()).skip(1);
        after.map(|text| text.split([',', '}', ' ', '\n']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // A line as `htpasswd -B` makes it.
    let users = "guest:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";
    for (key, content) in [("password_file", "secret"), ("docker_config", "{}"), ("htpasswd", users)] {
        values(key).iter().for_each(|name| write(&folder.join(name), content, 0o600));
    }
    values("password_env").iter().for_each(|name| _ = check.env(name, "secret"));
    values("helper")
        .iter()
        .for_each(|name| write(&folder.join(format!("docker-credential-{name}")), "#!/bin/sh\n", 0o700));
    check.env("PATH", folder);
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn configurations_in_the_documents_pass_check() {
    let docs = root().join("docs");
    let mut checked = 0;
    for (path, text) in pages().into_iter().filter(|(path, _)| path.parent() == Some(&docs)) {
        for block in blocks(&text, "yaml") {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("config.yaml"), block).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_pullthrough"));
            check.env_clear();
            lend_secrets(block, folder.path(), &mut check);
            check.current_dir(folder.path()).args(["check", "--config", "config.yaml"]);
            let said = check.output().unwrap();
            assert!(said.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&said.stderr));
            checked += 1;
        }
    }
    assert!(checked >= 1, "no page shows a configuration");
}

#[test]
fn every_reason_of_a_metric_is_in_the_operators_page() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let failures = pullthrough::upstream::FailureReason::ALL.map(|reason| reason.label());
    let limits = ["streams", "tunnels_each", "stalled", "files", "upstream", "descriptors", "admin"];
    for reason in failures.iter().chain(&limits) {
        assert!(page.contains(&format!("`{reason}`")), "{reason}");
    }
}
