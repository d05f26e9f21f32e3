//! Builds the bridge to libtorch's C++ (`csrc/bridge.cpp`).

use std::path::{Path, PathBuf};
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
    // There must be one pool of threads only: the OpenMP that libtorch brings, under whatever name
    // (`libgomp.so.1` in wheels, with a hash in archives), else the system's, which it uses then.
    let lib = libtorch.join("lib");
    println!("cargo:rustc-link-search=native={}", lib.display());
    match find_openmp(&lib) {
        Some(name) => println!("cargo:rustc-link-lib=dylib:+verbatim={name}"),
        None => println!("cargo:rustc-link-lib=dylib=gomp"),
    }
}

fn find_openmp(lib: &Path) -> Option<String> {
    let files = std::fs::read_dir(lib).ok()?.flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| name.starts_with("libgomp") && name.contains(".so")).min()
}
