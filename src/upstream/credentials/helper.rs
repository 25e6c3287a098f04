//! Runs a credential helper, `docker-credential-NAME get`, for one server, in bounded time and output.
//!
//! The program runs as from a login: with our environment (cloud helpers find their own credentials there), a home that it
//! can write to (`helper_home`), and the usual soft limit on open files. Its output is never repeated, since it holds a
//! secret; what it writes to its standard error is logged without what looks like one (`helper_words`).

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::helper_home::HelperHome;
use super::helper_words::HelperWords;
use super::{Credential, CredentialError};
use crate::host::Secret;

/// So long a helper may take: one that asks a cloud's metadata service needs seconds at times.
const PATIENCE: Duration = Duration::from_secs(15);
/// An answer is a line of JSON; a token in it may have a few kilobytes.
const OUTPUT_LIMIT: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(5);
/// The soft limit on open files that a login has. Some programs close, or ask about, every file that they may have: with
/// ours they are busy for seconds.
const FILES: u64 = 1024;
const PREFIX: &str = "docker-credential-";
/// What the reference implementation prints where it has nothing (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &str = "credentials not found";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: Secret,
}

/// Whether this can be a helper: a short name, or the absolute path of a program.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    text.starts_with('/') || (!text.is_empty() && !text.starts_with('-') && text.bytes().all(plain))
}

/// The program of a helper's name.
pub(crate) fn program(name: &str) -> String {
    if name.starts_with('/') || name.starts_with(PREFIX) { name.to_owned() } else { format!("{PREFIX}{name}") }
}

/// Whether the helper's program is there and may be run.
pub(crate) fn is_there(name: &str) -> bool {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let program = program(name);
    if program.starts_with('/') {
        return runs(Path::new(&program));
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| runs(&folder.join(&program))))
}

/// Runs a helper for `server`. `None` where it knows nothing of it. Blocks, for at most 15 s.
pub(crate) fn ask(name: &str, server: &str, home: &HelperHome) -> Result<Option<Credential>, CredentialError> {
    ask_within(name, server, home, PATIENCE)
}

fn ask_within(
    name: &str,
    server: &str,
    home: &HelperHome,
    patience: Duration,
) -> Result<Option<Credential>, CredentialError> {
    if !is_name(name) {
        return Err(CredentialError::HelperName);
    }
    let program = program(name);
    let deadline = Instant::now() + patience;
    let cannot = |source| CredentialError::HelperStart { program: program.clone(), source: Arc::new(source) };
    let mut command = Command::new(&program);
    // A group of its own, so that what it started in turn ends with it.
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.envs(home.variables());
    let mut child = command.spawn().map_err(cannot)?;
    limit_files(&child); // before it is told what it is asked for
    let words = child.stderr.take().map(HelperWords::read);
    let tell = |outcome: &str| {
        if let Some(words) = words.as_ref().and_then(HelperWords::line) {
            tracing::warn!(
                program,
                server,
                outcome,
                stderr = words,
                "a credential helper failed; this is what it says"
            );
        }
    };
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(server.as_bytes()); // one that does not read its input answers all the same
    }
    let slow = || CredentialError::HelperSlow { program: program.clone(), seconds: patience.as_secs() };
    let output = child.stdout.take().map(read).and_then(|output| output.recv_timeout(patience).ok());
    let Some((output, status)) = output.and_then(|output| Some((output, ended(&mut child, deadline)?))) else {
        end(&mut child);
        tell("no answer in time");
        return Err(slow());
    };
    if !status.success() {
        let text = String::from_utf8_lossy(&output);
        if text.contains(NOT_FOUND) {
            return Ok(None);
        }
        let (server, status) = (server.to_owned(), status.to_string());
        tell(&status);
        return Err(CredentialError::HelperFailed { program, server, status });
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(&output) else {
        tell("no answer of a credential helper");
        return Err(CredentialError::HelperAnswer { program });
    };
    Ok((!answer.secret.is_empty()).then(|| Credential::new(answer.user, answer.secret)))
}

/// Gives the helper the soft limit of a login. Its hard limit stays: what needs more may raise its own again.
fn limit_files(child: &Child) {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(hard.map_or(FILES, |hard| hard.min(FILES))), maximum: hard };
    if let Err(error) = prlimit(Some(Pid::from_child(child)), Resource::Nofile, limit) {
        tracing::debug!(%error, "a credential helper keeps this process's limit on open files");
    }
}

/// Reads on a thread of its own: a pipe that stays open must not be waited for without end.
fn read(output: impl Read + Send + 'static) -> mpsc::Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(8 << 10));
        if output.take(OUTPUT_LIMIT).read_to_end(&mut bytes).is_ok() {
            let _ = sender.send(bytes); // nobody may be waiting any more
        }
    });
    receiver
}

