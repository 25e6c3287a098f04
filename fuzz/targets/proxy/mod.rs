//! What clients and registries send to the proxy: connections, heads, and single fields.

mod door;
mod fields;
mod hello;
mod inside;
mod naming;
mod sent;
mod stage;
mod tokens;

pub use door::{door, first_bytes, proxy_header};
pub use fields::{authorization, content_range};
pub use hello::hello;
pub use inside::inside;
pub use naming::naming;
pub use tokens::{bearers, token_request};
