//! Keyrail in a minute. `cargo xtask demo` builds what this needs and starts it.
//!
//! Orders go in with `keyrail send`, a worker (`keyrail run`, on the embedded broker) pays them, and is killed with
//! SIGKILL three times while it does. What is there in the end is read with `keyrail tail` and judged.

mod judge;
mod screen;
mod story;
mod worker;

use anyhow::{Context as _, Result, bail, ensure};
use screen::{Counts, Screen};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use story::Story;
use worker::{Place, Worker};

const ORDERS: usize = 60_000;
const KILLS: usize = 3;
/// Parts that the stream is sent in.
const PARTS: usize = 12;
/// Nothing new for this long, with orders left: something is wrong.
const SILENCE: Duration = Duration::from_secs(30);
/// No lag and nothing new for this long: all is settled and committed.
const QUIET: Duration = Duration::from_millis(500);
const INPUT: &str = "payments";
const RECEIPTS: &str = "receipts";
const LETTERS: &str = "payments.payments.dlq";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let orders = orders()?;
    let path = |name: &str| {
        std::env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set: run `cargo xtask demo`"))
    };
    let (keyrail, guests, folder) = (path("KEYRAIL_BIN")?, path("KEYRAIL_GUESTS")?, path("KEYRAIL_DEMO")?);
    let mut screen = Screen::new();
    let story = Story::new(orders);
    let place = Place::new(&keyrail, &guests, &folder)?;
    screen.say(&format!(
        "{} orders of {} customers: {} are sent twice, {} can never be paid, {} meet a busy bank",
        story.ids(),
        story.payable.len(),
        story.repeats.len(),
        story.hopeless.len(),
        story.busy
    ));
    let counts = play(&place, &story, &mut screen)?;
    let verdict = verdict(&place, &story, &mut screen)?;
    tell(&place, &story, counts, &verdict, &mut screen);
    Ok(verdict.is_good())
}

/// `--orders N`, for those in a hurry.
fn orders() -> Result<usize> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(ORDERS),
        ["--orders", number] => match number.parse() {
            Ok(number @ 1_000..=10_000_000) => Ok(number),
            _ => bail!("--orders takes a number from 1000 to 10000000, and not {number:?}"),
        },
        _ => bail!("the demo takes --orders N and nothing else"),
    }
}

/// Sends it all, kills on the way, and ends when everything is settled.
fn play(place: &Place, story: &Story, screen: &mut Screen) -> Result<Counts> {
    let (mut worker, took) = Worker::start(place)?;
    screen.say(&format!("the worker is up after {:.1} s, on the embedded broker", took.as_secs_f64()));
    let expected = story.lines.len() as u64;
    let (mut before, mut now) = (Counts::default(), Counts::default());
    let part = story.lines.len().div_ceil(PARTS);
    for (number, lines) in story.lines.chunks(part).enumerate() {
        place.send(INPUT, lines.iter().map(|line| line.text.as_str()))?;
        now = place.metrics().map_or(now, |metrics| counts(&metrics));
        screen.progress(before + now, expected);
        // In the middle of what it does: nobody waits for what was just sent.
        let kill = (number + 1) % (PARTS / (KILLS + 1)) == 0;
        if kill && number + 1 < PARTS {
            worker.kill()?;
            let done = (before + now).done;
            screen.say(&format!("killed the worker with SIGKILL, when {done} orders were handled"));
            (before, now) = (before + now, Counts::default());
            let (next, took) = Worker::start(place)?;
            worker = next;
            screen.say(&format!("a new worker is ready after {:.1} s and goes on", took.as_secs_f64()));
        }
    }
    let mut heard = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let metrics = place.metrics().unwrap_or_default();
        let seen = counts(&metrics);
        if seen != now {
            (now, heard) = (seen, Instant::now());
        }
        screen.progress(before + now, expected);
        if metrics.get("keyrail_partition_lag_records") == Some(&0) && heard.elapsed() > QUIET {
            break;
        }
        let log = place.log();
        ensure!(heard.elapsed() < SILENCE, "nothing happened for {SILENCE:?}; the worker's log: {}", log.display());
    }
    let took = worker.stop()?;
    screen.say(&format!("all is settled; the worker was asked to stop and did in {:.1} s", took.as_secs_f64()));
    Ok(before + now)
}

