//! What each command takes. Looked at before anything is built or fetched: nobody waits minutes to hear of a slip.

/// How many orders the demo takes.
const DEMO_ORDERS: std::ops::RangeInclusive<u64> = 1_000..=10_000_000;

/// What may stand behind a command.
enum Takes {
    Nothing,
    /// It says itself what is wrong, before it does anything.
    ItsOwn,
    DemoOrders,
    /// It goes to another program, `--help` too.
    Anything,
}

/// Name, what may stand behind it, and what it does, a line each.
const COMMANDS: [(&str, Takes, &str, &str); 14] = [
    (
        "demo",
        Takes::DemoOrders,
        "[--orders N]",
        "Keyrail in a minute, on the embedded broker: handlers, dead letters, and three kills",
    ),
    (
        "test",
        Takes::ItsOwn,
        "[--all] [FILTER]",
        "set-up, then every test, then a summary; --all makes a skip a failure",
    ),
    ("tidy", Takes::Nothing, "", "the style rules alone"),
    (
        "setup",
        Takes::Nothing,
        "",
        "fetch and build what the tests need: system packages, Kafka, WebAssembly target, guests",
    ),
    ("env", Takes::Nothing, "", "the set-up, then KEY=VALUE lines for using it"),
    ("guests", Takes::Nothing, "", "build the handlers of examples, plugins and tests, into target/guests"),
    (
        "kafka",
        Takes::ItsOwn,
        "start|stop|wipe",
        "one Kafka broker on loopback for trying things by hand; start takes --port N",
    ),
    ("sim", Takes::Anything, "--seed N", "one run of the simulator; --seeds A..B for many, --help for the rest"),
    (
        "faults",
        Takes::Anything,
        "[ARGS]",
        "every fault that a guarantee must stand, as often as you like, with a report; --help for the rest",
    ),
    (
        "fuzz",
        Takes::ItsOwn,
        "[TARGET] [--seconds N]",
        "libFuzzer on what reads bytes from outside, a minute each; TARGET FILE runs one input again",
    ),
    ("container", Takes::ItsOwn, "[ARGS]", "the image, compiled in release; ARGS go to docker, podman or buildah"),
    (
        "bench",
        Takes::Anything,
        "[ARGS]",
        "Keyrail against a raw copy loop and Kafka Streams, in release; --help for the rest",
    ),
    ("deny", Takes::Nothing, "", "licences, sources and duplicates of what we depend on"),
    ("mutants", Takes::ItsOwn, "[ARGS]", "mutation testing of the engine; ARGS go to cargo-mutants"),
];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The command, with what stands behind it.
    Do,
    /// Help, which is this.
    Help(String),
    /// Wrong use: why, and how it is used.
    Wrong(String),
}

/// Looks at a command and what stands behind it.
pub(crate) fn look(command: &str, rest: &[String]) -> Asked {
    if matches!(command, "help" | "-h" | "--help") {
        return Asked::Help(all());
    }
    let Some((name, takes, args, words)) = COMMANDS.iter().find(|known| known.0 == command) else {
        return Asked::Wrong(format!("unknown command {command}\n\n{}", all()));
    };
    let usage = format!("cargo xtask {name} {args}").trim_end().to_owned() + &format!("\n  {words}\n");
    let help = rest.iter().any(|arg| arg == "-h" || arg == "--help");
    if help && !matches!(takes, Takes::Anything) {
        return Asked::Help(usage);
    }
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let wrong = match (takes, &words[..]) {
        (Takes::Nothing, [first, ..]) => format!("it takes nothing, and not {first}"),
        (Takes::DemoOrders, ["--orders"]) => "--orders needs a number".to_owned(),
        (Takes::DemoOrders, ["--orders", number]) if number.parse().is_ok_and(|n: u64| DEMO_ORDERS.contains(&n)) => {
            return Asked::Do;
        }
        (Takes::DemoOrders, ["--orders", number]) => {
            let (least, most) = (DEMO_ORDERS.start(), DEMO_ORDERS.end());
            format!("--orders takes a number from {least} to {most}, and not {number}")
        }
        (Takes::DemoOrders, [first, ..]) => format!("it takes --orders N and nothing else: {first}"),
        _ => return Asked::Do,
    };
    Asked::Wrong(format!("{name}: {wrong}\n\n{usage}"))
}

fn all() -> String {
    let mut text = "cargo xtask COMMAND\n\n".to_owned();
    for (name, _, args, words) in COMMANDS {
        text += &format!("  {:<22}{words}\n", format!("{name} {args}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Asked, look};

    fn asked(line: &str) -> Asked {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.split_first().map_or_else(|| look("help", &[]), |(command, rest)| look(command, rest))
    }

    #[test]
    fn wrong_use_is_told_before_anything_is_built() {
        for (line, why) in [
            ("dmeo", "unknown command dmeo"),
            ("demo --order 5", "demo: it takes --orders N and nothing else: --order"),
            ("demo --orders", "demo: --orders needs a number"),
            ("demo --orders 10", "demo: --orders takes a number from 1000 to 10000000, and not 10"),
            ("demo --orders 2000 x", "nothing else: --orders"),
            ("guests payments", "guests: it takes nothing, and not payments"),
        ] {
            let Asked::Wrong(told) = asked(line) else { unreachable!("{line} is taken") };
            assert!(told.contains(why) && told.contains("cargo xtask "), "{told}");
        }
        for line in ["demo", "demo --orders 2000", "guests", "test --all lanes", "kafka start --port 9", "mutants x"] {
            assert_eq!(asked(line), Asked::Do, "{line}");
        }
    }

    #[test]
    fn help_is_there_for_all_and_for_each() {
        let Asked::Help(all) = asked("") else { unreachable!("no help") };
        assert!(all.contains("\n  demo [--orders N]     Keyrail in a minute"), "{all}");
        assert_eq!(asked("--help"), Asked::Help(all));
        for line in ["demo --help", "demo --orders 5 -h", "guests --help", "test -h", "kafka --help"] {
            let usage = format!("cargo xtask {}", line.split(' ').next().unwrap_or_default());
            assert!(matches!(asked(line), Asked::Help(told) if told.starts_with(&usage)), "{line}");
        }
        // The simulator and the bench say more of themselves than is known here.
        assert_eq!(asked("sim --help"), Asked::Do);
    }
}
