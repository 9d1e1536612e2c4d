//! The command line of `cargo xtask`.
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own tools", max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the rules of the repository: arrows between crates, file sizes, documents, generated pages
    Tidy,
    /// Build everything, make the images and run every test
    Test {
        /// Passed on to the test runner, e.g. a part of a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the budgets of the design, print a table and write JSON
    Bench {
        /// Passed on, e.g. a part of a row's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every decoder on mutated examples, for minutes
    Fuzz {
        /// Passed on, e.g. --seconds 600 --target cel --seed 1
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Start a cluster, deploy the example and show it answering; Ctrl-C stops it
    Run,
    /// Make the images of tests and the example from Debian's packages
    Images,
    /// Write the generated pages anew
    Gen {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Tidy => xtask::tidy::main(),
        Command::Test { arguments } => xtask::test::main(&arguments),
        Command::Run => xtask::run::main(),
        Command::Images => xtask::images::main(),
        Command::Gen { check } => xtask::generate::main(check),
        Command::Fuzz { arguments } => xtask::fuzz::main(&arguments),
        Command::Bench { arguments } => xtask::bench::main(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
