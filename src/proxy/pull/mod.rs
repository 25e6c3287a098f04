//! ESSAY

pub(crate) mod answer_head;
pub(crate) mod ask;
pub(crate) mod content;
pub(crate) mod pull;
pub(crate) mod source;
pub(crate) mod token_holder;
