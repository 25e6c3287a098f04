//! The way to the catalog's thread: a bounded queue, and before it the few notes that must not be lost.
//!
//! Most of what does not fit is learned again. That a registry took a right back is not: its repository is public
//! no more, and after the next start would be again. Such a note waits here for its place in the queue, and nothing
//! that is sent later overtakes it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::change::Change;
use super::command::WriterCommand;
use crate::store::Error;
use crate::store::lock::lock;

/// What is to be sent.
pub(crate) struct Queue {
    commands: SyncSender<WriterCommand>,
    retained: Mutex<VecDeque<Change>>,
}

impl Queue {
    pub(crate) fn new(commands: SyncSender<WriterCommand>) -> Self {
        Self { commands, retained: Mutex::default() }
    }

    /// Sends without waiting; what is retained goes first.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: it was not sent.
    pub(crate) fn send(&self, command: WriterCommand) -> Result<(), Error> {
        self.drain_retained()?;
        self.commands.try_send(command).map_err(|error| refusal(&error))
    }

    /// Sends as soon as there is room. Blocks.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn send_waiting(&self, command: WriterCommand) -> Result<(), Error> {
        loop {
            // No lock while it waits. Of what is retained, the command does not matter.
            let Some(change) = lock(&self.retained).pop_front() else { break };
            self.commands.send(WriterCommand::Change(change)).map_err(|_| Error::Closed)?;
        }
        self.commands.send(command).map_err(|_| Error::Closed)
    }

    /// Sends a note that must not be lost, now or when there is room.
    pub(crate) fn send_retained(&self, change: Change) {
        lock(&self.retained).push_back(change);
        let _ = self.drain_retained(); // whoever sends next tries again, and so does the thread when it has nothing to do
    }

    /// Sends what is retained, as far as there is room.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: something is left.
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
