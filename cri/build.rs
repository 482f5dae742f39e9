//! Compiles the protocol files with protox: no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/runtime.proto", "proto/images.proto"], ["proto"])?;
    tonic_prost_build::configure().btree_map(".").generate_default_stubs(true).compile_fds(files)?;
    Ok(())
}
