//! Answers pulls of content: here cache and upstream meet.
//!
//! Flow: a [`Pull`](pull::Pull) is one GET or HEAD for a tag, a manifest or a blob. Its [`Puller`](puller::Puller) is who
//! asks for it: a principal at a place, and, made only when the cache comes to it, what asks the registry in its name
//! ([`Ask`](ask::Ask), the cache's [`Source`](crate::cache::Source)). What the cache finds becomes a response, whole or in
//! parts (`content`); what a registry's answer says of its content is read from its head (`answer_head`). A coding that
//! nobody asked for is taken off (`coding`), a page is told from a blob that is labelled as one (`page`), and redirects to
//! other registries' repositories are noted (`redirected`).
//! Scope: content. Pings, tokens, lists and pushes are answered elsewhere.
//! Never: send the caller's credentials to a mirror or to a host that a redirect led to; take a page for content; decide
//! who may read, which is the cache's to say.
//! Reading: RFC 9110 sections 13 (conditions), 14 (ranges); distribution-spec, "Pull"; docs/architecture.md.

pub(crate) mod answer_head;
pub(crate) mod ask;
pub(crate) mod coding;
pub(crate) mod content;
pub(crate) mod page;
pub(crate) mod pull;
pub(crate) mod puller;
pub(crate) mod redirected;
mod resumed;
pub(crate) mod source;
