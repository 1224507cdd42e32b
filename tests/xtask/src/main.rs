//! The project's own commands: `cargo xtask COMMAND`. Depends on nothing, so that it builds in seconds.

mod broker;
mod faults;
mod fuzz;
mod image;
mod jobs;
mod manifest;
mod place;
mod run;
mod say;
mod setup;
mod suite;
mod tidy;
mod usage;

use place::Place;
use std::process::ExitCode;
use usage::Asked;

fn main() -> ExitCode {
    if let Some(compiled) = fuzz::rustc() {
        return compiled.unwrap_or_else(|error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        });
    }
    say::begin();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            say::say(&format!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode, String> {
    let (command, rest) = args.split_first().map_or(("help", args), |(c, rest)| (c.as_str(), rest));
    match usage::look(command, rest) {
        Asked::Do => {}
        Asked::Help(text) => {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        }
        Asked::Wrong(why) => {
            eprint!("{why}");
            return Ok(ExitCode::from(2));
        }
    }
    let place = Place::find()?;
    match command {
        "setup" => return set_up(&place),
        "env" => {
            let ready = setup::all(&place)?;
            for (name, value) in ready.env(&place) {
                println!("{name}={}", value.display());
            }
        }
        "guests" => setup::guests(&place).map(drop)?,
        "kafka" => broker::command(&place, rest)?,
        "demo" => return jobs::demo(&place, rest),
        "test" => return suite::command(&place, rest),
        "tidy" => return tidy(&place),
        "sim" => return jobs::sim(&place, rest),
        "faults" => return faults::command(&place, rest),
        "fuzz" => return fuzz::command(&place, rest),
        "bench" => return jobs::bench(&place, rest),
        "container" => return image::build(&place, rest),
        "deny" => return jobs::deny(&place),
        "mutants" => return jobs::mutants(&place, rest),
        unknown => return Err(format!("{unknown} is known and not done: a fault of this program")),
    }
    Ok(ExitCode::SUCCESS)
}

fn set_up(place: &Place) -> Result<ExitCode, String> {
    let ready = setup::all(place)?;
    for missing in &ready.missing {
        say::say(&format!("not set up: {}: {}", missing.part, missing.reason));
    }
    if !ready.missing.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    say::say("set-up done; cargo xtask env prints how to use it");
    Ok(ExitCode::SUCCESS)
}

fn tidy(place: &Place) -> Result<ExitCode, String> {
    let faults = tidy::faults(place)?;
    for fault in &faults {
        println!("{fault}");
    }
    say::say(&format!("{} faults of style", faults.len()));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
