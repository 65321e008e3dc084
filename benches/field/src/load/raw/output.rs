//! What one connection has yet to write: calls by their numbers, made into bytes when their turn comes.
//!
//! The queue has at most as many calls as are under way. Small calls are written together; a large one is its template,
//! given its number, and is never copied.

use std::collections::VecDeque;

use super::Wire;
use crate::load::is_large;

/// What is written at once at least, if there is so much.
const BATCH: usize = 64 * 1024;

pub struct Output {
    template: Vec<u8>,
    buffer: Vec<u8>,
    /// How much of the buffer has been written.
    at: usize,
    calls: VecDeque<u32>,
}

impl Output {
    pub fn new(greeting: Vec<u8>, template: Vec<u8>) -> Self {
        Self { template, buffer: greeting, at: 0, calls: VecDeque::new() }
    }

    /// The call of this number is to be sent.
    #[inline]
    pub fn call(&mut self, serial: u32) {
        self.calls.push_back(serial);
    }

    /// These bytes go out after what has begun to, before calls that have not.
    pub fn say(&mut self, bytes: &[u8]) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What is next; nothing if all has been written.
    pub fn bytes(&mut self, wire: &impl Wire) -> &[u8] {
        if self.at == self.buffer.len() {
            self.fill(wire);
        }
        &self.buffer[self.at..]
    }

    pub fn written(&mut self, n_bytes: usize) {
        self.at += n_bytes;
    }

    fn fill(&mut self, wire: &impl Wire) {
        if is_large(self.template.len()) {
            if let Some(serial) = self.calls.pop_front() {
                if self.buffer.len() != self.template.len() {
                    self.buffer.clone_from(&self.template);
                }
                wire.number(&mut self.buffer, serial);
                self.at = 0;
            }
            return;
        }
        self.buffer.clear();
        self.at = 0;
        while self.buffer.len() < BATCH
            && let Some(serial) = self.calls.pop_front()
        {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(&self.template);
            wire.number(&mut self.buffer[start..], serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::load::raw::Input;

    /// A call is its number and as many bytes as it is told.
    struct Numbers;

    impl Wire for Numbers {
        fn request(&self, _: usize) -> Vec<u8> {
            Vec::new()
        }

        fn number(&self, request: &mut [u8], serial: u32) {
            request[..4].copy_from_slice(&serial.to_be_bytes());
        }

        fn input(&self, _: &[u8]) -> Result<Option<Input>> {
            Ok(None)
        }
    }

    fn all(output: &mut Output, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            let bytes = output.bytes(&Numbers);
            if bytes.is_empty() {
                return written;
            }
            let n_bytes = bytes.len().min(step);
            written.extend_from_slice(&bytes[..n_bytes]);
            output.written(n_bytes);
        }
    }

    #[test]
    fn what_is_said_comes_between_calls_and_never_inside_of_one() {
        let mut output = Output::new(Vec::new(), vec![7; 70_000]);
        for serial in 0..3 {
            output.call(serial);
        }
        assert_eq!(output.bytes(&Numbers).len(), 70_000);
        output.written(10);
        output.say(b"pong");
        let written = all(&mut output, 30_000);
        assert_eq!(written.len(), 3 * 70_000 + 4 - 10);
        assert_eq!(written[69_990..69_994], *b"pong");
        assert_eq!(written[69_994..69_998], 1_u32.to_be_bytes());
        assert_eq!(written[139_994..139_998], 2_u32.to_be_bytes());
    }

    #[test]
    fn calls_leave_in_order_after_the_greeting_however_little_is_taken_at_once() {
        for (size, step) in [(8, 3), (70_000, 9_999), (70_000, 100_000), (10_000, 50_000)] {
            let mut output = Output::new(b"hello".to_vec(), vec![7; size]);
            for serial in 0..20 {
                output.call(serial);
            }
            let written = all(&mut output, step);
            let (greeting, calls) = written.split_at(5);
            assert_eq!(greeting, b"hello");
            assert_eq!(calls.len(), 20 * size);
            for (serial, call) in calls.chunks(size).enumerate() {
                assert_eq!(call[..4], (serial as u32).to_be_bytes());
            }
        }
    }
}
