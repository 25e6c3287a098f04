//! Writes a mirror's plan as a POSIX shell script, which also takes it back.
//!
//! Like the script for a proxy it is one function that the last line calls, checks first what it needs, and trusts a CA by its
//! fingerprint only; that CA is trusted for the mirror's host alone. A file is replaced at once, and what others had written
//! there stays beside it. What cannot be parsed, and what others have set otherwise, is refused with the reason.

use std::fmt::Write as _;

use super::containerd::CONFIG_PATH;
use super::known::OnMirror;
use super::merge::MERGING;
use super::plan::{mirror_plan, undo_command};
use super::refused::Unmirrorable;
use super::url::MirrorUrl;
use crate::setup::script::{ENDING, FINGERPRINT, MARKS, VERIFY, put, there};
use crate::setup::{ClientKind, SetupPlan, Written};

/// The script for `client` and `mirror`, with the registries of [`mirror_plan`].
///
/// # Errors
/// A client that no script can set up.
pub fn mirror_script(
    client: ClientKind,
    mirror: &MirrorUrl,
    named: &[String],
    known: &[OnMirror],
) -> Result<String, Unmirrorable> {
    let mirror = &mirror.meant(OnMirror::names(known));
    let plan = mirror_plan(client, mirror, named, known)?;
    if !plan.scripted {
        return Err(Unmirrorable(format!("{client} cannot be set up by a script: follow the steps that setup prints")));
    }
    let mut text = head(client, mirror);
    text.push_str(BEGIN);
    if mirror.is_tls() {
        text.push_str(ARGUMENT);
        text.push_str(FINGERPRINT);
        text.push_str("fi\n");
    } else {
        text.push_str("if [ \"${1:-}\" = undo ]; then mode=undo; fi\n");
    }
    text.push_str(RUNNING);
    needs(&mut text, &plan);
    text.push_str("scratch=$(mktemp -d)\ntrap 'rm -rf \"$scratch\"' EXIT\numask 022\n");
    text.push_str(WRITING);
    if !plan.lines.is_empty() {
        text.push_str(LINES);
    }
    if !plan.merged.is_empty() {
        text.push_str(MERGING);
    }
    if client == ClientKind::Containerd {
        text.push_str(CONFIG_PATH);
    }
    text = text.replace("BEGIN_MARK", MARKS[0]).replace("END_MARK", MARKS[1]);
    if mirror.is_tls() {
        text.push_str(GIVEN);
        let _ = writeln!(text, "elif [ \"$mode\" = set ] && [ \"$wanted\" != trusted ]; then{VERIFY}fi");
        text.push_str(SHOWN);
    }
    if client == ClientKind::Containerd {
        text.push_str("config_path\n");
    }
    change(&mut text, &plan);
    run(&mut text, client, &plan);
    end(&mut text, client, mirror, named, &plan);
    text.push_str(ENDING);
    Ok(text)
}

