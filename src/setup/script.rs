//! Writes a plan as a POSIX shell script, for machines that have only curl or wget.
//!
//! The script comes over plain HTTP, from a proxy that is not trusted yet. So it does nothing without the CA's fingerprint
//! from its caller, and installs exactly the certificate with that fingerprint: one certificate, written again from the
//! bytes that were hashed. An attacker on the network can change the script too; its header says so. All of it is one
//! function that the last line calls: a truncated transfer runs nothing, and no command reads the rest of the script as
//! its input. Missing tools are found before anything is changed.

use std::fmt::Write as _;

use super::plan::Written;
use super::{ClientKind, ProxyUrl, SetupPlan, TRUST_STORES, plan};

/// The markers around our lines in files of others.
pub(super) const MARKS: [&str; 2] = ["# pullthrough begin", "# pullthrough end"];

/// The last lines: what is there is run now, and reads none of the script.
pub(super) const ENDING: &str = "}\n\nmain \"$@\" </dev/null\n";

/// The variables that a script reads.
pub const VARIABLES: [&str; 5] =
    ["PULLTHROUGH_PROXY", "PULLTHROUGH_FINGERPRINT", "PULLTHROUGH_CA_FILE", "PULLTHROUGH_ROOT", "PULLTHROUGH_PROGRAM"];

/// The script for `proxy`, unless its caller names another; `None` if a script cannot do it. With `users` the proxy
/// requires a user and a password, so an address without them is refused.
#[must_use]
pub fn script(client: ClientKind, proxy: &ProxyUrl, users: bool) -> Option<String> {
    if !plan(client, proxy).scripted {
        return None;
    }
    let plan = &plan(client, &ProxyUrl::of_script());
    let mut text = head(client, proxy, users);
    text.push_str(BEGIN);
    text.push_str(FINGERPRINT);
    text.push_str(ADDRESS);
    if plan.files.iter().any(|file| file.text.contains("$in_unit")) {
        text.push_str("in_unit=$(printf '%s' \"$proxy\" | sed 's/%/%%/g')\n"); // systemd's specifiers
    }
    needs(&mut text, plan);
    text.push_str("\n# The CA's certificate: exactly one, with exactly this fingerprint.\nscratch=$(mktemp -d)\ntrap 'rm -rf \"$scratch\"' EXIT");
    text.push_str(VERIFY);
    text.push_str(WRITING);
    trust(&mut text);
    text.push_str("\n# The client's own files.\n");
    for file in &plan.files {
        put(&mut text, file, "write_file");
    }
    for lines in &plan.lines {
        put(&mut text, lines, "write_lines");
    }
    for command in &plan.run {
        let _ = writeln!(text, "service '{}'", command.replace('\'', r"'\''"));
    }
    end(&mut text, plan);
    text.push_str(ENDING);
    Some(text)
}

fn head(client: ClientKind, proxy: &ProxyUrl, users: bool) -> String {
    format!(
        "#!/bin/sh\n# Sets this machine up to pull container images through {bare}: {client}.\n\
         # Made by pullthrough {version}. Run it as root, with the CA's fingerprint:\n#\n\
         #   curl -fsS {bare}/setup/{client} | sh -s -- FINGERPRINT\n#\n\
         # FINGERPRINT is the SHA-256 that `pullthrough serve` and `pullthrough ca show` print on the proxy's own\n\
         # machine. This text came over the network: if others can change it on the way, read it before you run it.\n\
         #\n# PULLTHROUGH_FINGERPRINT may hold the fingerprint, PULLTHROUGH_CA_FILE a copy of the CA to use instead\n\
         # of a download, PULLTHROUGH_ROOT the root folder of another system (an image) to set up,\n\
         # PULLTHROUGH_PROXY the proxy's address with a user and a password: http://user:password@host:port\n\
         set -eu\n\n# It runs completely or not at all: a truncated transfer has no last line.\nmain() {{\n\
         client='{client}'\ndefault='{proxy}'\nusers='{users}'\n",
        proxy = proxy.as_str(),
        bare = proxy.bare(),
        users = if users { "yes" } else { "" },
        version = env!("CARGO_PKG_VERSION"),
    )
}

const BEGIN: &str = r#"root=${PULLTHROUGH_ROOT:-}
proxy=${PULLTHROUGH_PROXY:-$default}
proxy=${proxy%/}
wanted=${1:-${PULLTHROUGH_FINGERPRINT:-}}

