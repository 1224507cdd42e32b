//! The project's own commands: `cargo xtask COMMAND`. Depends on nothing, so that it builds in seconds.

mod broker;
mod faults;
mod image;
mod jobs;
mod manifest;
mod place;
mod run;
mod say;
mod setup;
mod suite;
mod tidy;

use place::Place;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  demo [--orders N]     Keyrail in a minute, on the embedded broker: handlers, dead letters, and three kills
  test [--all] [FILTER] set-up, then every test, then a summary; --all makes a skip a failure
  tidy                  the style rules alone
  setup                 fetch and build what the tests need: system packages, Kafka, WebAssembly target, guests
  env                   the set-up, then KEY=VALUE lines for using it
  guests                build the guests alone, into target/guests
  kafka start|stop|wipe one Kafka broker on loopback for trying things by hand; start takes --port N
  sim --seed N          one run of the simulator; --seeds A..B for many, --help for the rest
  faults [ARGS]         every fault that a guarantee must stand, as often as you like, with a report; --help
  container [ARGS]      the image, compiled in release; ARGS go to docker, podman or buildah
  bench [ARGS]          Keyrail against a raw copy loop, in release
  deny                  licences, sources and duplicates of what we depend on
  mutants [ARGS]        mutation testing of the engine; ARGS go to cargo-mutants
";

fn main() -> ExitCode {
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
    let place = Place::find()?;
    let (command, rest) = args.split_first().map_or(("help", args), |(c, rest)| (c.as_str(), rest));
    match command {
        "help" | "-h" | "--help" => print!("{HELP}"),
        "setup" => return no_more(rest).and_then(|()| set_up(&place)),
        "env" => {
            no_more(rest)?;
            let ready = setup::all(&place)?;
            for (name, value) in ready.env(&place) {
                println!("{name}={}", value.display());
            }
        }
        "guests" => no_more(rest).and_then(|()| setup::guests(&place)).map(drop)?,
        "kafka" => broker::command(&place, rest)?,
        "demo" => return jobs::demo(&place, rest),
        "test" => return suite::command(&place, rest),
        "tidy" => return no_more(rest).and_then(|()| tidy(&place)),
        "sim" => return jobs::sim(&place, rest),
        "faults" => return faults::command(&place, rest),
        "bench" => return jobs::bench(&place, rest),
        "container" => return image::build(&place, rest),
        "deny" => return no_more(rest).and_then(|()| jobs::deny(&place)),
        "mutants" => return jobs::mutants(&place, rest),
        unknown => {
            eprint!("unknown command {unknown}\n\n{HELP}");
            return Ok(ExitCode::from(2));
        }
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

fn no_more(args: &[String]) -> Result<(), String> {
    args.first().map_or(Ok(()), |arg| Err(format!("unknown argument {arg}")))
}
