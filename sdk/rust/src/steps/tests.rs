use super::*;
use crate::http::{Reason, Response};
use crate::prelude::*;
use crate::testing::{Host as TestHost, Input, Run};

/// Asks once for each character of the value; `-` fails, after it has staged something.
fn prepare(message: &Message, ctx: &Context<'_>) -> Result<Vec<Request>, Problem> {
    let text = String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned();
    ctx.send("out", format!("prepared {text}")).dispatch()?;
    if text == "-" {
        return Err(retry("not-now", "later"));
    }
    Ok(text.chars().map(|name| Request::get(format!("https://a/{name}"))).collect())
}

fn handle(_message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome {
    for answer in answers {
        ctx.send("out", answer?.ok_or_retry()?.into_body()).dispatch()?;
    }
    Ok(Done)
}

fn host() -> TestHost {
    TestHost::new()
        .output("out")
        .answer("GET", "https://a/x", Reason::Timeout)
        .answer_with(|request| Response::new(200).with_body(request.url()))
}

fn sent(run: &Run) -> Vec<String> {
    run.sent.iter().map(|sent| String::from_utf8_lossy(sent.value()).into_owned()).collect()
}

#[test]
fn each_message_is_handled_with_its_own_answers() {
    let mut host = host();
    let runs = host.run_http_batch((prepare, handle), ["ab", "-", "", "x", "c"]);
    assert_eq!(sent(&runs[0]), ["prepared ab", "https://a/a", "https://a/b"]);
    assert_eq!(runs[1].outcome, Err(retry("not-now", "later")));
    assert!(runs[1].undone && runs[1].sent.is_empty());
    assert_eq!(sent(&runs[2]), ["prepared "]);
    assert_eq!(runs[3].outcome, Err(retry("http-timeout", "GET https://a/x: no answer in time")));
    assert_eq!(sent(&runs[4]), ["prepared c", "https://a/c"]);
    let asked: Vec<_> = host.requests().iter().map(|made| (made.slot, made.request.url().to_owned())).collect();
    let expected = [(0, "a"), (0, "b"), (3, "x"), (4, "c")].map(|(slot, name)| (slot, format!("https://a/{name}")));
    assert_eq!(asked, expected);
}

/// Counts what it asked, and refuses to open without an address.
struct Counting {
    url: String,
    asked: usize,
}

impl HttpHandler for Counting {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        Ok(Counting { url: setup.require("url")?, asked: 0 })
    }

    fn prepare(&mut self, _message: &Message, _ctx: &Context<'_>) -> Result<Vec<Request>, Problem> {
        self.asked += 1;
        Ok(vec![Request::get(&self.url)])
    }

    fn handle(&mut self, _message: &Message, ctx: &Context<'_>, answers: Vec<Answer>) -> Outcome {
        ctx.send("out", format!("{} of {}", answers.len(), self.asked)).dispatch()?;
        Ok(Done)
    }
}

crate::http_handler!(type Counting);

#[test]
fn a_batch_is_prepared_before_its_first_message_is_handled() {
    let mut host = host().config("url", "https://a/");
    let mut counting = Counting::open(&host.setup()).unwrap();
    let runs = host.run_http_batch(&mut counting, ["a", "b"]);
    assert_eq!([sent(&runs[0]), sent(&runs[1])], [["1 of 2"], ["1 of 2"]]);
    assert_eq!(sent(&host.run_http(&mut counting, Input::new("c"))), ["1 of 3"]);
    assert!(Counting::open(&TestHost::new().setup()).is_err());
}

#[test]
fn the_exported_process_runs_both_steps() {
    let mut host = host().config("url", "https://a/");
    let setup = host.setup();
    let mut program = Stepped::<Counting>::open(&setup).unwrap();
    let mut outcomes = Vec::new();
    host.run_batch(
        |batch| {
            let messages: Vec<Message> = batch.iter().map(|delivery| delivery.message.clone()).collect();
            outcomes = program.process(&setup, &messages);
            batch.iter().map(|_| Ok(Done)).collect()
        },
        ["a", "b"],
    );
    assert_eq!(outcomes, [contract::Outcome::Done, contract::Outcome::Done]);
    assert_eq!(host.requests().len(), 2);
}
