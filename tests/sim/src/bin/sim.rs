//! `sim --seed N [--trace] [--bug NAME]`, `sim --seeds A..B [--bug NAME]`: runs seeds of the simulator.

use keyrail_engine::planted::Bug;
use keyrail_sim::many::run_seeds;
use keyrail_sim::settings::Settings;
use keyrail_sim::world::World;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: sim --seed N | --seeds A..B  [--bug NAME] [--trace] [--coverage]";

#[derive(Default)]
struct Asked {
    seeds: Option<Range<u64>>,
    bug: Option<Bug>,
    trace: bool,
    coverage: bool,
}

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)) {
        Ok(asked) => run(&asked),
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn asked(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                asked.seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or(format!("{text:?} is not a range such as 0..1000"))?;
                asked.seeds = Some(number(from)?..number(to)?);
            }
            "--bug" => {
                let name = value()?;
                let bug = Bug::ALL.iter().find(|b| format!("{b:?}") == name);
                asked.bug = Some(*bug.ok_or(format!("no planted bug is named {name}; there are {:?}", Bug::ALL))?);
            }
            "--trace" => asked.trace = true,
            "--coverage" => asked.coverage = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(asked)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|e| format!("{text:?} is no seed: {e}"))
}

fn run(asked: &Asked) -> ExitCode {
    let seeds = asked.seeds.clone().unwrap_or(0..1_000);
    if asked.trace {
        return trace(seeds.start, asked.bug);
    }
    let start = Instant::now();
    println!("running seeds {}..{}", seeds.start, seeds.end);
    let sum = run_seeds(seeds, asked.bug);
    if asked.coverage {
        print!("{}", sum.coverage.table());
    }
    println!(
        "{} seeds held, {} messages, {} steps, {:.1} s",
        sum.seeds,
        sum.messages,
        sum.steps,
        start.elapsed().as_secs_f64()
    );
    let (calls, overruled) = sum.trials;
    println!("{calls} calls of versions on trial, {overruled} messages failed on them alone");
    let missing = sum.coverage.missing().len();
    if missing > 0 {
        println!("{missing} pairs of action and fault did not occur");
    }
    match sum.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Prints everything that happens in one seed.
fn trace(seed: u64, bug: Option<Bug>) -> ExitCode {
    let mut settings = Settings::of_seed(seed, bug);
    settings.seed = seed;
    println!("{settings:#?}");
    let mut world = World::new(settings, true);
    let end = loop {
        if let Some(violation) = world.env.oracle.take_violation() {
            break Some(violation);
        }
        if world.is_over() {
            world.end();
            break world.env.oracle.take_violation();
        }
        world.step();
    };
    for event in world.env.trace.events() {
        println!("{event}");
    }
    match end {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