fail() {
  printf 'pullthrough setup %s: %s\n' "$client" "$1" >&2
  exit 1
}

"#;

/// Checks the form of the fingerprint that is `$wanted`.
pub(super) const FINGERPRINT: &str = r#"wanted=$(printf '%s' "$wanted" | tr -d ': \t' | tr 'ABCDEF' 'abcdef')
case $wanted in
  '') fail "the CA's fingerprint is missing. Run pullthrough ca show on the proxy's machine and pass it as the argument" ;;
  *[!0-9a-f]*) fail "the fingerprint contains characters other than hexadecimal digits" ;;
esac
[ "${#wanted}" -eq 64 ] || fail "the fingerprint is not a SHA-256: it has ${#wanted} digits instead of 64"
"#;

const ADDRESS: &str = r#"[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "run it as root"

# The proxy's address goes into files that other programs parse: it must contain nothing with a meaning to them.
LC_ALL=C
export LC_ALL
case $proxy in
  http://?* | https://?*) ;;
  *) fail "PULLTHROUGH_PROXY is not the address of a proxy, such as http://user:password@host:port" ;;
esac
case ${proxy#*://} in
  *[!]A-Za-z0-9._~%:@+[-]*) fail "PULLTHROUGH_PROXY contains a character that is not allowed in an address: write it as %XX" ;;
