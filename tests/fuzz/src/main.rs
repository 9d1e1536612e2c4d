//! The command line of `cargo xtask fuzz`.
use clap::Parser;
use fuzz::targets::TARGETS;
use fuzz::{Limit, run, run_one};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(name = "cargo xtask fuzz", about = "Mutated examples for every decoder; not guided by coverage", max_term_width = 120)]
struct Cli {
    /// For how long, all targets together
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What decides the mutations
    #[arg(long, default_value_t = 37)]
    seed: u64,
    /// Only targets whose name has this in it
    #[arg(long, default_value = "")]
    target: String,
    /// Run the targets on this file instead
    #[arg(long)]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let targets: Vec<_> = TARGETS.iter().filter(|target| target.name.contains(&cli.target)).collect();
    let mut code = ExitCode::SUCCESS;
    if let Some(path) = cli.input {
        let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for target in targets {
            if let Err(why) = run_one(target, &input) {
                eprintln!("{}: {why}", target.name);
                code = ExitCode::FAILURE;
            }
        }
        return code;
    }
    let each = Duration::from_secs(cli.seconds) / u32::try_from(targets.len().max(1)).expect("there are few targets");
    let kept = std::env::temp_dir().join(format!("k8shost-fuzz-{}", std::process::id()));
    println!("seed {}; the input that is being run is in {}", cli.seed, kept.display());
    for target in targets {
        match run(target, cli.seed, Limit::Time(each), Some(&kept)) {
            Ok(cases) => println!("{:16} {cases} cases", target.name),
            Err(failure) => {
                eprintln!("{failure}");
                code = ExitCode::FAILURE;
            }
        }
    }
    if let Err(error) = std::fs::remove_file(&kept) {
        eprintln!("{}: {error}", kept.display());
    }
    code
}
