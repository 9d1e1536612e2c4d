//! The command line.
use crate::secrets_encrypt::SecretsEncryptCommand;
use crate::token::TokenCommand;
use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clock::{Clock, SystemClock};
use command_line::Connection;
use iam::command_line::IamCommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use virtual_cluster::command_line::{ClusterCommand, KubeconfigCommand, PolicyCommand};

/// Where data lives unless told otherwise, as `server` has it.
const DEFAULT_DATA_DIR: &str = "/var/lib/k8shost";
/// How long a container runtime is waited for.
const RUNTIME_LIMIT: Duration = Duration::from_secs(10);

#[derive(Parser)]
#[command(name = "k8shost", version, about = "Kubernetes hosting in one binary", max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster: API server, controllers, scheduler and, unless disabled, this machine as a node
    Server(Box<settings::ServerArgs>),
    /// Run this machine as a node of a cluster whose server is elsewhere
    Agent(Box<settings::AgentArgs>),
    /// Tokens that let machines join
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Virtual clusters
    Cluster {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Kubeconfigs of virtual clusters
    Kubeconfig {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        command: KubeconfigCommand,
    },
    /// Policies for virtual clusters
    Policy {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Organisations, projects, users, and their tokens
    Iam {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        command: IamCommand,
    },
    /// Run IAM alone, as the token webhook of other API servers
    IamServer(Box<crate::iam_server::IamServerArgs>),
    /// Container images of this machine's node
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Run the load balancer alone, by its gRPC API
    Fiberlb(Box<crate::fiberlb_alone::FiberlbArgs>),
    /// Serve DNS zones alone, made by the gRPC API
    Flashdns(Box<crate::flashdns_alone::FlashdnsArgs>),
    /// Serve volumes alone, by the gRPC API and by CSI
    Lightningstor(Box<crate::lightningstor_alone::LightningstorArgs>),
    /// Serve logical switches and their ports alone, by the gRPC API
    Prismnet(Box<crate::prismnet_alone::PrismnetArgs>),
    /// Encryption of Secrets at rest
    SecretsEncrypt {
        #[command(subcommand)]
        command: SecretsEncryptCommand,
    },
    /// Print a shell's completion script
    Completion { shell: clap_complete::Shell },
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Import OCI or docker archives
    Import {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[arg(long, default_value = DEFAULT_DATA_DIR)]
        data_dir: PathBuf,
    },
    /// List the images the node has
    Ls {
        #[arg(long, default_value = DEFAULT_DATA_DIR)]
        data_dir: PathBuf,
    },
}

pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Server(args) => crate::server::main(*args),
        Command::Agent(args) => crate::agent::main(*args),
        Command::Token { command } => crate::token::main(command),
        Command::Cluster { connection, command } => client_command(command.run(&connection)),
        Command::Kubeconfig { connection, command } => client_command(command.run(&connection)),
        Command::Policy { connection, command } => client_command(command.run(&connection)),
        Command::Iam { connection, command } => client_command(command.run(&connection)),
        Command::IamServer(args) => crate::iam_server::main(&args),
        Command::Image { command } => image(command),
        Command::Fiberlb(args) => crate::fiberlb_alone::main(*args),
        Command::Flashdns(args) => crate::flashdns_alone::main(*args),
        Command::Lightningstor(args) => crate::lightningstor_alone::main(*args),
        Command::Prismnet(args) => crate::prismnet_alone::main(*args),
        Command::SecretsEncrypt { command } => crate::secrets_encrypt::main(command),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "k8shost", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that only talks to a server.
fn client_command(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn image(command: ImageCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ImageCommand::Import { files, data_dir } => {
                let socket = socket(&data_dir);
                wait_for_runtime(&socket).await?;
                for file in files {
                    let names = node_agent::containerd::import_archive(&socket, &file).await;
                    for name in names.with_context(|| format!("importing {}", file.display()))? {
                        println!("{name}");
                    }
                }
            }
            ImageCommand::Ls { data_dir } => {
                let socket = socket(&data_dir);
                let runtime =
                    cri::Runtime::connect(&socket).await.with_context(|| format!("no container runtime at {}: is the server running?", socket.display()))?;
                for image in runtime.list_images().await? {
                    let name = image.repo_tags.first().or(image.repo_digests.first()).unwrap_or(&image.id);
                    println!("{name}\t{}\t{}", image.id, image.size);
                }
            }
        }
        Ok(())
    })
}

/// A server that has just been started takes a moment until its container runtime answers.
async fn wait_for_runtime(socket: &Path) -> anyhow::Result<()> {
    let began = SystemClock.instant();
    while let Err(error) = tokio::net::UnixStream::connect(socket).await {
        if SystemClock.instant() - began > RUNTIME_LIMIT {
            return Err(error).with_context(|| format!("no container runtime at {}: is the server running?", socket.display()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The socket of the containerd that a server with this data directory runs.
fn socket(data_dir: &Path) -> PathBuf {
    node_agent::containerd::ContainerdSettings::under(&data_dir.join("agent"), PathBuf::new(), PathBuf::new()).socket()
}
