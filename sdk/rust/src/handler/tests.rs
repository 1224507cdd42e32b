use super::*;
use crate::Verdict::{Done, Skip};
use crate::outcome::dead_letter;
use crate::testing::{Host, Input};

#[derive(Debug)]
struct Numbered {
    first: u32,
    handled: u32,
}

impl Handler for Numbered {
    fn open(setup: &Setup) -> Result<Self, Box<dyn Error>> {
        Ok(Numbered { first: setup.require("first")?, handled: 0 })
    }

    fn handle(&mut self, message: &Message, ctx: &Context<'_>) -> Outcome {
        self.handled += 1;
        match message.value() {
            Some(b"bad") => Err(dead_letter("bad", self.handled)),
            _ => {
                ctx.send("out", (self.first + self.handled).to_string()).dispatch()?;
                Ok(Done)
            }
        }
    }
}

crate::handler!(type Numbered);

struct Sorted;

impl BatchHandler for Sorted {
    fn open(_setup: &Setup) -> Result<Self, Box<dyn Error>> {
        Ok(Sorted)
    }

    fn process(&mut self, batch: &[Delivery<'_>]) -> Vec<Outcome> {
        batch
            .iter()
            .map(|Delivery { message, ctx }| {
                ctx.send("out", message.value()).header("of", batch.len().to_string()).dispatch()?;
                Ok(Skip)
            })
            .collect()
    }
}

crate::handler!(batch type Sorted);

mod functions {
    use super::*;

    fn handle(_message: &Message, _ctx: &Context<'_>) -> Outcome {
        Ok(Done)
    }

    fn open(_setup: &Setup) -> Result<(), String> {
        Ok(())
    }

    crate::handler!(handle);
    crate::handler!(handle, open = open);
    crate::handler!(self::handle, open = self::open);
}

#[test]
fn a_handler_of_ones_own_keeps_what_open_found() {
    let mut host = Host::new().output("out").config("first", "100");
    let mut numbered = Numbered::open(&host.setup()).unwrap();
    for expected in ["101", "102"] {
        let run = host.run(|message, ctx| numbered.handle(message, ctx), "x");
        assert_eq!(run.sent[0].value(), expected.as_bytes());
    }
}

#[test]
fn open_says_what_is_wrong_with_the_configuration() {
    let missing = Numbered::open(&Host::new().setup()).unwrap_err().to_string();
    assert_eq!(missing, "[config] first is missing: set it in the handler's manifest");
    let wrong = Numbered::open(&Host::new().config("first", "one").setup()).unwrap_err().to_string();
    assert_eq!(wrong, "[config] first = \"one\": invalid digit found in string");
}

/// What the exported `process` does, natively.
fn process<P: Program>(host: &mut Host, values: &[&str]) -> (Vec<contract::Outcome>, Vec<Vec<u8>>) {
    let setup = host.setup();
    let mut program = P::open(&setup).unwrap();
    let mut outcomes = Vec::new();
    let runs = host.run_batch(
        |batch| {
            let messages: Vec<Message> = batch.iter().map(|delivery| delivery.message.clone()).collect();
            outcomes = program.process(&setup, &messages);
            batch.iter().map(|_| Ok(Done)).collect()
        },
        values.iter().map(|&value| Input::new(value)),
    );
    (outcomes, runs.into_iter().flat_map(|run| run.sent).filter_map(|sent| sent.value).collect())
}

#[test]
fn each_message_of_a_batch_gets_its_own_slot() {
    let mut host = Host::new().output("out").config("first", "0");
    let (outcomes, sent) = process::<Each<Numbered>>(&mut host, &["a", "bad", "c"]);
    let bad = contract::Failure { code: "bad".to_owned(), detail: "2".to_owned() };
    assert_eq!(outcomes, [contract::Outcome::Done, contract::Outcome::DeadLetter(bad), contract::Outcome::Done]);
    assert_eq!(sent, [b"1".to_vec(), b"3".to_vec()]);
}

#[test]
fn a_batch_handler_sees_the_whole_batch() {
    let mut host = Host::new().output("out");
    let (outcomes, sent) = process::<Batched<Sorted>>(&mut host, &["a", "b"]);
    assert_eq!(outcomes, [contract::Outcome::Skip, contract::Outcome::Skip]);
    assert_eq!(sent, [b"a".to_vec(), b"b".to_vec()]);
}
