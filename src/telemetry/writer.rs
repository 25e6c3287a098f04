//! Writes the log on a thread of its own, so that no request waits for the reader of the log.
//!
//! Threat: a stalled reader (a full pipe) would block every request at its access line. Defence: lines wait in memory
//! up to a bound; lines past it are dropped and counted in the log itself. Exposure: a process that is killed loses the
//! lines of its last milliseconds.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The bytes of lines that may wait.
const LIMIT: usize = 4 << 20;
/// How long lines collect after a write: one system call for each line was a twelfth of the CPU of a small hit.
const COALESCE: Duration = Duration::from_millis(5);
/// How long the end of the process waits for a stalled reader.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The sending side of the writer.
pub(super) struct LogWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    dropped: u64,
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `sink`. `dropped` is the line that says how many are missing.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn start(sink: impl Write + Send + 'static, dropped: fn(u64) -> String) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let drained = shared.clone();
        thread::Builder::new().name("log".into()).spawn(move || drained.drain(sink, dropped))?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written, up to [`FLUSH_TIMEOUT`].
    pub(super) fn flush(&self) {
        let busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        drop(self.0.changed.wait_timeout_while(self.0.queue(), FLUSH_TIMEOUT, busy));
    }
}

impl Write for &LogWriter {
    /// Takes a whole line, or drops it if too many wait.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue();
        if queue.lines.len() + line.len() > LIMIT {
            queue.dropped += 1;
            return Ok(line.len());
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        drop(queue);
        if was_empty {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain(&self, mut sink: impl Write, line: fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let waiting = self.changed.wait_while(self.queue(), |queue| queue.lines.is_empty());
            let mut queue = waiting.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut queue.lines, &mut batch);
            let dropped = std::mem::take(&mut queue.dropped);
            queue.is_writing = true;
            drop(queue);
            let _ = sink.write_all(&batch); // a failure to write the log has nowhere to be logged
            if dropped > 0 {
                let _ = sink.write_all(line(dropped).as_bytes());
            }
            let _ = sink.flush();
            batch.clear();
            self.queue().is_writing = false;
            self.changed.notify_all();
            thread::sleep(COALESCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until it is released.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn dropped(lines: u64) -> String {
        format!("{lines} lines of the log were dropped\n")
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (open, gate) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        drop(open); // not stuck at all
        let log = LogWriter::start(Stuck(gate, seen.clone()), dropped).unwrap();
        (0..100).for_each(|number| writeln!(&log, "line {number}").unwrap());
        LogWriter::flush(&log);
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(seen.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn a_stalled_reader_blocks_nobody_and_learns_how_many_lines_it_missed() {
        let (open, gate) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = LogWriter::start(Stuck(gate, seen.clone()), dropped).unwrap();
        let line = [b'x'; 1 << 20];
        (0..20).for_each(|_| (&log).write_all(&line).unwrap());
        drop(open);
        LogWriter::flush(&log);
        let text = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
        assert!(text.len() < 12 << 20, "{}", text.len());
        assert!(text.contains("lines of the log were dropped"), "{}", text.len());
    }
}