esac
secret=''
bare=$proxy
shown=$proxy
case $proxy in
  *@*)
    secret=yes
    bare=${proxy%%://*}://${proxy##*@}
    shown=${proxy%%://*}://user:password@${proxy##*@}
    ;;
esac
[ -z "$users" ] || [ -n "$secret" ] || fail "this proxy requires a user and a password: set PULLTHROUGH_PROXY=http://user:password@${proxy##*://} in this script's environment"

# The proxy itself is not reached through a proxy.
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
    sh -c "$1" || fail "$1 failed: see the messages above"
  fi
}
"#;

/// Brings the certificate whose fingerprint is `$wanted` to `$scratch/ca.crt`. The fingerprint decides, so a server that this
/// machine does not trust yet may bring it.
pub(super) const VERIFY: &str = r#"
if [ -n "${PULLTHROUGH_CA_FILE:-}" ]; then
  cp "$PULLTHROUGH_CA_FILE" "$scratch/fetched"
elif command -v curl >/dev/null 2>&1; then
  curl -fsSk -o "$scratch/fetched" "$bare/ca.crt" || fail "cannot download $bare/ca.crt: is the proxy running?"
elif command -v wget >/dev/null 2>&1; then
  case $bare in https://*) set -- --no-check-certificate ;; *) set -- ;; esac
  wget -q "$@" -O "$scratch/fetched" "$bare/ca.crt" || fail "cannot download $bare/ca.crt: is the proxy running?"
else
  fail "neither curl nor wget is installed: install one of them, or copy the CA here and name it in PULLTHROUGH_CA_FILE"
fi
[ "$(grep -c -e '-----BEGIN' "$scratch/fetched")" = 1 ] || fail "$bare/ca.crt does not contain exactly one certificate"
sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p' "$scratch/fetched" | sed '/-----/d' >"$scratch/base64"
base64 -d <"$scratch/base64" >"$scratch/der" || fail "$bare/ca.crt is not a certificate"
found=$(sha256sum <"$scratch/der" | cut -d ' ' -f 1)
[ "$found" = "$wanted" ] || fail "this is another CA: its fingerprint is $found. Nothing was changed"
{
  echo '-----BEGIN CERTIFICATE-----'
  base64 <"$scratch/der"
  echo '-----END CERTIFICATE-----'
} >"$scratch/ca.crt"
"#;

const WRITING: &str = r#"
changed=
# Only root may read a file that contains a password, from its first byte on.
close() {
  if [ -n "$secret" ]; then
    [ -e "$root$1" ] || (umask 077 && : >"$root$1")
    chmod 600 "$root$1"
  fi
}

# write_file PATH: standard input becomes the file.
write_file() {
  mkdir -p "$root$(dirname "$1")"
  close "$1"
  cat >"$root$1"
  [ -n "$secret" ] || chmod 644 "$root$1"
  changed="$changed $1"
  printf 'wrote %s\n' "$1"
}

# write_lines PATH: standard input becomes our lines in the file and replaces our earlier ones.
write_lines() {
  mkdir -p "$root$(dirname "$1")"
  [ -e "$root$1" ] || : >"$root$1"
  close "$1"
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

/// Checks what the machine must have.
fn needs(text: &mut String, plan: &SetupPlan) {
    text.push_str("\n# Checks the requirements before anything is changed.\n");
    if plan.public {
        text.push_str(
            "[ -z \"$secret\" ] || fail \"every user reads its file, so no password is written there: put it into each user's own \
             ~/.config/containers/containers.conf.d (chmod 600) or environment. Nothing was changed\"\n",
        );
    }
    let all: Vec<&Written> = plan.files.iter().chain(&plan.lines).collect();
    if all.iter().all(|one| !one.only_with.is_empty()) {
        let any: Vec<&str> = all.iter().flat_map(|one| one.only_with.iter().copied()).collect();
        let _ =
            writeln!(text, "{} || fail \"$client is not installed here: nothing was changed\"", there(&any, " ||\n  "));
    }
    let tool = plan.run.first().and_then(|command| command.split(' ').next());
    let Some(tool) = tool else { return };
    let _ = writeln!(
        text,
        "[ -n \"$root\" ] || command -v {tool} >/dev/null 2>&1 || fail \"{tool} is not installed; nothing was changed: set \
         HTTPS_PROXY=$shown by hand where $client is started (OpenRC: /etc/conf.d/$client), and trust $bare/ca.crt\""
    );
    if let Some(unit) = plan.unit {
        let _ = writeln!(
            text,
            "[ -n \"$root\" ] || [ \"$(systemctl show -p LoadState {unit}.service 2>/dev/null)\" = LoadState=loaded ] || fail \
             \"systemd has no {unit}.service here; nothing was changed: install it, or set HTTPS_PROXY=$shown by hand where \
             $client is started (another unit, rootless, a container), and trust $bare/ca.crt\""
        );
    }
}

/// The shell test that one of the files exists.
pub(super) fn there(paths: &[&str], or: &str) -> String {
    paths.iter().map(|path| format!("[ -e \"$root{path}\" ]")).collect::<Vec<_>>().join(or)
}

fn trust(text: &mut String) {
    // Our markers contain no character with a meaning to sed or the shell.
    *text = text.replace("BEGIN_MARK", MARKS[0]).replace("END_MARK", MARKS[1]);
    text.push_str("\n# The trust store of this family of distributions.\n");
    for (index, family) in TRUST_STORES.iter().enumerate() {
        let (word, last) = (if index == 0 { "if" } else { "elif" }, index + 1 == TRUST_STORES.len());
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
        "else\n  fail \"found no known trust store: install the package ca-certificates\"\nfi\numask 022\n\
         mkdir -p \"$root$(dirname \"$store\")\"\ncat \"$scratch/ca.crt\" >\"$root$store\"\nchmod 644 \"$root$store\"\n\
         run \"$update\" >/dev/null || fail \"$update failed: the CA is in $store but not trusted yet\"\n\
         printf 'now trusts the CA: %s\\n' \"$store\"\n",
    );
}

pub(super) fn put(text: &mut String, written: &Written, verb: &str) {
    let here = format!("{verb} '{}' <<PULLTHROUGH\n{}PULLTHROUGH\n", written.path, written.text);
    if written.only_with.is_empty() {
        text.push_str(&here);
    } else {
        let _ = writeln!(text, "if {}; then\n{here}fi", there(&written.only_with, " || "));
    }
}

fn end(text: &mut String, plan: &SetupPlan) {
    text.push_str("\ncat <<PULLTHROUGH\nDone.\n");
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
        for client in ClientKind::ALL {
            let plan = plan(client, &proxy);
            let script = script(client, &proxy, false);
            assert_eq!(script.is_some(), plan.scripted);
            let Some(script) = script else { continue };
            assert!(script.starts_with("#!/bin/sh\n") && !script.contains("_MARK"), "{script}");
            assert!(script.ends_with("}\n\nmain \"$@\" </dev/null\n"), "{script}");
            for family in TRUST_STORES {
                assert!(script.contains(family.folder), "{}", family.name);
            }
        }
    }
}
