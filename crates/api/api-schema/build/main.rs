//! Builds the two files the crate embeds: the structure of every built-in definition, and its documentation.
mod join;
mod roots;
mod structure;

use std::io::Write;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed={FACTS}");
    let facts = std::fs::read(FACTS).expect("the facts file is part of the crate");
    let facts = serde_json::from_slice(&facts).expect("the facts file is JSON");
    let definitions = join::join(roots::definitions(), &facts);

    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("structure.bin"), structure::encode(&definitions)).expect("OUT_DIR can be written");
    // The documentation is 1.5 MB of prose that only an OpenAPI document needs: kept deflated.
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    serde_json::to_writer(&mut deflated, &definitions).expect("definitions encode");
    deflated.flush().expect("memory can be written");
    std::fs::write(out.join("documentation.deflate"), deflated.finish().expect("memory can be written")).expect("OUT_DIR can be written");
}

const FACTS: &str = "data/kubernetes-1.37-schema-facts.json";
