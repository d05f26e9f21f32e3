//! Builds the bridge to libtorch's C++ (`csrc/`).

use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        println!("cargo:warning=LIBTORCH is not set; run scripts/libtorch, which tells cargo");
        exit(1);
    };
    let lib = libtorch.join("lib");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .file("csrc/bridge.cpp")
        .file("csrc/c10d.cpp")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        // What stands in for gloo's headers, unless libtorch brings them.
        .include("csrc")
        // As the wheels are built: c10d's headers are empty without.
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D_GLOO", None)
        // libtorch's headers warn under -Wall; the loop of `at::parallel_for` is OpenMP.
        .warnings(false)
        .flag("-fopenmp")
        .flag("-fvisibility=hidden")
        // It would be of libtorch's headers, above all.
        .debug(false)
        .opt_level(2);
    let nccl = has_nccl(&libtorch);
    if nccl {
        build.define("USE_C10D_NCCL", None);
    }
    build.compile("neutral_bridge");
    // There must be one pool of threads only: the OpenMP that libtorch brings, under whatever name
    // (`libgomp.so.1` in wheels, with a hash in archives), else the system's, which it uses then.
    println!("cargo:rustc-link-search=native={}", lib.display());
    match find_openmp(&lib) {
        Some(name) => println!("cargo:rustc-link-lib=dylib:+verbatim={name}"),
        None => println!("cargo:rustc-link-lib=dylib=gomp"),
    }
    if nccl {
        println!("cargo:rustc-link-lib=dylib=torch_cuda");
        println!("cargo:rustc-link-lib=dylib=c10_cuda");
    }
}

/// Whether libtorch has its CUDA half, and beside its own headers those that c10d's NCCL includes, which are
/// CUDA's, from several packages.
fn has_nccl(libtorch: &Path) -> bool {
    let files = [
        "lib/libtorch_cuda.so",
        "include/nccl.h",
        "include/cuda_runtime.h",
        "include/crt/host_config.h",
        "include/nv/target",
        "include/cublas_v2.h",
        "include/cusolverDn.h",
        "include/cusparse.h",
    ];
    files.iter().all(|file| libtorch.join(file).exists())
}

fn find_openmp(lib: &Path) -> Option<String> {
    let files = std::fs::read_dir(lib).ok()?.flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| name.starts_with("libgomp") && name.contains(".so")).min()
}
