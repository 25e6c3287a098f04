//! A plan as a POSIX shell script, for machines that have nothing but curl or wget.
//!
//! It comes over plain HTTP, from a proxy that is not trusted yet. So it does nothing before its caller has named
//! the CA's fingerprint, and installs exactly the certificate that has it: one certificate, written anew from the
//! bytes that were hashed. Whoever can change what comes over the wire can change the script, too: its head says so.

use std::fmt::Write as _;

use super::plan::Written;
use super::{Client, FAMILIES, Plan, ProxyUrl};

/// The marks around our lines in files of others.
const MARKS: [&str; 2] = ["# pullthrough begin", "# pullthrough end"];

/// The script; `None` where a script cannot do it.
#[must_use]
pub fn script(client: Client, proxy: &ProxyUrl, plan: &Plan) -> Option<String> {
    if !plan.scripted {
        return None;
    }
    let mut text = head(client, proxy);
    text.push_str(BEGIN);
    text.push_str(CERTIFICATE);
    trust(&mut text);
    let umask = if plan.secret { "umask 077" } else { "umask 022" };
    let _ = writeln!(text, "\n# The client's own files.\n{umask}");
    for file in &plan.files {
        put(&mut text, file, "write_file");
    }
    for lines in &plan.lines {
        put(&mut text, lines, "write_lines");
    }
    text.push_str(NOTHING);
    for command in &plan.run {
        let _ = writeln!(text, "service '{}'", command.replace('\'', r"'\''"));
    }
    end(&mut text, plan);
    Some(text)
}

fn head(client: Client, proxy: &ProxyUrl) -> String {
    format!(
        "#!/bin/sh\n# Sets this machine up to pull container images through {proxy}: {client}.\n\
         # Made by pullthrough {version}. Run it as root, with the CA's fingerprint:\n#\n\
         #   curl -fsS {proxy}/setup/{client} | sh -s -- FINGERPRINT\n#\n\
         # FINGERPRINT is the SHA-256 that `pullthrough serve` and `pullthrough ca show` print on the proxy's own\n\
         # machine. This text came over the network: read it before you run it where others can change it on its way.\n\
         #\n# PULLTHROUGH_FINGERPRINT may hold the fingerprint, PULLTHROUGH_CA_FILE a copy of the CA that is not to be\n\
         # fetched, PULLTHROUGH_ROOT the root folder of another system (an image) that is to be set up.\n\
         set -eu\n\nproxy='{proxy}'\nclient='{client}'\n",
        proxy = proxy.as_str(),
        version = env!("CARGO_PKG_VERSION"),
    )
}

const BEGIN: &str = r#"root=${PULLTHROUGH_ROOT:-}
wanted=${1:-${PULLTHROUGH_FINGERPRINT:-}}

fail() {
  printf 'pullthrough setup %s: %s\n' "$client" "$1" >&2
  exit 1
}

wanted=$(printf '%s' "$wanted" | tr -d ': \t' | tr 'ABCDEF' 'abcdef')
case $wanted in
  '') fail "the CA's fingerprint is missing. On the proxy's machine, pullthrough ca show prints it; give it as the argument" ;;
  *[!0-9a-f]*) fail "the fingerprint holds something else than hexadecimal digits" ;;
esac
[ "${#wanted}" -eq 64 ] || fail "the fingerprint is not a SHA-256: it has ${#wanted} digits instead of 64"
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root"

# The proxy itself is not reached through a proxy.
unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY

# Runs a command in the system that is set up.
run() {
  if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi
}

# Services are those of this machine: an image has none that run.
service() {
  if [ -n "$root" ]; then
    printf 'left out: %s\n' "$1"
  else
    printf 'run: %s\n' "$1"
    sh -c "$1" || fail "$1 failed: see the lines above"
  fi
}
"#;

const CERTIFICATE: &str = r#"
# The CA's certificate: exactly one, with exactly this fingerprint.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -n "${PULLTHROUGH_CA_FILE:-}" ]; then
  cp "$PULLTHROUGH_CA_FILE" "$scratch/fetched"
elif command -v curl >/dev/null 2>&1; then
  curl -fsS -o "$scratch/fetched" "$proxy/ca.crt" || fail "$proxy/ca.crt cannot be fetched: is the proxy there?"
elif command -v wget >/dev/null 2>&1; then
  wget -q -O "$scratch/fetched" "$proxy/ca.crt" || fail "$proxy/ca.crt cannot be fetched: is the proxy there?"
else
  fail "neither curl nor wget is here: install one of them, or bring the CA along and name it by PULLTHROUGH_CA_FILE"
