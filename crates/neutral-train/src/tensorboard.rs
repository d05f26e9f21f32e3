//! TensorBoard event files, written by hand: a few protobuf messages in `TFRecord` frames.
//!
//! Frame: length (u64, little endian), masked CRC-32C of those 8 bytes, data, masked CRC-32C of the
//! data; `mask(c) = rotate_right(c, 15) + 0xa282ead8`. The first event holds the file's version.
//! Source: `tensorflow/core/util/event.proto`, `framework/summary.proto`, `lib/io/record_writer.h`.
//! Only scalars are written; nothing is read back here.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use neutral_store::StoreError;
use prost::Message;

use crate::TrainError;

/// `tensorflow.Event`, the fields that are written here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value` with a simple value.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// `tensorflow.SessionLog`; with status START, TensorBoard forgets what it has from this step on.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What names of event files begin with.
const PREFIX: &str = "events.out.tfevents.";

const SESSION_START: i32 = 1;

/// One event file of a training.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new file in a folder, for the steps after `done_steps`.
    ///
    /// With 0 steps done, older event files in the folder are removed: they belong to a run that
    /// left no checkpoint. Otherwise what they say of later steps is declared void, in a file that is
    /// read after them even if the clock was put back.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn create(folder: &Path, done_steps: u64) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, e))?;
        let mut seconds = now() as u64;
        for path in event_files(folder)? {
            if done_steps == 0 {
                std::fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            } else {
                seconds = seconds.max(seconds_of(&path).unwrap_or(0));
            }
        }
        // TensorBoard reads the files of a folder in the order of their names.
        let name = format!("{PREFIX}{seconds:010}.{done_steps:09}.neutral");
        let path = folder.join(name);
        let file = File::create(&path).map_err(|e| StoreError::io("create", &path, e))?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.write(&Event { file_version: Some("brain.Event:2".to_owned()), ..event(0) })?;
        if done_steps > 0 {
            let session_log = Some(SessionLog { status: SESSION_START });
            writer.write(&Event { session_log, ..event(done_steps + 1) })?;
        }
        Ok(writer)
    }

    /// Writes the values of a step.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), TrainError> {
        let value = scalars
            .iter()
            .map(|&(tag, value)| Value { tag: tag.to_owned(), simple_value: value as f32 })
            .collect();
        self.write(&Event { summary: Some(Summary { value }), ..event(step) })
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.file.flush().map_err(|e| StoreError::io("write", &self.path, e).into())
    }

    fn write(&mut self, event: &Event) -> Result<(), TrainError> {
        self.file
            .write_all(&frame(&event.encode_to_vec()))
            .map_err(|e| StoreError::io("write", &self.path, e).into())
    }
}

fn event_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = |e| StoreError::io("read", folder, e);
    let entries = std::fs::read_dir(folder).map_err(io)?;
    let paths =
        entries.map(|entry| Ok(entry.map_err(io)?.path())).collect::<Result<Vec<_>, _>>()?;
    let named = |path: &PathBuf| name(path).is_some_and(|name| name.starts_with(PREFIX));
    Ok(paths.into_iter().filter(named).collect())
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The time in a file's name.
fn seconds_of(path: &Path) -> Option<u64> {
    name(path)?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

fn event(step: u64) -> Event {
    Event { wall_time: now(), step: step as i64, ..Event::default() }
}

fn now() -> f64 {
    // A clock before 1970 is a clock that was never set; the start of time is as good as any then.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc(data).to_le_bytes());
    bytes
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<Event> {
        let mut bytes = std::fs::read(path).unwrap().into_iter();
        let mut events = Vec::new();
        while bytes.len() > 0 {
            let mut take = |n| bytes.by_ref().take(n).collect::<Vec<u8>>();
            let length = take(8);
            assert_eq!(take(4), masked_crc(&length).to_le_bytes());
            let data = take(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            assert_eq!(take(4), masked_crc(&data).to_le_bytes());
            events.push(Event::decode(data.as_slice()).unwrap());
        }
        events
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn framing_and_encoding_are_the_known_bytes() {
        // The check value of CRC-32C, and the head that every event file with a version has.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let head = [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
        let version = Event {
            wall_time: 1.0,
            file_version: Some("brain.Event:2".to_owned()),
            ..Event::default()
        };
        let framed = frame(&version.encode_to_vec());
        assert_eq!(framed[..12], head);
        assert_eq!(framed[12..21], [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f], "field 1, double 1.0");
        assert_eq!(framed[21..36], *b"\x1a\x0dbrain.Event:2", "field 3, string");
        let value = Value { tag: "a".to_owned(), simple_value: 1.0 };
        let summary = Event { step: 3, summary: Some(Summary { value: vec![value] }), ..version };
        let summary = Event { wall_time: 0.0, file_version: None, ..summary };
        assert_eq!(summary.encode_to_vec(), b"\x10\x03\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f");
    }

    #[test]
    fn a_resumed_run_voids_later_steps_and_a_new_run_starts_clean() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 0).unwrap();
        writer.scalars(10, &[("loss", 2.5), ("rate", 0.5)]).unwrap();
        writer.flush().unwrap();
        let mut writer = EventWriter::create(folder.path(), 7).unwrap();
        writer.scalars(8, &[("loss", 1.5)]).unwrap();
        writer.flush().unwrap();
        let files_now = files(folder.path());
        let [first, second] = [0, 1].map(|i| read(&files_now[i]));
        assert_eq!(first[0].file_version.as_deref(), Some("brain.Event:2"));
        let values = &first[1].summary.as_ref().unwrap().value;
        assert_eq!((first[1].step, values[1].tag.as_str()), (10, "rate"));
        assert!((values[0].simple_value - 2.5).abs() < f32::EPSILON);
        assert_eq!(first.len(), 2);
        assert_eq!(second[1].session_log, Some(SessionLog { status: 1 }));
        assert_eq!((second[1].step, second[2].step), (8, 8));
        drop(EventWriter::create(folder.path(), 0).unwrap());
        assert_eq!(files(folder.path()).len(), 1);
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_change_the_order_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = folder.path().join("events.out.tfevents.9999999999.000000000.neutral");
        std::fs::write(&earlier, "").unwrap();
        drop(EventWriter::create(folder.path(), 7).unwrap());
        let files = files(folder.path());
        assert_eq!((files.len(), &files[0]), (2, &earlier));
    }
}
