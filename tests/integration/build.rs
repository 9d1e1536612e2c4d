//! Compiles the messages of a protobuf client, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["objects.proto"], ["proto"])?;
    tonic_prost_build::configure().build_client(false).build_server(false).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