fn ended(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().ok()? {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

fn end(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Program(tempfile::TempDir);

    impl Program {
        fn new(script: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("docker-credential-lab");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("docker-credential-lab")
        }

        fn ask(&self, patience: Duration) -> Result<Option<Credential>, CredentialError> {
            let home = HelperHome::new(Some(self.0.path().join("home")));
            ask_within(self.path().to_str().unwrap(), "r.example.com", &home, patience)
        }
    }

    #[test]
    fn a_helper_is_asked_as_docker_asks_it() {
        let script =
            r#"read server; printf '{"ServerURL":"%s","Username":"%s","Secret":"s-%s"}' "$server" "$1" "$server""#;
        let found = Program::new(script).ask(PATIENCE).unwrap();
        assert_eq!(found, Some(Credential::new("get".into(), Secret::new("s-r.example.com".into()))));
        let token = Program::new(r#"echo '{"Username":"<token>","Secret":"t"}'"#).ask(PATIENCE).unwrap();
        assert_eq!(token, Some(Credential::Identity { token: Secret::new("t".into()) }));
    }

    #[test]
    fn a_helper_that_knows_nothing_is_no_failure() {
        let script = "echo credentials not found in native keychain; exit 1";
        assert_eq!(Program::new(script).ask(PATIENCE).unwrap(), None);
    }

    #[test]
    fn a_helper_that_fails_is_told_without_its_words() {
        for (script, expected) in [
            ("echo canary; echo canary >&2; exit 3", "failed for r.example.com (exit status: 3)"),
            ("echo canary", "did not answer with Username and Secret"),
            ("head -c 1000000 /dev/zero", "failed"),
        ] {
            let error = Program::new(script).ask(PATIENCE).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        }
        let error = ask("/nowhere/docker-credential-x", "r", &HelperHome::new(None)).unwrap_err();
        assert!(matches!(error, CredentialError::HelperStart { .. }));
    }

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_failed_helper_says_is_logged_in_one_line_without_its_secrets() {
        for script in [
            "echo 'no route to sts.example.com' >&2; echo 'password=canary' >&2; echo canary; exit 3",
            "printf 'no route to sts.example.com\\nBearer canary' >&2; echo canary",
        ] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
            tracing::subscriber::with_default(subscriber, || Program::new(script).ask(PATIENCE).unwrap_err());
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            let told: Vec<&str> = text.lines().filter(|line| line.contains("no route to sts.example.com")).collect();
            assert!(told.len() == 1 && told[0].contains("r.example.com") && !text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn a_helper_has_the_limits_of_a_login_and_a_home_that_it_can_write_to() {
        let script = r#"read server
            echo x > "$HOME/.written" && echo x > "${XDG_CACHE_HOME:-$HOME/.cache}/written" || exit 4
            printf '{"Username":"%s","Secret":"%s"}' "$(ulimit -Sn)" "$HOME""#;
        // As under systemd with DynamicUser: no home that anybody could write to.
        let program = Program::new(script);
        let home = HelperHome::of(Some("/nowhere".into()), None, Some(program.0.path().join("home")));
        let (path, patience) = (program.path(), PATIENCE);
        let found = ask_within(path.to_str().unwrap(), "r.example.com", &home, patience).unwrap();
        let home = program.0.path().join("home");
        let expected = Credential::new("1024".into(), Secret::new(home.to_str().unwrap().to_owned()));
        assert_eq!(found, Some(expected));
        assert!(home.join(".written").is_file() && home.join(".cache/written").is_file());
    }

    #[test]
    fn a_helper_that_hangs_is_ended_with_all_that_it_started() {
        let program = Program::new("echo $$ > \"$0.pid\"; sleep 600 & sleep 600");
        let error = program.ask(Duration::from_secs(2)).unwrap_err();
        assert!(matches!(error, CredentialError::HelperSlow { .. }), "{error}");
        let pid: i32 = fs::read_to_string(program.path().with_extension("pid")).unwrap().trim().parse().unwrap();
        // What was killed takes a moment to be gone.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_gone(pid) {
            assert!(Instant::now() < deadline, "something of the helper's group {pid} is left");
            std::thread::yield_now();
        }
    }

    fn is_gone(group: i32) -> bool {
        rustix::process::test_kill_process_group(Pid::from_raw(group).unwrap()).is_err() || zombies_only(group)
    }

    /// Killed children of the helper may wait for init to take notice of them.
    fn zombies_only(group: i32) -> bool {
        let stats =
            fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.to_owned())).all(|fields| {
            let fields: Vec<&str> = fields.split(' ').collect();
            fields[2] != group.to_string() || fields[0] == "Z"
        })
    }

    #[test]
    fn a_helpers_name_is_a_word_or_a_path() {
        for (name, expected) in [
            ("ecr-login", true),
            ("gcr", true),
            ("/usr/bin/x y", true),
            ("", false),
            ("a/b", false),
            ("-x", false),
            ("a b", false),
            ("../x", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        assert_eq!(program("ecr-login"), "docker-credential-ecr-login");
        assert_eq!(program("docker-credential-gcr"), "docker-credential-gcr");
    }
}
