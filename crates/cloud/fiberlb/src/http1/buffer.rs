//! Buffer: bytes on their way from a socket to whom takes them, or back. It holds memory only while it holds bytes.
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a buffer has at first, and mostly.
pub const SIZE: usize = 32 << 10;
/// So much memory a thread keeps for the next ones.
const KEPT: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// INVARIANT: `start <= end <= bytes.len()`.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    pub fn len(&self) -> usize {
        self.end - self.start
    }
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Lets go of so many of the first bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        let memory = std::mem::take(&mut self.bytes);
        if memory.len() == SIZE {
            // At a thread's end there is nothing to keep it for.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < KEPT {
                    free.push(memory);
                }
            });
        }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// A number as text.
    pub fn put_number(&mut self, number: u64, base: u64) {
        let (mut digits, mut at, mut left) = ([0; 20], 20, number);
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(left % base) as usize];
            left /= base;
            if left == 0 {
                return self.put(&digits[at..]);
            }
        }
    }

    fn make_room(&mut self, count: usize) {
        if self.bytes.is_empty() {
            self.bytes = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| vec![0; SIZE]);
        }
        if self.bytes.len() - self.end < count && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() - self.end < count {
            self.bytes.resize((self.end + count).next_power_of_two(), 0);
        }
    }

    /// Reads what comes, as long as no more than `limit` bytes are held; `Ok(0)` is the stream's end.
    pub fn poll_fill<S: AsyncRead + Unpin>(&mut self, context: &mut Context<'_>, stream: &mut S, limit: usize) -> Poll<io::Result<usize>> {
        self.make_room(1);
        let room = (self.bytes.len() - self.end).min(limit.saturating_sub(self.len()));
        if room == 0 {
            return Poll::Ready(Err(io::Error::other("the buffer is full")));
        }
        let mut space = ReadBuf::new(&mut self.bytes[self.end..self.end + room]);
        let outcome = Pin::new(stream).poll_read(context, &mut space);
        let count = space.filled().len();
        self.end += count;
        if self.is_empty() {
            self.clear();
        }
        ready!(outcome)?;
        Poll::Ready(Ok(count))
    }

    /// Writes all there is; what was written is gone.
    pub fn poll_drain<S: AsyncWrite + Unpin>(&mut self, context: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(context, self.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.consume(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_out_in_its_order() {
        let (mut buffer, mut expected) = (Buffer::default(), Vec::new());
        for turn in 0..200usize {
            let part = vec![turn as u8; turn * 7 % 5000];
            buffer.put(&part);
            expected.extend_from_slice(&part);
            let taken = (turn * 13 % 4000).min(buffer.len());
            assert_eq!(buffer.filled()[..taken], expected[..taken]);
            buffer.consume(taken);
            expected.drain(..taken);
        }
        assert_eq!(buffer.filled(), expected);
        buffer.consume(usize::MAX);
        assert!(buffer.is_empty() && buffer.bytes.is_empty(), "it holds no memory");
    }

    #[test]
    fn numbers_are_written_in_both_bases() {
        for (number, base, text) in [(0, 10, "0"), (1234567890, 10, "1234567890"), (u64::MAX, 10, "18446744073709551615"), (0x1f0, 16, "1f0")] {
            let mut buffer = Buffer::default();
            buffer.put_number(number, base);
            assert_eq!(buffer.filled(), text.as_bytes());
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_may_be_held() {
        let (mut buffer, mut stream) = (Buffer::default(), &vec![7; 100][..]);
        let read = std::future::poll_fn(|context| buffer.poll_fill(context, &mut stream, 60)).await.unwrap();
        assert_eq!((read, buffer.len()), (60, 60));
        assert!(std::future::poll_fn(|context| buffer.poll_fill(context, &mut stream, 60)).await.is_err());
    }
}
