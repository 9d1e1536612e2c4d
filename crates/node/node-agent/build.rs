//! Builds the sandbox image's only program, `pause`, for the target with the same compiler.
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=pause/pause.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("pause");
    let mut compiler = Command::new(variable("RUSTC"));
    compiler.args(["--edition", "2024", "--crate-name", "pause", "--target", &variable("TARGET"), "-o"]).arg(&program);
    for option in ["panic=abort", "opt-level=z", "strip=symbols", "relocation-model=static", "codegen-units=1"] {
        compiler.args(["-C", option]);
    }
    // No C library and no loader: the image holds this one file.
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-Wl,--build-id=none,-z,noseparate-code"] {
        compiler.args(["-C", &format!("link-arg={argument}")]);
    }
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        compiler.args(["-C", &format!("linker={linker}")]);
    }
    let status = compiler.arg("pause/pause.rs").status().expect("the compiler that builds this crate runs");
    assert!(status.success(), "pause.rs does not compile for this target");
}
