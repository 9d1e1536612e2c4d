//! Measures the budgets of the design, prints them as a table and writes them as JSON.
mod api;
mod aside;
mod balancer;
mod bare;
mod figure;
mod fleet;
mod http1;
mod http2;
mod memory_source;
mod objects;
mod process;
mod rows;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use figure::Figure;
use std::path::PathBuf;

/// What is measured in processes of this binary allocates as `k8shost` does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bench", about = "Measure k8shost's budgets", max_term_width = 120)]
struct Cli {
    /// Measure only rows whose name holds one of these
    rows: Vec<String>,
    /// Where the JSON goes; beside the binary's profile by default
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// The server that others are compared with: TLS and HTTP/1.1, one body, nothing else
    // Not called as a row is: `bench balancer` measures the row of that name.
    #[command(hide = true, name = "serve-bare")]
    Bare {
        #[arg(long)]
        certificate: PathBuf,
        #[arg(long)]
        key: PathBuf,
        #[arg(long)]
        client_ca: PathBuf,
        #[arg(long)]
        body: PathBuf,
    },
    /// FiberLB's engine alone, in front of one backend
    #[command(hide = true, name = "serve-balancer")]
    Balancer {
        #[arg(long)]
        certificate: PathBuf,
        #[arg(long)]
        key: PathBuf,
        #[arg(long)]
        backend: u16,
    },
    /// FlashDNS with many Services
    #[command(hide = true, name = "serve-dns")]
    Dns {
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
    /// The Service proxy, measured in this network namespace
    #[command(hide = true, name = "measure-services")]
    Services,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Bare { certificate, key, client_ca, body }) => return bare::main(&certificate, &key, &client_ca, &body),
        Some(Command::Balancer { certificate, key, backend }) => return balancer::main(&certificate, &key, backend),
        Some(Command::Dns { listen }) => return rows::dns::serve(listen),
        Some(Command::Services) => return rows::services::inside(),
        None => {}
    }
    println!("measuring {}", testkit::binary().display());
    let (mut figures, mut failed) = (Vec::<Figure>::new(), Vec::new());
    for (name, measure) in rows::ALL {
        if !cli.rows.is_empty() && !cli.rows.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        eprintln!("-- {name}");
        match measure() {
            Ok(found) => {
                eprint!("{}", figure::table(&found));
                figures.extend(found);
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    print!("{}", figure::table(&figures));
    let path = match cli.json {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("bench.json"),
    };
    std::fs::write(&path, figure::json(&figures)).with_context(|| format!("writing {path:?}"))?;
    println!("written to {}", path.display());
    ensure!(failed.is_empty(), "what could not be measured:\n{}", failed.join("\n"));
    Ok(())
}
