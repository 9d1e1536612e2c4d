//! Prints, as JSON, how many acknowledged writes a second the store makes, how many plain SQLite makes, and how long opening takes.
//!
//! `store-bench [DIRECTORY]`: the directory to write in, on the disk to be measured; by default the temporary one.
use api_meta::object::stamp;
use std::error::Error;
use store_sqlite::bench::{Load, commit_rate, create_time, load_time};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = match std::env::args_os().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let Load { clients, rows, value_bytes } = Load { clients: 64, rows: 20_000, value_bytes: 2048 };
    let rate = commit_rate(dir.path(), Load { clients, rows, value_bytes }, stamp).await?;
    let create = create_time(dir.path(), stamp).await?.as_millis();
    let objects = 100_000;
    let open = load_time(dir.path(), objects, value_bytes, stamp).await?.as_millis();
    let (raw, store, ratio) = (rate.raw, rate.store, rate.ratio());
    println!(
        r#"{{"clients":{clients},"rows":{rows},"valueBytes":{value_bytes},"rawRowsPerSecond":{raw:.0},"storeRowsPerSecond":{store:.0},"ratio":{ratio:.2},"createMilliseconds":{create},"objects":{objects},"openMilliseconds":{open}}}"#
    );
    Ok(())
}
