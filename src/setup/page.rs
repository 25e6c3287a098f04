//! Prints a plan for a person: the files, the commands, and how to undo it.

use std::fmt::Write as _;

use super::{ClientKind, SetupPlan};

/// The page for `client`.
#[must_use]
pub fn page(client: ClientKind, plan: &SetupPlan) -> String {
    let mut text = String::new();
    for file in &plan.files {
        let _ = writeln!(text, "# {}{}\n{}", file.path, only(&file.only_with), file.text);
    }
    for lines in &plan.lines {
        let _ = writeln!(text, "# add to {}{}\n{}", lines.path, only(&lines.only_with), lines.text);
    }
    for merged in &plan.merged {
        let _ = writeln!(text, "# merge into {}\n{}", merged.path, merged.text);
    }
    for path in &plan.ca {
        let _ = writeln!(
            text,
            "# the certificate of the CA that signed the mirror's goes to {path}: pullthrough's ca.crt, unless the mirror has one of \
             another CA (mirror.tls): --ca-file FILE\n# where this machine trusts the mirror's certificate already, leave out \
             that file and the line that names it\n"
        );
    }
    if plan.secret && plan.scripted {
        text.push_str("# these files contain a password: chmod 600\n\n");
    }
    if !plan.run.is_empty() {
        let _ = writeln!(text, "# then run, as root\n{}\n", plan.run.join("\n"));
    }
    for words in &plan.words {
        let _ = writeln!(text, "{words}");
    }
    if !plan.undo.is_empty() {
        let _ = writeln!(text, "Undo:\n  {}", plan.undo.join("\n  "));
    } else if plan.scripted {
        let _ = writeln!(
            text,
            "The machine must also trust the CA: pullthrough trust install. --apply does all of this.\n\
             Undo: remove what was added and run the same commands ({client})."
        );
    }
    text
}

fn only(paths: &[&str]) -> String {
    if paths.is_empty() { String::new() } else { format!("   (if {} exists)", paths.join(" or ")) }
}
