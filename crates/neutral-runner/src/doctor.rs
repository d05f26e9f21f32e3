//! `neutral doctor`: what this machine offers.

use std::io::Write;
use std::process::Command;

use neutral_store::Cache;
use neutral_torch::DeviceChoice;
use tch::{Device, Kind};

use crate::speed::matmul_flops_per_second;

/// Prints one line a fact; it judges nothing.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut fact = |name: &str, value: String| writeln!(out, "{name:20} {value}");
    fact("neutral", env!("CARGO_PKG_VERSION").to_owned())?;
    fact("libtorch", neutral_torch::LIBTORCH_VERSION.to_owned())?;
    fact("cuda", cuda())?;
    let cpu = neutral_torch::cpu_features();
    let features = [
        ("avx2", cpu.avx2),
        ("avx512", cpu.avx512),
        ("avx512_bf16", cpu.avx512_bf16),
        ("amx_bf16", cpu.amx_bf16),
    ];
    let features: Vec<_> = features.iter().filter(|(_, there)| *there).map(|(f, _)| *f).collect();
    fact("processor", cpu.model.unwrap_or_else(|| "unknown".to_owned()))?;
    fact("processor features", features.join(" "))?;
    fact("threads", neutral_torch::threads().to_string())?;
    fact("products on cpu", products(Device::Cpu))?;
    if let device @ Device::Cuda(_) = neutral_torch::device(DeviceChoice::Auto)? {
        fact("products on cuda:0", products(device))?;
    }
    for client in ["apt-get", "dpkg-deb", "npm", "git"] {
        fact(client, version(client, &["--version"]))?;
    }
    fact("pip", version("python3", &["-m", "pip", "--version"]))?;
    let cache = Cache::from_env();
    fact("cache", cache.map_or_else(|e| e.to_string(), |c| c.root().display().to_string()))?;
    Ok(())
}

/// How fast matrices are multiplied: whether bf16 is worth choosing is seen in the ratio.
fn products(device: Device) -> String {
    let rate = |kind| matmul_flops_per_second(kind, device) / 1e12;
    let fp32 = format!("fp32 {:.2} TFLOP/s", rate(Kind::Float));
    if neutral_torch::bf16_works(device) {
        format!("{fp32}, bf16 {:.2} TFLOP/s", rate(Kind::BFloat16))
    } else {
        format!("{fp32}, bf16 does not work")
    }
}

fn cuda() -> String {
    let what = match (neutral_torch::cuda_linked(), neutral_torch::cuda_available()) {
        (false, _) => "not linked; `scripts/libtorch cuda` brings it",
        (true, false) => "linked, but the driver shows no device",
        (true, true) => "a device is there: --device cuda",
    };
    what.to_owned()
}

fn version(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().next().unwrap_or("there").to_owned()
        }
        Ok(output) => format!("does not work: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(_) => "not found".to_owned(),
    }
}
