//! What the program says of itself, for shells, `man` and editors. None of it reads a file or asks a broker.

use super::{Cli, Exit};
use anyhow::Context as _;
use clap::{Args, CommandFactory as _, ValueEnum, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use keyrail::config::{host_schema, pipeline_schema};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for keyrail and for each command into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Of which file
    file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum File {
    /// keyrail.toml
    Host,
    /// A pipeline's NAME.toml
    Pipeline,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "keyrail", &mut script);
    print(&script)
}

pub(super) fn schema(args: &SchemaArgs) -> anyhow::Result<Exit> {
    let schema = match args.file {
        File::Host => host_schema(),
        File::Pipeline => pipeline_schema(),
    };
    print(schema.as_bytes())
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        page(root).render(&mut text).context("can't render the page")?;
        return print(&text);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("can't make the folder {}", dir.display()))?;
    for page in all(root).into_iter().map(page) {
        page.generate_to(dir).with_context(|| format!("can't write {}", dir.join(page.get_filename()).display()))?;
    }
    Ok(Exit::Done)
}

/// A command, and those below it.
fn all(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<_> = command.get_subcommands().filter(|below| !below.is_hide_set()).cloned().collect();
    below.into_iter().flat_map(all).chain([command]).collect()
}

fn page(command: clap::Command) -> Man {
    Man::new(command).source(concat!("keyrail ", env!("CARGO_PKG_VERSION"))).manual("Keyrail")
}

fn print(text: &[u8]) -> anyhow::Result<Exit> {
    super::terminal::print(text, "to standard output").map(|_| Exit::Done)
}
