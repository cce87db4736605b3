//! How long an upstream may take to answer, kept by one timer for all requests of a connection. A timer for each request would be
//! set and taken down again, and nearly none of them ever ends.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set once, and again when its time has come and somebody still waits.
#[derive(Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What `future` brings, if it does so by `until`.
    pub(super) async fn by<F: Future + Unpin>(&mut self, until: Instant, mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
                return Poll::Ready(Some(output));
            }
            let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
            // One of an earlier request ends sooner, and is looked at then.
            if timer.deadline() > until {
                timer.as_mut().reset(until);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if timer.deadline() >= until {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_timer_keeps_every_deadline() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        // Nothing that is there at once is late, whatever the hour.
        assert_eq!(patience.by(start, std::future::ready(1)).await, Some(1));
        for (seconds, waits) in [(10, 3), (20, 25), (9, 8), (1, 2), (30, 40)] {
            let begun = Instant::now();
            let until = begun + seconds * SECOND;
            let got = patience.by(until, Box::pin(tokio::time::sleep(waits * SECOND))).await;
            assert_eq!((got.is_some(), begun.elapsed()), (waits < seconds, waits.min(seconds) * SECOND));
        }
        // A timer that ran out while nobody waited ends nothing.
        tokio::time::advance(100 * SECOND).await;
        let begun = Instant::now();
        assert_eq!(patience.by(begun + 5 * SECOND, pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), 5 * SECOND);
    }
}
