//! A hostile client as tables: kinds of misbehaviour by doors, each cell with what came of it.
//!
//! Flow: a kind is bytes, written at each door of one proxy; what is answered becomes a word; the words are compared
//! with a table of text beside the code (`*.txt`, columns behind `|`), which is judged by the RFCs and not by the
//! program. After each kind an honest pull and the health page have to work.
//! A cell has the statuses in their order, then ` +` if an honest request on the same connection was answered as ever
//! (nothing is said where it ended), then ` ^N` if N requests reached an upstream.
//! Never: a wait for nothing to happen. What ends a cell is an answer or the connection's end.
//! Reading: RFC 9112 (messages), RFC 9110 (meaning), RFC 9113 (HTTP/2), RFC 8446 and 6066 (TLS).

mod asks;
mod bodies;
mod cold;
mod door;
mod floods;
mod frames;
mod heads;
mod hello;
mod hellos;
mod http2;
mod site;
mod slow;
mod speech;
mod table;
mod unread;