fn head(client: ClientKind, mirror: &MirrorUrl) -> String {
    let base = mirror.base();
    let (argument, about) = if mirror.is_tls() {
        (
            " -s -- FINGERPRINT",
            "# FINGERPRINT is the SHA-256 that `pullthrough ca show` prints on the mirror's own machine. If the mirror has a\n\
             # certificate of another CA (mirror.tls), write `given` instead, and let PULLTHROUGH_CA_FILE name the file with that\n\
             # CA; or `trusted` where this machine trusts it already. PULLTHROUGH_FINGERPRINT may hold this word, too, and with a\n\
             # fingerprint PULLTHROUGH_CA_FILE may name a copy of the CA to use instead of a download.\n",
        )
    } else {
        ("", "# The mirror has no TLS: whoever is on the way can change which image a tag means.\n")
    };
    format!(
        "#!/bin/sh\n# Sets this machine up to pull container images from the mirror {mirror}: {client}.\n\
         # Made by pullthrough {version}. Run it as root:\n#\n\
         #   curl -fsS {base}/setup/{client} | sh{argument}\n#\n{about}\
         # `sh -s -- undo` takes it back. PULLTHROUGH_ROOT may name the root folder of another system (an image).\n\
         # This text came over the network: if others can change it on the way, read it before you run it.\n\
         set -eu\n\n# It runs completely or not at all: a truncated transfer has no last line.\nmain() {{\n\
         client='{client}'\nbare='{base}'\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

const BEGIN: &str = r#"root=${PULLTHROUGH_ROOT:-}
mode='set'
wanted=''
changed=''

fail() {
  printf 'pullthrough setup %s: %s\n' "$client" "$1" >&2
  exit 1
}

"#;

const ARGUMENT: &str = r#"wanted=${1:-${PULLTHROUGH_FINGERPRINT:-}}
if [ "$wanted" = undo ]; then
  mode=undo
elif [ "$wanted" = given ]; then
  [ -r "${PULLTHROUGH_CA_FILE:-}" ] || fail "PULLTHROUGH_CA_FILE does not name a file with the CA's certificate"
elif [ "$wanted" != trusted ]; then
"#;

/// Its caller vouches for the file. Nothing but certificates is taken from it: a key may stand beside them.
const GIVEN: &str = r#"if [ "$mode" = set ] && [ "$wanted" = given ]; then
  sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p' "$PULLTHROUGH_CA_FILE" >"$scratch/ca.crt"
  grep -q -e '-----END CERTIFICATE-----' "$scratch/ca.crt" || fail "$PULLTHROUGH_CA_FILE has no certificate in PEM form"
"#;

/// A client that does not trust what the mirror shows goes past it, and says nothing. So this is found out before anything is
/// changed; whether the mirror is up is not asked.
const SHOWN: &str = r#"
# shown: what the mirror shows now is accepted with the CA that its client will trust.
shown() {
  if [ "$wanted" != trusted ]; then set -- --cacert "$scratch/ca.crt"; fi
  judged=0
  curl -sS -m 10 -o /dev/null "$@" "$bare/healthz" 2>"$scratch/said" || judged=$?
  case $judged in
    51 | 60) fail "this CA does not vouch for the certificate that $bare shows ($(head -n 1 "$scratch/said")). Nothing was \
changed. If mirror.tls has a certificate of another CA, name that CA: pullthrough setup $client --mirror $bare --apply \
--ca-file FILE (in this script: PULLTHROUGH_CA_FILE=FILE, and the word given instead of the fingerprint)" ;;
  esac
}
if [ "$mode" = set ] && command -v curl >/dev/null 2>&1; then
  if [ -z "$root" ] || [ "$wanted" != trusted ]; then shown; fi
fi

"#;

const RUNNING: &str = r#"[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root"
LC_ALL=C
export LC_ALL

# The mirror itself is not reached through a proxy.
unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY

# Runs a command in the system that is being set up.
run() {
  if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi
}

# Services run only on this machine; an image has no running services.
service() {
  if [ -n "$root" ]; then
    printf 'skipped: %s\n' "$1"
  else
    printf 'run: %s\n' "$1"
    sh -c "$1" || fail "$1 failed: see the messages above. Take it back with: sh -s -- undo"
  fi
}
"#;

const WRITING: &str = r##"
# replace PATH: the new text replaces the file at once, with the owner and mode that it has. What others wrote stays beside it.
replace() {
  mkdir -p "$root$(dirname "$1")"
  if [ -e "$root$1" ]; then
    if cmp -s "$scratch/new" "$root$1"; then
      printf 'unchanged: %s\n' "$1"
      return 0
    fi
    [ -e "$root$1.before-pullthrough" ] || grep -q '^# pullthrough' "$root$1" || [ "$1" != "${1%/pullthrough.crt}" ] ||
      cp -p "$root$1" "$root$1.before-pullthrough"
    cp -p "$root$1" "$root$1.pullthrough-new"
  fi
  cat "$scratch/new" >"$root$1.pullthrough-new"
  mv "$root$1.pullthrough-new" "$root$1"
  changed=yes
  printf 'wrote %s\n' "$1"
}

# write_file PATH: standard input becomes the file, or the file goes.
write_file() {
  if [ "$wanted" = trusted ]; then grep -v '/pullthrough\.crt' >"$scratch/new" || :; else cat >"$scratch/new"; fi
  if [ "$mode" = set ]; then
    replace "$1"
    return 0
  fi
  if [ -e "$root$1" ] && grep -q '^# pullthrough' "$root$1"; then drop "$1"; fi
}

# drop PATH: the file goes, and what was there before comes back.
drop() {
  [ -e "$root$1" ] || return 0
  changed=yes
  if [ -e "$root$1.before-pullthrough" ]; then
    mv "$root$1.before-pullthrough" "$root$1"
    printf 'restored %s\n' "$1"
    return 0
  fi
  rm "$root$1"
  case $1 in */certs.d/*/*) rmdir "$root$(dirname "$1")" 2>/dev/null || : ;; esac
  printf 'removed %s\n' "$1"
}

# write_ca PATH: a copy of the CA for this client and this host alone.
write_ca() {
  if [ "$mode" = undo ]; then
    drop "$1"
  elif [ "$wanted" != trusted ]; then
    cat "$scratch/ca.crt" >"$scratch/new"
    replace "$1"
  fi
}
"##;

const LINES: &str = r#"
# write_lines PATH: standard input becomes our lines at the end of the file, and replaces our earlier ones.
write_lines() {
  if [ "$wanted" = trusted ]; then grep -v '/pullthrough\.crt' >"$scratch/ours" || :; else cat >"$scratch/ours"; fi
  if [ "$mode" = undo ] && [ ! -e "$root$1" ]; then return 0; fi
  if [ -e "$root$1" ]; then sed '/^BEGIN_MARK$/,/^END_MARK$/d' "$root$1" >"$scratch/new"; else : >"$scratch/new"; fi
  if [ "$mode" = undo ] && ! grep -q '[^[:space:]]' "$scratch/new"; then
    rm -f "$root$1.before-pullthrough"
    drop "$1"
    return 0
  fi
  if [ "$mode" = set ]; then
    # A table may stand in the file once.
    grep '^\[' "$scratch/ours" >"$scratch/tables"
    while read -r table; do
      if tr -d ' \t' <"$scratch/new" | tr "'" '"' | grep -qF "$table"; then
        fail "$1 already has $table: add the mirror there by hand. Nothing was changed"
      fi
    done <"$scratch/tables"
    { echo 'BEGIN_MARK'; cat "$scratch/ours"; echo 'END_MARK'; } >>"$scratch/new"
  fi
  replace "$1"
  if [ "$mode" = undo ]; then rm -f "$root$1.before-pullthrough"; fi
}
"#;

/// Docker does not start with a list both in its file and among its flags.
const FLAGS: &str = r#"if [ "$mode" = set ] && [ -z "$root" ] &&
  systemctl show -p ExecStart docker.service 2>/dev/null | grep -q -e '--registry-mirror' -e '--insecure-registry'; then
  fail "docker.service has --registry-mirror or --insecure-registry among its flags; nothing was changed: move them into \
/etc/docker/daemon.json, and run this again"
fi
"#;

/// Checks what the machine must have.
fn needs(text: &mut String, plan: &SetupPlan) {
    text.push_str("\n# Checks the requirements before anything is changed.\n");
    let all: Vec<&Written> = plan.files.iter().collect();
    if !all.is_empty() && all.iter().all(|one| !one.only_with.is_empty()) {
        let mut any: Vec<&str> = all.iter().flat_map(|one| one.only_with.iter().copied()).collect();
        any.dedup();
        let _ =
            writeln!(text, "{} || fail \"$client is not installed here: nothing was changed\"", there(&any, " ||\n  "));
    }
    for file in plan.files.iter().filter(|file| file.path.ends_with("registries.yaml")) {
        let path = &file.path;
        let _ = writeln!(
            text,
            "if [ \"$mode\" = set ] && [ -e \"$root{path}\" ]; then\n  grep -q '^# pullthrough' \"$root{path}\" || fail \"{path} \
             has settings of its own; nothing was changed: add by hand what pullthrough setup $client --mirror prints\"\nfi"
        );
    }
    if !plan.merged.is_empty() {
        text.push_str(FLAGS);
    }
    if let Some(unit) = plan.unit {
        let _ = writeln!(
            text,
            "[ -n \"$root\" ] || [ \"$(systemctl show -p LoadState {unit}.service 2>/dev/null)\" = LoadState=loaded ] || fail \
             \"systemd has no {unit}.service here; nothing was changed: write the files that pullthrough setup $client --mirror \
             prints by hand\""
        );
    }
}

/// What may refuse comes first.
fn change(text: &mut String, plan: &SetupPlan) {
    text.push_str("# The client's own files.\n");
    for merged in &plan.merged {
        put(text, merged, "merge_json");
    }
    for lines in &plan.lines {
        put(text, lines, "write_lines");
    }
    for path in &plan.ca {
        let _ = writeln!(text, "write_ca '{path}'");
    }
    for file in &plan.files {
        put(text, &Written { only_with: Vec::new(), ..file.clone() }, "write_file");
    }
}

/// Docker forgets a mirror only when it restarts, which stops containers: a person decides when.
fn run(text: &mut String, client: ClientKind, plan: &SetupPlan) {
    if client == ClientKind::Docker {
        text.push_str(
            "if [ -n \"$changed\" ] && [ \"$mode\" = undo ]; then\n  echo 'Docker uses the mirror until it restarts: systemctl \
             restart docker (it stops containers unless live-restore is on)'\n  changed=''\nfi\n",
        );
    }
    for command in &plan.run {
        let _ = writeln!(text, "[ -z \"$changed\" ] || service '{}'", command.replace('\'', r"'\''"));
    }
}

fn end(text: &mut String, client: ClientKind, mirror: &MirrorUrl, named: &[String], plan: &SetupPlan) {
    text.push_str("if [ \"$mode\" = undo ]; then\n  echo 'Undone.'\n  return 0\nfi\n[ -n \"$changed\" ] || echo 'Nothing had to be \
         changed.'\nprintf 'The mirror is %s.\\n' \"$bare\"\ncat <<'PULLTHROUGH'\n");
    for words in &plan.words {
        let _ = writeln!(text, "{words}");
    }
    let command = undo_command(client, mirror, named);
    if named.is_empty() && !mirror.has_path() {
        let base = mirror.base();
        let _ =
            writeln!(text, "Undo, as root: curl -fsS {base}/setup/{client} | sh -s -- undo\n            or: {command}");
    } else {
        let _ = writeln!(text, "Undo, as root: {command}"); // the mirror's own script is for other registries
    }
    text.push_str("PULLTHROUGH\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_made_for_whatever_a_script_can_do() {
        for url in ["http://m:5000", "https://m:5000"] {
            let mirror = url.parse().unwrap();
            for client in ClientKind::ALL {
                let script = mirror_script(client, &mirror, &[], &[]);
                let can = mirror_plan(client, &mirror, &[], &[]).is_ok_and(|plan| plan.scripted);
                assert_eq!(script.is_ok(), can, "{client}");
                let Ok(script) = script else { continue };
                assert!(script.starts_with("#!/bin/sh\n") && !script.contains("_MARK"), "{script}");
                assert!(script.ends_with("main \"$@\" </dev/null\n"), "{script}");
                assert_eq!(script.contains("fingerprint"), mirror.is_tls(), "{script}");
            }
        }
    }
}
