//! Repeats a slow request next to the first: the upstream may have become unreachable meanwhile, or only be slow.

use std::pin::pin;

/// Sends a request. Whenever `again` ends before there is an answer, sends another; the first request continues, and the
/// last of the later ones. The first success is the answer; a failure is, once no request is in progress. As cancel-safe
/// as `ask`.
///
/// # Errors
/// The error of the last remaining request.
pub async fn asked_anew<T, E, F, G>(ask: impl Fn() -> F, again: impl Fn() -> G) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    G: Future<Output = ()>,
{
    let (mut first, mut bell) = (pin!(ask()), pin!(again()));
    let mut has_failed = false;
    let mut later = None;
    loop {
        tokio::select! {
            biased;
            answer = first.as_mut(), if !has_failed => {
                if answer.is_ok() || later.is_none() {
                    return answer;
                }
                has_failed = true;
            }
            answer = ended::<Result<T, E>, F>(&mut later), if later.is_some() => {
                if answer.is_ok() || has_failed {
                    return answer;
                }
                later = None;
            }
            () = bell.as_mut() => {
                later = Some(Box::pin(ask()));
                bell.set(again());
            }
        }
    }
}

async fn ended<T, F: Future<Output = T>>(later: &mut Option<std::pin::Pin<Box<F>>>) -> T {
    match later {
        Some(later) => later.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Asks questions that are answered after so many seconds, and again after each of the pauses. When the answer came,
    /// what it was, and how many questions there were.
    async fn play(answers: &[(u64, Result<u8, u8>)], pauses: &[u64]) -> (u64, Result<u8, u8>, usize) {
        let (begun, asked) = (Instant::now(), Cell::new(0));
        let pauses = RefCell::new(pauses.iter().copied().collect::<VecDeque<_>>());
        let ask = || {
            let (after, answer) = answers[asked.get()];
            asked.set(asked.get() + 1);
            async move {
                sleep(Duration::from_secs(after)).await;
                answer
            }
        };
        let again = || {
            let pause = pauses.borrow_mut().pop_front();
            async move {
                match pause {
                    Some(pause) => sleep(Duration::from_secs(pause)).await,
                    None => std::future::pending().await,
                }
            }
        };
        let answer = asked_anew(ask, again).await;
        (begun.elapsed().as_secs(), answer, asked.get())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_counts_and_a_slow_one_is_waited_for() {
        const NEVER: u64 = 1_000_000;
        assert_eq!(play(&[(3, Ok(1))], &[]).await, (3, Ok(1), 1));
        assert_eq!(play(&[(NEVER, Ok(1)), (1, Ok(2))], &[5]).await, (6, Ok(2), 2));
        assert_eq!(play(&[(6, Ok(1)), (9, Ok(2))], &[5]).await, (6, Ok(1), 2), "it was only slow");
        assert_eq!(play(&[(NEVER, Ok(1)), (NEVER, Ok(2)), (1, Ok(3))], &[5, 5]).await, (11, Ok(3), 3));
        assert_eq!(play(&[(6, Err(1)), (9, Ok(2))], &[5]).await, (14, Ok(2), 2));
        assert_eq!(play(&[(9, Ok(1)), (1, Err(2))], &[5]).await, (9, Ok(1), 2));
        assert_eq!(play(&[(9, Err(1)), (1, Err(2))], &[5]).await, (9, Err(1), 2));
        assert_eq!(play(&[(6, Err(1)), (4, Err(2))], &[5]).await, (9, Err(2), 2));
    }
}
