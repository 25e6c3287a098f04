//! Verifies a user's password: off the network task, slowed after failures, remembered after successes.

use std::net::IpAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{error, info};

use super::htpasswd::{BadLine, Users};
use super::offer::Offer;
use super::throttle::LoginThrottle;
use crate::host::{MacKey, WatchedFile};

/// A password that was right is believed for so long, as long as the file's hash is the same.
const MEMORY: Duration = Duration::from_secs(5 * 60);
const REMEMBERED: u64 = 10_000;
/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);
const FILE_LIMIT: u64 = 4 << 20;
/// How long a login waits for a free core.
const QUEUE: Duration = Duration::from_secs(10);
/// The result of verifying credentials for the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They are this user's.
    Welcome(Arc<str>),
    /// They are nobody's: 407 (or 401 on the mirror).
    Wrong,
    /// Too many are being checked: 503.
    Busy,
}

/// An htpasswd file that cannot be used at start.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It cannot be read.
    #[error("{} cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// It has lines that cannot be used.
    #[error("{}: {}", .0.display(), .1.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    BadLines(PathBuf, Vec<BadLine>),
    /// The system has no random numbers.
    #[error("the system's random numbers cannot be read")]
    NoRandom,
}

/// The users of one htpasswd file. Cheap to clone; clones share what is remembered.
#[derive(Clone)]
pub struct Logins(Arc<Inner>);

struct Inner {
    file: WatchedFile,
    state: Mutex<State>,
    mac: MacKey,
    good: moka::sync::Cache<[u8; 32], ()>,
    throttle: LoginThrottle,
    turns: Arc<Semaphore>,
}

struct State {
    users: Arc<Users>,
    looked: Instant,
}

impl Logins {
    /// Opens a file. Blocks; call within a runtime.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn open(path: PathBuf) -> Result<Self, LoginError> {
        let file = WatchedFile::new(path, FILE_LIMIT);
        let read = file.read_if_changed().map_err(|source| LoginError::File(file.path().to_owned(), source))?;
        let users = Users::parse(&read.unwrap_or_default())
            .map_err(|bad_lines| LoginError::BadLines(file.path().to_owned(), bad_lines))?;
        let mac = MacKey::random().ok_or(LoginError::NoRandom)?;
        // Half of the cores: pulls go on while passwords are guessed.
        let turns = std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        Ok(Self(Arc::new(Inner {
            file,
            state: Mutex::new(State { users: Arc::new(users), looked: Instant::now() }),
            mac,
            good: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build(),
            throttle: LoginThrottle::new(),
            turns: Arc::new(Semaphore::new(turns)),
        })))
    }

    /// Verifies what `client` offers. Waits longer the more has failed before. Cancel-safe, though a login that
    /// is left while its hash is computed is not counted.
    pub async fn verify(&self, client: IpAddr, offer: &Offer) -> Admission {
        let users = self.users().await;
        let found = users.find(&offer.user);
        let mac = found.as_ref().map(|(_, hash)| self.0.mac_of(offer, hash));
        let remembered = || mac.is_some_and(|mac| self.0.good.contains_key(&mac));
        if let Some((user, _)) = found.as_ref().filter(|_| remembered()) {
            return Admission::Welcome(user.clone());
        }
        let wait = self.0.throttle.wait(client, &offer.user);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let Ok(Ok(turn)) = tokio::time::timeout(QUEUE, self.0.turns.clone().acquire_owned()).await else {
            return Admission::Busy;
        };
        // A fleet that starts together has one password: a login that waited may find it remembered.
        if let Some((user, _)) = found.as_ref().filter(|_| remembered()) {
            return Admission::Welcome(user.clone());
        }
        let hash = found.as_ref().map_or_else(|| users.decoy(), |(_, hash)| hash.clone());
        let password = offer.password.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn; // kept until the work is done, even if its caller left
            bcrypt::verify(password.expose(), &hash).unwrap_or(false)
        });
        match (verified.await, found, mac) {
            (Ok(true), Some((user, _)), Some(mac)) => {
                self.0.good.insert(mac, ());
                self.0.throttle.succeeded(client, &offer.user);
                Admission::Welcome(user)
            }
            (Ok(_), ..) => {
                self.0.throttle.failed(client, &offer.user);
                Admission::Wrong
            }
            (Err(_), ..) => Admission::Busy,
        }
    }

    /// The users as the file has them now; one caller looks, others go on with what is known.
    async fn users(&self) -> Arc<Users> {
        let (users, stale) = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            let stale = state.looked.elapsed() >= LOOK;
            if stale {
                state.looked = Instant::now();
            }
            (state.users.clone(), stale)
        };
        if !stale {
            return users;
        }
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || inner.look()).await.unwrap_or(users)
    }
}

impl Inner {
    /// Reads the file if it changed. One that cannot be used leaves the users that are in force.
    fn look(&self) -> Arc<Users> {
        let path = self.file.path().display();
        let read = match self.file.read_if_changed() {
            Ok(None) => None,
            Ok(Some(bytes)) => match Users::parse(&bytes) {
                Ok(users) => Some(Arc::new(users)),
                Err(bad_lines) => {
                    for bad_line in bad_lines.iter().take(10) {
                        error!(%path, flaw = %bad_line, "the htpasswd file has mistakes; the earlier users stay in effect");
                    }
                    None
                }
            },
            Err(error) => {
                error!(%path, %error, "cannot read the htpasswd file; the earlier users stay in effect");
                None
            }
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(users) = read {
            if users.count() != state.users.count() {
                info!(%path, users = users.count(), "reloaded the htpasswd file");
            }
            state.users = users;
        }
        state.users.clone()
    }

    /// Under a key that dies with the process: a dump of what is remembered is no list of passwords.
    fn mac_of(&self, offer: &Offer, hash: &str) -> [u8; 32] {
        self.mac.of(&[offer.user.as_bytes(), hash.as_bytes(), offer.password.expose().as_bytes()])
    }
}