fn counts(metrics: &BTreeMap<String, u64>) -> Counts {
    let of = |name: &str| metrics.get(name).copied().unwrap_or(0);
    Counts {
        done: of("keyrail_messages_settled_total.done"),
        duplicates: of("keyrail_messages_settled_total.duplicate"),
        retries: of("keyrail_retries_total"),
        dead: of("keyrail_messages_settled_total.dead_lettered"),
    }
}

fn verdict(place: &Place, story: &Story, screen: &mut Screen) -> Result<judge::Verdict> {
    let mut receipts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in place.records(RECEIPTS)? {
        let text = record["value"].as_str().context("a receipt without text")?;
        let receipt: Value = serde_json::from_str(text).context("a receipt")?;
        let (key, id) = (record["key"].as_str(), receipt["id"].as_str());
        let (key, id) = key.zip(id).context("a receipt without key or id")?;
        receipts.entry(key.to_owned()).or_default().push(id.to_owned());
    }
    let letters = place.records(LETTERS)?;
    if let Some(letter) = letters.first() {
        let of = |name: &str| letter["headers"][name].as_str().unwrap_or("?").to_owned();
        let (id, reason, code, detail) =
            (of("order-id"), of("keyrail-reason"), of("keyrail-code"), of("keyrail-detail"));
        screen.say(&format!("the first dead letter is {id}: {reason}, {code}: {detail}"));
    }
    let id = |record: &Value| record["headers"]["order-id"].as_str().map(str::to_owned);
    let letters = letters.iter().map(|r| id(r).context("a dead letter without its order's id"));
    Ok(judge::judge(story, &receipts, &letters.collect::<Result<Vec<_>>>()?))
}

fn tell(place: &Place, story: &Story, counts: Counts, verdict: &judge::Verdict, screen: &mut Screen) {
    let (lost, crossed, twice) = (verdict.lost.len(), verdict.out_of_order.len(), verdict.twice.len());
    // What the killed workers did in their last moments is in no figure, so there are a few more.
    let again = usize::try_from(counts.done).unwrap_or(usize::MAX).saturating_sub(verdict.paid);
    let took = screen.elapsed().as_secs_f64();
    let there = [
        ("orders sent", story.lines.len(), format!("{} of them are second copies", story.repeats.len())),
        ("paid, by their receipts", verdict.paid, String::new()),
        ("dead-lettered, as they should be", verdict.dead, String::new()),
        ("lost", lost, String::new()),
        ("out of order", crossed, String::new()),
        ("twice", twice, "each order has its effects once, also where it was sent twice".to_owned()),
    ];
    let counted = [
        ("orders done", counts.done as usize, "what a kill took back was done again, and counts again".to_owned()),
        ("of them again after a kill", again, "what they had written was taken back".to_owned()),
        ("duplicates suppressed", counts.duplicates as usize, "each time that they were met, kills or not".to_owned()),
        ("retries", counts.retries as usize, "each customer's next orders waited meanwhile".to_owned()),
    ];
    for (heading, rows) in [
        ("What is there in the end, read with `keyrail tail`:", &there[..]),
        ("What the workers counted on the way, as in the line of progress:", &counted[..]),
    ] {
        screen.print(&format!("\n{heading}"));
        for (what, number, remark) in rows {
            screen.print(format!("{number:>9}  {what:<34} {remark}").trim_end());
        }
    }
    for (what, ids) in [
        ("lost", &verdict.lost),
        ("out of order", &verdict.out_of_order),
        ("twice", &verdict.twice),
        ("unexpected", &verdict.strange),
    ] {
        if let Some(first) = ids.first() {
            screen.print(&format!("           {what}: {first} and {} more", ids.len() - 1));
        }
    }
    let word = if verdict.is_good() { "The promise was kept" } else { "THE PROMISE WAS BROKEN" };
    screen.print(&format!(
        "\n{word}: {KILLS} kills, {lost} lost, {crossed} out of order, {twice} twice, in {took:.1} s."
    ));
    let (keyrail, config) = (place.keyrail.display(), place.config());
    let config = config.display();
    screen.print(&format!(
        "\nWhat the workers said is in {}.\nTo try next:\n  {keyrail} tail {LETTERS} --from earliest -c {config}\n  \
         {keyrail} lag -c {config}\n  {keyrail} run -c {config}\n",
        place.log().display()
    ));
}
