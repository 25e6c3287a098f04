//! The standard library, with the locks of shuttle in place of its own: at each of them another thread may go on.

pub use ::std::*;

/// As `std::sync`.
pub mod sync {
    pub use ::std::sync::*;
    pub use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
}
