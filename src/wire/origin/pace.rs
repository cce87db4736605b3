//! When an upstream is read. Whoever reads as soon as anything is there pays for every little: a read, a write, a wake-up on
//! either side, and what tells the upstream of its window; and never falls behind, so that it stays little. Left alone for a
//! millisecond, an upstream that is quick sends enough for a large piece.

use std::time::Duration;

/// A piece of fewer bytes is small.
const SMALL: usize = 64 * 1024;
/// So many of them in a row bring about a pause.
const FEW: u8 = 3;
/// tokio counts whole milliseconds, so this is up to two.
const PAUSE: Duration = Duration::from_millis(1);

/// What one body's pieces were like.
#[derive(Debug)]
pub(super) struct Pace {
    /// Small pieces in a row.
    small: u8,
    /// How many of them bring about the next pause.
    enough: u8,
    paused: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { small: 0, enough: FEW, paused: false }
    }
}

impl Pace {
    /// Waits before the next read, if it had better.
    pub(super) async fn keep(&mut self) {
        self.paused = self.small >= self.enough;
        if self.paused {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `length` bytes came, of at most `most`. A pause that did not nearly bring what there was room for was no gain, or worse: an
    /// upstream that keeps little ahead stands still meanwhile. The next one is then twice as far away. Nearly, since tokio ends a
    /// read after 128 records.
    pub(super) fn saw(&mut self, length: usize, most: usize) {
        if std::mem::take(&mut self.paused) {
            self.enough = if length < most - most / 8 { self.enough.saturating_mul(2) } else { FEW };
            self.small = 0;
        } else if length < SMALL {
            self.small = self.small.saturating_add(1);
        } else {
            self.small = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MOST: usize = 512 * 1024;

    /// How many reads of `length` bytes go by until one is waited for, with `after` as what the pause brings.
    async fn reads(pace: &mut Pace, length: usize, after: usize) -> usize {
        for read in 0..1000 {
            let start = Instant::now();
            pace.keep().await;
            if start.elapsed() >= PAUSE {
                pace.saw(after, MOST);
                return read;
            }
            pace.saw(length, MOST);
        }
        1000
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_are_gathered_where_a_pause_fills_one() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            assert_eq!(reads(&mut pace, 16_384, MOST).await, 3);
        }
        assert_eq!(reads(&mut pace, SMALL, MOST).await, 1000, "large ones are read as they come");
        // 127 records of 4 KiB.
        for _ in 0..5 {
            assert_eq!(reads(&mut pace, 4096, 520_192).await, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_keeps_little_ahead_is_hardly_kept_waiting() {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..9 {
            seen.push(reads(&mut pace, 16_384, SMALL).await);
        }
        assert_eq!(seen, [3, 6, 12, 24, 48, 96, 192, 255, 255]);
        // Until it sends more again.
        assert_eq!(reads(&mut pace, 16_384, MOST).await, 255);
        assert_eq!(reads(&mut pace, 16_384, MOST).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_piece_among_small_ones_begins_the_count_anew() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            for length in [1, 1, SMALL] {
                let start = Instant::now();
                pace.keep().await;
                assert_eq!(start.elapsed(), Duration::ZERO);
                pace.saw(length, MOST);
            }
        }
    }
}
