//! The one place where a device is chosen.
//!
//! Nothing else in neutral asks libtorch whether there is a GPU.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device};

use crate::TorchError;
use crate::system::{cuda_available, load_cuda};

/// What the user may ask for: `auto`, `cpu`, `cuda`, `cuda:1`. The first and the third are shared out where
/// processes work side by side ([`devices`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    AnyCuda,
    /// A CUDA device by its index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = TorchError;
    fn from_str(text: &str) -> Result<Self, TorchError> {
        let unknown = || TorchError::UnknownDevice { text: text.to_owned() };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::AnyCuda),
            _ => {
                let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
                index.map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::AnyCuda => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The device that a choice means on this machine.
///
/// # Errors
/// If CUDA is asked for by name and cannot be had: the message says whether libtorch or the driver
/// lacks it. Only `auto` falls back to the CPU.
pub fn device(choice: DeviceChoice) -> Result<Device, TorchError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if cuda_available() => Ok(Device::Cuda(0)),
        DeviceChoice::Auto => Ok(Device::Cpu),
        DeviceChoice::AnyCuda => cuda(0),
        DeviceChoice::Cuda(index) => cuda(index),
    }
}

fn cuda(index: usize) -> Result<Device, TorchError> {
    load_cuda().map_err(|reason| TorchError::CudaNotLinked { index, reason })?;
    let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
    if index < count {
        Ok(Device::Cuda(index))
    } else {
        Err(TorchError::CudaDeviceAbsent { index, count })
    }
}

/// The devices that processes side by side may share out among them: with `auto` and `cuda` every CUDA
/// device of this machine, if there are any, else the one that is meant.
///
/// # Errors
/// Those of [`device`].
pub fn devices(choice: DeviceChoice) -> Result<Vec<DeviceChoice>, TorchError> {
    let one = device(choice)?;
    Ok(match (choice, one) {
        (DeviceChoice::Auto | DeviceChoice::AnyCuda, Device::Cuda(_)) => {
            let count = usize::try_from(Cuda::device_count()).unwrap_or(1).max(1);
            (0..count).map(DeviceChoice::Cuda).collect()
        }
        (DeviceChoice::Auto, _) => vec![DeviceChoice::Cpu],
        (choice, _) => vec![choice],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for text in ["auto", "cpu", "cuda", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU", "cuda:1x"] {
            let message = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains("auto, cpu, cuda"), "{message}");
        }
    }

    #[test]
    fn cuda_that_is_not_there_is_an_error_that_says_what_to_do() {
        assert_eq!(device(DeviceChoice::Cpu).unwrap(), Device::Cpu);
        if let Err(reason) = load_cuda() {
            assert_eq!(device(DeviceChoice::Auto).unwrap(), Device::Cpu);
            for asked in [DeviceChoice::AnyCuda, DeviceChoice::Cuda(0)] {
                let message = device(asked).unwrap_err().to_string();
                assert!(message.contains("scripts/libtorch cuda"), "{message}");
                assert!(
                    message.contains("libtorch_cuda.so") && message.contains(reason),
                    "{message}"
                );
                assert!(devices(asked).is_err());
            }
        }
        assert!(device(DeviceChoice::Cuda(1000)).is_err());
    }
}
