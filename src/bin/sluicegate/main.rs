//! The command line: what it offers, and what a program reads from its exit status.

mod demo;
mod edge;
mod explain;
mod keys;
mod mint;
mod output;
mod policy;
mod sample;
mod serve;
mod smoke;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// A multi-tenant signed-URL download gateway.
///
/// Without a command it serves the demo tenant on loopback, with a sample upstream built in, and prints a link to try.
///
/// Exit status: 0 done; 1 it did not hold (a link that would be refused, a policy with a mistake, a deployment that breaks
/// the contract); 2 wrong usage or a setting that cannot be used.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the demo listens, in place of `listen` in the configuration
    #[arg(long, value_name = "ADDRESS", value_parser = sluicegate::wire::config::read_address)]
    listen: Option<std::net::SocketAddr>,
}

const AFTER_HELP: &str =
    "Every setting of `serve` can also stand in a file or in the environment; `serve --help` lists them.";

#[derive(Subcommand)]
enum Command {
    /// Serve downloads
    Serve(serve::Args),
    /// Make a signed link
    Mint(mint::Args),
    /// Walk a link through every stage and say where it stops and why
    Explain(explain::Args),
    /// Check policies, or print their schema
    Policy(policy::Args),
    /// Give the edge what it needs to verify links itself
    Edge(edge::Args),
    /// Make keys
    Keys(keys::Args),
    /// Print the table of refusals as Markdown
    Problems,
    /// Ask a running server whether it answers
    Health(serve::HealthArgs),
    /// Run the contract against a live deployment and show what holds
    Smoke(smoke::Args),
    /// Add up what each tenant downloaded, from logs or the usage file
    Usage(usage::Args),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command ends when nothing went wrong with the command itself.
pub(crate) enum Verdict {
    /// It holds.
    Good,
    /// It does not hold.
    Bad,
}

/// Wrong usage, or something that cannot be used; the text says what to do next.
pub(crate) type Failure = String;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => demo::run(cli.listen),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Mint(args)) => mint::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Policy(args)) => policy::run(&args),
        Some(Command::Edge(args)) => edge::run(&args),
        Some(Command::Keys(args)) => keys::run(&args),
        Some(Command::Problems) => output::print(&sluicegate::gate::refusal::problems_page()),
        Some(Command::Health(args)) => serve::health(&args),
        Some(Command::Smoke(args)) => smoke::run(&args),
        Some(Command::Usage(args)) => usage::run(&args),
        Some(Command::Completions { shell }) => completions(shell),
    };
    match done {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(2)
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sluicegate", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
