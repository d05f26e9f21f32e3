//! Builds the bridge to libtorch's C++ (`csrc/bridge.cpp`).

use std::path::PathBuf;
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=csrc/bridge.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo:warning=LIBTORCH is not set; run scripts/libtorch, which tells cargo");
        exit(1);
    };
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .file("csrc/bridge.cpp")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        // libtorch's headers warn under -Wall; the loop of `at::parallel_for` is OpenMP.
        .warnings(false)
        .flag("-fopenmp")
        .flag("-fvisibility=hidden")
        .opt_level(2)
        .compile("neutral_bridge");
    // The wheel ships the OpenMP that libtorch runs on: there must be one pool of threads only.
    println!("cargo:rustc-link-search=native={}", libtorch.join("lib").display());
    println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
}
