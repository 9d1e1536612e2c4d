//! Compiles the protocol descriptions into clients, without protoc.

const FILES: [&str; 5] = ["runtime.proto", "containerd/content.proto", "containerd/images.proto", "containerd/leases.proto", "containerd/events.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().build_server(false).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
