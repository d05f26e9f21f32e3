//! Threads, memory, and what this machine offers: what logs and `neutral doctor` report.

use std::error::Error;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device, Kind, Tensor};

/// The libtorch that `tch` is pinned to.
pub const LIBTORCH_VERSION: &str = "2.13.0";

/// Sets the number of threads that libtorch computes an operation with.
///
/// # Panics
/// If `n` is 0.
pub fn set_threads(n: usize) {
    assert!(n > 0, "an operation needs a thread");
    tch::set_num_threads(i32::try_from(n).unwrap_or(i32::MAX));
}

/// The number of threads that libtorch computes an operation with.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Makes the C library keep memory that was freed, for the next step to use again.
///
/// By default glibc asks the system for every large tensor and gives it back at once, so that each
/// step finds its pages anew and the system fills them with zeros first. Call it once, at the start.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library's own switches")]
    // SAFETY: mallopt only changes how malloc gets memory from here on.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// The most memory that this process has held so far, in bytes: Linux's `VmHWM`; 0 where the system
/// does not tell, as it is a figure for logs that nothing depends on.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_peak_rss(&status).unwrap_or(0)
}

fn parse_peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Instructions of this CPU that decide how fast a model runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// The processor's own name, if the system tells.
    pub model: Option<String>,
    /// 256-bit vectors.
    pub avx2: bool,
    /// 512-bit vectors.
    pub avx512: bool,
    /// bf16 products in 512-bit vectors.
    pub avx512_bf16: bool,
    /// bf16 products in tiles.
    pub amx_bf16: bool,
}

/// What the first processor can do, as `/proc/cpuinfo` has it; nothing where there is no such file.
pub fn cpu_features() -> CpuFeatures {
    std::fs::read_to_string("/proc/cpuinfo").map(|text| parse_cpuinfo(&text)).unwrap_or_default()
}

fn parse_cpuinfo(text: &str) -> CpuFeatures {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let flags: Vec<&str> = field("flags").unwrap_or_default().split_whitespace().collect();
    let has = |flag: &str| flags.contains(&flag);
    CpuFeatures {
        model: field("model name").map(str::to_owned),
        avx2: has("avx2"),
        avx512: has("avx512f"),
        avx512_bf16: has("avx512_bf16"),
        amx_bf16: has("amx_bf16"),
    }
}

/// The linked libtorch is a CUDA build.
pub fn cuda_linked() -> bool {
    load_cuda().is_ok()
}

/// Loads the CUDA half of libtorch, once; else says why that cannot be done.
///
/// It registers itself with the other half when it is loaded. As nobody calls it by name, linkers
/// leave it out (`--as-needed`), so it is asked for here. libtorch looks for what is registered the
/// first time it needs to know, so this must be the first question about CUDA in the process.
pub(crate) fn load_cuda() -> Result<(), &'static str> {
    // Kept until the process ends: its kernels are in use.
    static CUDA: OnceLock<Result<Library, String>> = OnceLock::new();
    let load = || {
        #[expect(
            unsafe_code,
            reason = "loading runs the library's start-up code, which is the purpose; it is libtorch's own, found where libtorch is"
        )]
        let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
        // The loader's own words are in the cause.
        let library =
            library.map_err(|e| e.source().map_or_else(|| e.to_string(), ToString::to_string))?;
        let registered = tch::utils::has_cudart();
        set_up_cuda();
        registered.then_some(library).ok_or_else(|| "it registers no CUDA runtime".to_owned())
    };
    CUDA.get_or_init(load).as_ref().map(|_| ()).map_err(String::as_str)
}

/// Sets libtorch's switches for CUDA, which are there without its CUDA half too.
fn set_up_cuda() {
    #[expect(unsafe_code, reason = "a declaration of csrc/bridge.cpp")]
    unsafe extern "C" {
        safe fn neutral_set_up_cuda();
    }
    neutral_set_up_cuda();
}

/// The linked libtorch is a CUDA build and the driver shows a device.
pub fn cuda_available() -> bool {
    cuda_linked() && Cuda::is_available()
}

/// bf16 matrix products work on the device and are right.
pub fn bf16_works(device: Device) -> bool {
    let product = || -> Result<f64, tch::TchError> {
        let ones = Tensor::f_ones([16, 16], (Kind::BFloat16, device))?;
        Ok(ones.f_matmul(&ones)?.f_to_kind(Kind::Float)?.f_mean(Kind::Float)?.double_value(&[]))
    };
    product().is_ok_and(|mean| mean == 16.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_takes_the_switches_for_cuda_without_its_cuda_half() {
        // What it throws would end the process.
        set_up_cuda();
    }

    #[test]
    fn the_stated_libtorch_is_the_linked_one() {
        // The build finds libtorch through this variable; its headers carry its version.
        let Some(folder) = option_env!("LIBTORCH") else { return };
        let header = std::path::Path::new(folder).join("include/torch/headeronly/version.h");
        let header = std::fs::read_to_string(header).unwrap();
        assert!(header.contains(&format!("\"{LIBTORCH_VERSION}")), "not {LIBTORCH_VERSION}");
    }

    #[test]
    fn threads_are_what_was_set() {
        set_threads(1);
        assert_eq!(threads(), 1);
        set_threads(2);
        assert_eq!(threads(), 2);
    }

    #[test]
    fn peak_memory_is_read_in_bytes() {
        let status = "VmPeak:\t  999 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(parse_peak_rss(status), Some(1234 * 1024));
        assert_eq!(parse_peak_rss("VmHWM: many"), None);
        let before = peak_rss_bytes();
        let held = Tensor::ones([16 << 20], (Kind::Uint8, Device::Cpu));
        assert!(peak_rss_bytes() >= before + (8 << 20) && held.numel() == 16 << 20);
    }

    #[test]
    fn cpu_features_are_read_from_the_flags() {
        let text = "model name\t: A B\nflags\t\t: fpu avx2 avx512f avx512_bf16\n";
        let features = parse_cpuinfo(text);
        assert_eq!(features.model.as_deref(), Some("A B"));
        assert!(features.avx2 && features.avx512 && features.avx512_bf16 && !features.amx_bf16);
        assert!(!parse_cpuinfo("flags : avx2x").avx2);
    }

    #[test]
    fn bf16_works_on_the_cpu() {
        assert!(bf16_works(Device::Cpu));
    }
}