fi
[ "$(grep -c -e '-----BEGIN' "$scratch/fetched")" = 1 ] || fail "$proxy/ca.crt does not hold exactly one certificate"
sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p' "$scratch/fetched" | sed '/-----/d' >"$scratch/base64"
base64 -d <"$scratch/base64" >"$scratch/der" || fail "$proxy/ca.crt is no certificate"
found=$(sha256sum <"$scratch/der" | cut -d ' ' -f 1)
[ "$found" = "$wanted" ] || fail "this is another CA: its fingerprint is $found. Nothing was changed"
{
  echo '-----BEGIN CERTIFICATE-----'
  base64 <"$scratch/der"
  echo '-----END CERTIFICATE-----'
} >"$scratch/ca.crt"

changed=
# write_file PATH: standard input becomes the file.
write_file() {
  mkdir -p "$root$(dirname "$1")"
  cat >"$root$1"
  changed="$changed $1"
  printf 'wrote %s\n' "$1"
}

# write_lines PATH: standard input becomes our lines in the file, in place of those that were there.
write_lines() {
  mkdir -p "$root$(dirname "$1")"
  [ -e "$root$1" ] || : >"$root$1"
  sed '/^BEGIN_MARK$/,/^END_MARK$/d' "$root$1" >"$scratch/lines"
  {
    echo 'BEGIN_MARK'
    cat
    echo 'END_MARK'
  } >>"$scratch/lines"
  cat "$scratch/lines" >"$root$1"
  changed="$changed $1"
  printf 'added lines to %s\n' "$1"
}
"#;

/// Where no file of ours fits this machine, it has not the client.
const NOTHING: &str = r#"
[ -n "$changed" ] || fail "$client is not installed here: nothing was set up but the CA"
"#;

fn trust(text: &mut String) {
    // Our marks hold no character that sed or the shell gives a meaning to.
    *text = text.replace("BEGIN_MARK", MARKS[0]).replace("END_MARK", MARKS[1]);
    text.push_str("\n# The trust store of this family of distributions.\n");
    for (index, family) in FAMILIES.iter().enumerate() {
        let (word, last) = (if index == 0 { "if" } else { "elif" }, index + 1 == FAMILIES.len());
        let also = if last { " || [ -e \"$root/usr/sbin/update-ca-certificates\" ]" } else { "" };
        let _ = writeln!(
            text,
            "{word} [ -d \"$root{folder}\" ]{also}; then # {name}\n  store='{file}' update='{update}'",
            folder = family.folder,
            name = family.name,
            file = family.file(),
            update = family.update,
        );
    }
    text.push_str(
        "else\n  fail \"no trust store is known here: install the package ca-certificates\"\nfi\numask 022\n\
         mkdir -p \"$root$(dirname \"$store\")\"\ncat \"$scratch/ca.crt\" >\"$root$store\"\n\
         run \"$update\" >/dev/null || fail \"$update failed: the CA is in $store and not trusted yet\"\n\
         printf 'trusts the CA: %s\\n' \"$store\"\n",
    );
}

fn put(text: &mut String, written: &Written, verb: &str) {
    let here = format!("{verb} '{}' <<'PULLTHROUGH'\n{}PULLTHROUGH\n", written.path, written.text);
    match written.only_with {
        None => text.push_str(&here),
        Some(path) => {
            let _ = writeln!(text, "if [ -e \"$root{path}\" ]; then\n{here}fi");
        }
    }
}

fn end(text: &mut String, plan: &Plan) {
    text.push_str("\ncat <<'PULLTHROUGH'\nDone.\n");
    for words in &plan.words {
        let _ = writeln!(text, "{words}");
    }
    text.push_str("PULLTHROUGH\ncat <<PULLTHROUGH\nUndo, as root:\n  rm$UNDO $store && $update\n");
    for command in &plan.run {
        let _ = writeln!(text, "  {}", command.replace('$', "\\$"));
    }
    text.push_str("PULLTHROUGH\n");
    let files = if plan.lines.is_empty() { "$changed" } else { "" };
    *text = text.replace("rm$UNDO", &format!("rm{files}"));
    for lines in &plan.lines {
        let _ = writeln!(text, "printf '  %s\\n' \"sed -i '/^{}\\$/,/^{}\\$/d' {}\"", MARKS[0], MARKS[1], lines.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::plan;

    #[test]
    fn a_script_is_made_for_whatever_a_script_can_do() {
        let proxy: ProxyUrl = "http://proxy:3128".parse().unwrap();
        for client in Client::ALL {
            let plan = plan(client, &proxy);
            let script = script(client, &proxy, &plan);
            assert_eq!(script.is_some(), plan.scripted);
            let Some(script) = script else { continue };
            assert!(script.starts_with("#!/bin/sh\n") && !script.contains("_MARK"), "{script}");
            for family in FAMILIES {
                assert!(script.contains(family.folder), "{}", family.name);
            }
        }
    }
}
