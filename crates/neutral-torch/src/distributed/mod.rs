//! Several processes as one: c10d's store and process group (`csrc/c10d.cpp`).
//!
//! The processes of a [`Group`] call the same operations in the same order, as c10d asks; what they
//! agree on otherwise, they agree on through [`Group::say`] and [`Group::listen`].

mod hook;
mod leave;
mod pending;
#[cfg(test)]
mod tests;

use std::ffi::{CString, c_char, c_int, c_void};
use std::net::{IpAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use tch::{Device, Tensor};

use crate::TorchError;
use crate::autograd::take_message;
pub use hook::GradientHook;
pub use pending::Pending;

/// Where the processes of one training meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Which of the processes this one is, from 0.
    pub rank: usize,
    /// How many processes there are.
    pub size: usize,
    /// The host of rank 0, as a name or an address.
    pub address: String,
    /// A port there, on which rank 0 listens.
    pub port: u16,
    /// How long to wait for the others, when meeting and in every operation after it.
    pub timeout: Duration,
}

/// c10d's process group: its TCP store, with Gloo for tensors on the CPU and NCCL on CUDA.
///
/// A process has one; tests have several, each in a thread of its own. A clone is a second handle, such as a
/// hook's that begins an operation within a backward pass. Dropping the last waits for what was
/// begun and breaks the connections, so that the others' operations fail.
#[derive(Clone, Debug)]
pub struct Group {
    shared: Arc<Shared>,
    rank: usize,
    size: usize,
}

#[derive(Debug)]
struct Shared {
    raw: *mut c_void,
    /// Messages said or heard.
    messages: AtomicUsize,
}

// SAFETY: c10d's objects are bound to no thread, and store and process group lock themselves.
#[expect(unsafe_code, reason = "a C++ object behind a pointer")]
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "a C++ object behind a pointer")]
unsafe impl Sync for Shared {}

impl Group {
    /// Meets the other processes; returns when all are connected. Rank 0 hosts the store: on loopback
    /// alone if the address is `localhost` or of loopback, else on all interfaces. On the CPU the others connect to
    /// that address too, else to this host's name, or to the interface that the environment's `GLOO_SOCKET_IFNAME`
    /// names.
    ///
    /// # Errors
    /// If the rank is none of the group's, the port is taken, somebody does not come in time, or the
    /// device is CUDA and this build has no NCCL.
    pub fn connect(meeting: &Rendezvous, device: Device) -> Result<Self, TorchError> {
        Self::meet(meeting, None, device)
    }

    /// The same at a store that is there already, and outlives the group, such as torchrun's: its keys begin with
    /// a prefix that no other group has.
    ///
    /// # Errors
    /// As above.
    pub fn connect_through(
        meeting: &Rendezvous,
        prefix: &str,
        device: Device,
    ) -> Result<Self, TorchError> {
        Self::meet(meeting, Some(prefix), device)
    }

    fn meet(
        meeting: &Rendezvous,
        prefix: Option<&str>,
        device: Device,
    ) -> Result<Self, TorchError> {
        let Rendezvous { rank, size, address, port, timeout } = meeting;
        let (rank, size, port) = (*rank, *size, *port);
        let failed =
            |reason: String| TorchError::Distributed { rank, what: "join the group", reason };
        let (Ok(c_rank), Ok(c_size)) = (c_int::try_from(rank), c_int::try_from(size)) else {
            return Err(failed(format!("{size} processes are too many")));
        };
        if rank >= size {
            return Err(failed(format!(
                "a group of {size} has the ranks 0 to {}",
                size.max(1) - 1
            )));
        }
        let cuda = match device {
            Device::Cpu => -1,
            Device::Cuda(index) => c_int::try_from(index).unwrap_or(c_int::MAX),
            other => return Err(failed(format!("c10d has no transport for {other:?}"))),
        };
        let text = |text: &str| {
            CString::new(text).map_err(|_| failed(format!("{text:?} holds a NUL byte")))
        };
        let local = is_loopback(address);
        // c10d's own listener would open the store, which asks nobody who they are, to every network.
        let listener = if local && rank == 0 && prefix.is_none() {
            let bound = TcpListener::bind((address.as_str(), port));
            let taken = |error| {
                failed(format!(
                    "{address}:{port} cannot be listened on ({error}); choose another port"
                ))
            };
            bound.map_err(taken)?.into_raw_fd()
        } else {
            -1
        };
        let named = std::env::var("GLOO_SOCKET_IFNAME").ok().filter(|name| !name.is_empty());
        let interface = named.as_deref().filter(|_| !local).map(text).transpose()?;
        let prefix = prefix.map(text).transpose()?;
        let hostname = local.then(|| text(address)).transpose()?;
        let host = text(address)?;
        let or_null =
            |text: &Option<CString>| text.as_ref().map_or(null_mut(), |t| t.as_ptr().cast_mut());
        let mut raw = null_mut();
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the texts outlive the call, and the socket is given up to it.
        let message = unsafe {
            neutral_group_connect(
                host.as_ptr(),
                port,
                or_null(&prefix),
                listener,
                c_rank,
                c_size,
                milliseconds(*timeout),
                or_null(&hostname),
                or_null(&interface),
                cuda,
                &raw mut raw,
            )
        };
        answer(message).map_err(failed)?;
        let shared = Arc::new(Shared { raw, messages: AtomicUsize::new(0) });
        let group = Self { shared, rank, size };
        // Others may still be connecting to each other, and would see one that leaves at once as lost.
        group.barrier()?;
        Ok(group)
    }

