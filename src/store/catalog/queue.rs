//! The way to the catalog's thread: a bounded queue, and before it the few notes that must not be lost.
//!
//! Most of what does not fit is learned again. That a registry took a right back is not: its repository is public
//! no more, and after the next start would be again. Such a note waits here for its place in the queue, and nothing
//! that is sent later overtakes it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::change::Change;
use super::order::Order;
use crate::store::Error;
use crate::store::lock::lock;

/// What is to be sent.
pub(crate) struct Queue {
    orders: SyncSender<Order>,
    owed: Mutex<VecDeque<Change>>,
}

impl Queue {
    pub(crate) fn new(orders: SyncSender<Order>) -> Self {
        Self { orders, owed: Mutex::default() }
    }

    /// Sends without waiting; what is owed goes first.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: it was not sent.
    pub(crate) fn send(&self, order: Order) -> Result<(), Error> {
        self.pay()?;
        self.orders.try_send(order).map_err(|error| refusal(&error))
    }

    /// Sends as soon as there is room. Blocks.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn send_waiting(&self, order: Order) -> Result<(), Error> {
        loop {
            // No lock while it waits. Of what is owed, the order does not matter.
            let Some(note) = lock(&self.owed).pop_front() else { break };
            self.orders.send(Order::Change(note)).map_err(|_| Error::Closed)?;
        }
        self.orders.send(order).map_err(|_| Error::Closed)
    }

    /// Sends a note that must not be lost, now or when there is room.
    pub(crate) fn owe(&self, note: Change) {
        lock(&self.owed).push_back(note);
        let _ = self.pay(); // whoever sends next tries again, and so does the thread when it has nothing to do
    }

    /// Sends what is owed, as far as there is room.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Closed`]: something is left.
    pub(crate) fn pay(&self) -> Result<(), Error> {
        let mut owed = lock(&self.owed);
        while let Some(note) = owed.pop_front() {
            if let Err(error) = self.orders.try_send(Order::Change(note)) {
                let refusal = refusal(&error);
                if let TrySendError::Full(Order::Change(note)) | TrySendError::Disconnected(Order::Change(note)) = error
                {
                    owed.push_front(note);
                }
                return Err(refusal);
            }
        }
        Ok(())
    }
}

fn refusal(error: &TrySendError<Order>) -> Error {
    match error {
        TrySendError::Full(_) => Error::Busy,
        TrySendError::Disconnected(_) => Error::Closed,
    }
}
