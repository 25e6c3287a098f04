//! The endpoints that bring the bytes of a fill, what they said, and which of them failed: the others are asked first.
//!
//! An endpoint that answers and then stalls, or lies, is well by its answers. That it failed with this content is
//! remembered here for the fill, and by `Fills` for the next one where the digest did not match.

use std::sync::Arc;

use crate::cache::Validator;

/// An endpoint's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: Arc<str>,
    has_brought: bool,
    /// How many failures there were when it failed last; 0 if it did not.
    failed: u32,
}

/// The endpoints of one content, as far as they have answered.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    known: Vec<Known>,
    failures: u32,
    validators: Vec<Validator>,
    has_lied: bool,
    /// Somebody lied before: the bytes are taken from one at a time, so that it is known who does.
    is_wary: bool,
}

impl Endpoints {
    /// These lied when the content was fetched before, the earliest first.
    pub(crate) fn wary_of(liars: &[Arc<str>]) -> Self {
        let mut endpoints = Self { is_wary: !liars.is_empty(), ..Self::default() };
        liars.iter().for_each(|name| endpoints.failed(name));
        endpoints
    }

    /// It answers with bytes.
    pub(crate) fn opened(&mut self, name: &Arc<str>) {
        self.entry(name).has_brought = true;
    }

    /// What it said of its version of the content.
    pub(crate) fn vouched(&mut self, validator: &Validator) {
        self.validators.retain(|known| known.endpoint != validator.endpoint);
        self.validators.push(validator.clone());
    }

    /// What was said so far.
    pub(crate) fn validators(&self) -> Vec<Validator> {
        self.validators.clone()
    }

    /// It broke off, stalled or contradicted itself.
    pub(crate) fn failed(&mut self, name: &Arc<str>) {
        self.failures += 1;
        self.entry(name).failed = self.failures;
    }

    /// The digest did not match: one of those that brought bytes did not bring the right ones.
    pub(crate) fn lied(&mut self) {
        self.has_lied = true;
        self.failures += 1;
        let failed = self.failures;
        self.known.iter_mut().filter(|known| known.has_brought).for_each(|known| known.failed = failed);
    }

    /// Those that failed, the earliest first.
    pub(crate) fn last(&self) -> Vec<Arc<str>> {
        let mut failed: Vec<&Known> = self.known.iter().filter(|known| known.failed > 0).collect();
        failed.sort_by_key(|known| known.failed);
        failed.into_iter().map(|known| Arc::clone(&known.name)).collect()
    }

    /// The same if the digest did not match.
    pub(crate) fn liars(&self) -> Option<Vec<Arc<str>>> {
        self.has_lied.then(|| self.last()).filter(|liars| !liars.is_empty())
    }

    /// Whether the lanes may be spread over them.
    pub(crate) fn may_be_mixed(&self) -> bool {
        !self.is_wary
    }

    fn entry(&mut self, name: &Arc<str>) -> &mut Known {
        let at = self.known.iter().position(|known| known.name == *name).unwrap_or_else(|| {
            self.known.push(Known { name: Arc::clone(name), has_brought: false, failed: 0 });
            self.known.len() - 1
        });
        &mut self.known[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[Arc<str>]) -> Vec<&str> {
        list.iter().map(|name| &**name).collect()
    }

    #[test]
    fn who_failed_is_last_and_who_failed_later_is_later() {
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut endpoints = Endpoints::default();
        endpoints.opened(&one);
        assert!(endpoints.last().is_empty() && endpoints.may_be_mixed());
        endpoints.failed(&one);
        endpoints.opened(&two);
        assert_eq!(names(&endpoints.last()), ["one"]);
        endpoints.failed(&two);
        assert_eq!(names(&endpoints.last()), ["one", "two"]);
        endpoints.failed(&one);
        assert_eq!(names(&endpoints.last()), ["two", "one"]);
        assert_eq!(endpoints.liars(), None, "a cut is no lie");
    }

    #[test]
    fn a_lie_is_laid_to_those_that_brought_bytes_and_makes_the_next_fill_wary() {
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut first = Endpoints::default();
        first.opened(&one);
        first.lied();
        let liars = first.liars().unwrap();
        assert_eq!(names(&liars), ["one"]);
        let mut next = Endpoints::wary_of(&liars);
        assert!(!next.may_be_mixed() && next.liars().is_none());
        next.opened(&two);
        next.lied();
        assert_eq!(names(&next.liars().unwrap()), ["one", "two"], "and then the first one again");
    }
}
