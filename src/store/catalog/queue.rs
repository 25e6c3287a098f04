//! Sends commands to the catalog's thread: a bounded queue, and before it the few changes that must not be lost.
//!
//! Most changes that do not fit are learned again. A withdrawn right is not: the repository would be public again after
//! the next start. Such a change waits here for its place in the queue, and no later command overtakes it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::change::Change;
use super::command::WriterCommand;
use crate::store::Error;
use crate::store::lock::lock;

/// The queue of commands.
pub(crate) struct Queue {
    commands: SyncSender<WriterCommand>,
    retained: Mutex<VecDeque<Change>>,
}

impl Queue {
    pub(crate) fn new(commands: SyncSender<WriterCommand>) -> Self {
        Self { commands, retained: Mutex::default() }
    }

    /// Sends without waiting. Retained changes go first.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: it was not sent.
    pub(crate) fn send(&self, command: WriterCommand) -> Result<(), Error> {
        self.drain_retained()?;
        self.commands.try_send(command).map_err(|error| refusal(&error))
    }

    /// Sends as soon as there is space. Blocks.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn send_waiting(&self, command: WriterCommand) -> Result<(), Error> {
        loop {
            // Holds no lock while it waits. The order of retained changes does not matter.
            let Some(change) = lock(&self.retained).pop_front() else { break };
            self.commands.send(WriterCommand::Change(change)).map_err(|_| Error::Closed)?;
        }
        self.commands.send(command).map_err(|_| Error::Closed)
    }

    /// Sends a change that must not be lost, now or when there is space.
    pub(crate) fn send_retained(&self, change: Change) {
        lock(&self.retained).push_back(change);
        let _ = self.drain_retained(); // the next sender tries again, and so does the idle thread
    }

    /// Sends the retained changes, as far as there is space.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: some are left.
    pub(crate) fn drain_retained(&self) -> Result<(), Error> {
        let mut retained = lock(&self.retained);
        while let Some(change) = retained.pop_front() {
            if let Err(error) = self.commands.try_send(WriterCommand::Change(change)) {
                let refusal = refusal(&error);
                if let TrySendError::Full(WriterCommand::Change(change))
                | TrySendError::Disconnected(WriterCommand::Change(change)) = error
                {
                    retained.push_front(change);
                }
                return Err(refusal);
            }
        }
        Ok(())
    }
}

fn refusal(error: &TrySendError<WriterCommand>) -> Error {
    match error {
        TrySendError::Full(_) => Error::Busy,
        TrySendError::Disconnected(_) => Error::Closed,
    }
}