    /// Which of the processes this one is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Replaces the tensor, contiguous and of one shape and kind everywhere, by its sum over all
    /// processes. All get the same bits.
    ///
    /// # Errors
    /// If a process is gone or does not come in time.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<(), TorchError> {
        self.start_all_reduce(tensor)?.wait()
    }

    /// [`all_reduce`](Self::all_reduce), begun: other work may go on meanwhile, which must leave the
    /// tensor alone. What was begun first is matched with what the others began first.
    ///
    /// # Errors
    /// If it cannot be begun: what goes wrong later is an error of [`Pending::wait`].
    pub fn start_all_reduce(&self, tensor: &Tensor) -> Result<Pending, TorchError> {
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the tensor outlives the call, and what was begun holds a reference of its own.
        self.begin("sum a tensor over all processes", |work| unsafe {
            neutral_group_all_reduce(self.shared.raw, tensor.as_ptr().cast(), work)
        })
    }

    /// Replaces the tensor, contiguous and of one shape and kind everywhere, by that of the process
    /// `from`.
    ///
    /// # Errors
    /// If `from` is none of the group's, or a process is gone or does not come in time.
    pub fn broadcast(&self, tensor: &Tensor, from: usize) -> Result<(), TorchError> {
        let source = c_int::try_from(from).unwrap_or(c_int::MAX);
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: as above.
        let begun = self.begin("share a tensor of one process", |work| unsafe {
            neutral_group_broadcast(self.shared.raw, tensor.as_ptr().cast(), source, work)
        });
        begun?.wait()
    }

    /// Waits until all processes are here.
    ///
    /// # Errors
    /// If one is gone or does not come in time.
    pub fn barrier(&self) -> Result<(), TorchError> {
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the group is alive.
        let begun = self.begin("wait for all processes", |work| unsafe {
            neutral_group_barrier(self.shared.raw, work)
        });
        begun?.wait()
    }

    /// Rank 0: the next message to all others, which hear messages in order and need not listen yet.
    ///
    /// # Errors
    /// If another rank speaks, or the store does not answer.
    pub fn say(&self, text: &str) -> Result<(), TorchError> {
        const WHAT: &str = "tell the others what is next";
        if self.rank != 0 {
            return Err(self.failed(WHAT, "only rank 0 speaks".to_owned()));
        }
        let key = message_key(self.shared.messages.fetch_add(1, Ordering::Relaxed));
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: key and text outlive the call.
        let message =
            unsafe { neutral_group_set(self.shared.raw, key.as_ptr(), text.as_ptr(), text.len()) };
        answer(message).map_err(|reason| self.failed(WHAT, reason))
    }

    /// Another rank: waits for rank 0's next message for as long as rank 0 lives, because what it does
    /// between two of them may take any time.
    ///
    /// # Errors
    /// If rank 0 listens, or the store, which is rank 0's, does not answer.
    pub fn listen(&self) -> Result<String, TorchError> {
        const WHAT: &str = "hear what is next from rank 0";
        const SHORTEST: Duration = Duration::from_millis(5);
        const LONGEST: Duration = Duration::from_millis(200);
        if self.rank == 0 {
            return Err(self.failed(WHAT, "rank 0 speaks and has nobody to listen to".to_owned()));
        }
        let key = message_key(self.shared.messages.fetch_add(1, Ordering::Relaxed));
        let mut pause = SHORTEST;
        loop {
            let mut heard: Option<String> = None;
            #[expect(unsafe_code, reason = "calls the bridge")]
            // SAFETY: key and place outlive the call, and `take` writes to such a place.
            let message = unsafe {
                neutral_group_get(self.shared.raw, key.as_ptr(), take, (&raw mut heard).cast())
            };
            answer(message).map_err(|reason| self.failed(WHAT, reason))?;
            if let Some(text) = heard {
                return Ok(text);
            }
            sleep(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }

    fn begin(
        &self,
        what: &'static str,
        start: impl FnOnce(*mut *mut c_void) -> *mut c_char,
    ) -> Result<Pending, TorchError> {
        let mut raw = null_mut();
        answer(start(&raw mut raw)).map_err(|reason| self.failed(what, reason))?;
        Ok(Pending { raw, rank: self.rank, what })
    }

    fn failed(&self, what: &'static str, reason: String) -> TorchError {
        TorchError::Distributed { rank: self.rank, what, reason }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: it came from `neutral_group_connect` and is given up here.
        let message = unsafe { neutral_group_free(self.raw) };
        // Whatever failed has been an error of an operation before.
        take_message(message);
    }
}

#[expect(unsafe_code, reason = "declarations of csrc/c10d.cpp")]
unsafe extern "C" {
    fn neutral_group_connect(
        address: *const c_char,
        port: u16,
        prefix: *const c_char,
        listener: c_int,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        hostname: *const c_char,
        interface: *const c_char,
        cuda: c_int,
        result: *mut *mut c_void,
    ) -> *mut c_char;
    fn neutral_group_free(group: *mut c_void) -> *mut c_char;
    fn neutral_group_all_reduce(
        group: *mut c_void,
        tensor: *const c_void,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    fn neutral_group_broadcast(
        group: *mut c_void,
        tensor: *const c_void,
        from: c_int,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    fn neutral_group_barrier(group: *mut c_void, work: *mut *mut c_void) -> *mut c_char;
    fn neutral_group_set(
        group: *mut c_void,
        key: *const c_char,
        bytes: *const u8,
        n: usize,
    ) -> *mut c_char;
    fn neutral_group_get(
        group: *mut c_void,
        key: *const c_char,
        take: unsafe extern "C" fn(*mut c_void, *const u8, usize),
        context: *mut c_void,
    ) -> *mut c_char;
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn take(context: *mut c_void, bytes: *const u8, n: usize) {
    // SAFETY: the place and the bytes are those of `listen`'s call; an empty text may have no address.
    let (place, bytes) = unsafe {
        let bytes = if n == 0 { &[] } else { std::slice::from_raw_parts(bytes, n) };
        (&mut *context.cast::<Option<String>>(), bytes)
    };
    *place = Some(String::from_utf8_lossy(bytes).into_owned());
}

fn message_key(number: usize) -> CString {
    CString::new(format!("neutral/said/{number}")).expect("a key without NUL")
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn answer(message: *mut c_char) -> Result<(), String> {
    if message.is_null() { Ok(()) } else { Err(plain(&take_message(message))) }
}

/// What gloo found, without places in its sources, `[…/gloo/…:537] `, and without its advice.
fn plain(message: &str) -> String {
    let end = message.find(". This is typically caused by").unwrap_or(message.len());
    let mut found = String::new();
    for part in message[..end].split_inclusive("] ") {
        match part.rsplit_once('[') {
            Some((before, place)) if place.contains("/gloo/") => found.push_str(before),
            _ => found.push_str(part),
        }
    }
    found
}

/// Whether an address means this host to whoever reads it. A host's name does not, even where it is looked up as
/// loopback on that host, as Debian has it (`127.0.1.1`): other hosts read it as another address.
fn is_loopback(address: &str) -> bool {
    address == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
