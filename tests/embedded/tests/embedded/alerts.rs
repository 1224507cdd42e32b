//! Alerts, from what happens to a pipeline to what real servers get: by a webhook and by mail.

use crate::commands::command;
use crate::play::Play;
use crate::receivers::{Answer, Desk, Letter, Request, http, nobody, smtp};
use crate::run::beside;
use crate::support::{Folder, at};
use hmac::{Hmac, Mac as _};
use keyrail::admin::metrics::{Format, Metrics};
use keyrail::alerts::{Alerts, Couriers, Example, Kind, Place, What};
use keyrail::broker::OffsetCommit;
use keyrail::broker::Produce;
use keyrail::config;
use serde_json::Value;
use sha2::Sha256;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(40);
const SECRET: &str = "It's a Secret to Everybody";
/// Times that a test can wait for.
const SOON: &str = "group-wait = \"200ms\"\ngroup-interval = \"400ms\"\nrepeat-interval = \"1h\"\ntimeout = \"1s\"\n";

fn settings(more: &str, webhook: Option<SocketAddr>, mail: Option<SocketAddr>) -> String {
    let mut text = format!("[alerts]\n{SOON}{more}");
    if let Some(address) = webhook {
        text += &format!("[alerts.webhook]\nurl = \"http://{address}/hush/hush\"\nsecret = \"{SECRET}\"\n");
    }
    if let Some(address) = mail {
        text += &format!(
            "[alerts.mail]\nserver = \"{address}\"\nsecurity = \"none\"\nfrom = \"Keyrail <k@test.example>\"\nto = [\"a@test.example\", \"B <b@test.example>\"]\nuser = \"k\"\npassword = \"hush\"\n"
        );
    }
    text
}

/// Adds to the folder's `keyrail.toml`.
fn configure(folder: &Folder, more: &str) {
    let file = folder.path().join("keyrail.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text + more).unwrap();
}

/// `keyrail run` itself, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(folder: &Folder) -> Running {
    let mut command = command(folder, &["run"]);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Waits for an alert of this kind and status.
fn wait_for(hook: &Desk<Request>, kind: &str, status: &str, limit: Duration) -> (Request, Value) {
    let until = Instant::now() + limit;
    loop {
        for request in hook.all() {
            let json = request.json();
            let is_it = |alert: &&Value| alert["kind"] == kind && alert["status"] == status;
            let found = json["alerts"].as_array().unwrap().iter().find(is_it).cloned();
            if let Some(alert) = found {
                return (request, alert);
            }
        }
        let came: Vec<String> = hook.all().iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
        assert!(Instant::now() < until, "no {kind} {status} within {limit:?}: {came:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signed(request: &Request) -> bool {
    let digits = request.header("x-hub-signature-256").unwrap().strip_prefix("sha256=").unwrap();
    let digest: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap()).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&request.body);
    mac.verify_slice(&digest).is_ok()
}

#[test]
fn dead_letters_with_hostile_keys_reach_webhook_and_mail() {
    let Some(mut play) = Play::new("dead_letters_with_hostile_keys_reach_webhook_and_mail", "") else { return };
    let ((hook_at, hook), (mail_at, mail)) = (http("127.0.0.1:0"), smtp("127.0.0.1:0"));
    configure(&play.folder, &settings("kinds = [\"dead-letters\"]\n", Some(hook_at), Some(mail_at)));
    let mut running = start(&play.folder);
    let mut client = beside(&play.folder, &running.0);
    // A broken-off header, a mail's end, a call to everybody, bytes that are no text, and dots at the start of lines.
    let dots = format!("\u{e9}{}", ".".repeat(59));
    let keys: [&[u8]; 5] = [
        b"x\r\nBcc: evil@example.com\r\n\r\nHi",
        b"\r\n.\r\nRCPT TO:<evil@example.com>",
        b"<!channel> `x`",
        b"\xff\x00\x1b[2J",
        dots.as_bytes(),
    ];
    let value = br#"{"do":"dead-letter","id":"1"}"#;
    let mut seen = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let record = Produce {
            topic: "in",
            partition: Some(2),
            key: Some(key),
            value: Some(value),
            headers: &[],
            timestamp_ms: None,
        };
        assert_eq!(client.produce(&[record]).unwrap(), [Ok(())]);
        let requests = hook.wait(n + 1, LIMIT);
        let request = requests.last().unwrap();
        assert!(signed(request) && request.head.starts_with("POST /hush/hush HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("content-type"), Some("application/json"));
        let json = request.json();
        let alert = &json["alerts"][0];
        assert_eq!(
            (alert["kind"].as_str(), alert["pipeline"].as_str(), alert["new"].as_u64()),
            (Some("dead-letters"), Some("p"), Some(1))
        );
        let example = &alert["example"];
        assert_eq!(
            (example["topic"].as_str(), example["partition"].as_i64(), example["offset"].as_i64()),
            (Some("in"), Some(2), Some(n as i64))
        );
        assert_eq!((example["reason"].as_str(), example["code"].as_str()), (Some("rejected"), Some("scripted")));
        let places = serde_json::json!([{"topic":"in","partition":2,"count":alert["count"]}]);
        assert_eq!(alert["places"], places);
        assert_eq!(alert["commands"][0], "keyrail dlq list p");
        let text = json["text"].as_str().unwrap();
        assert!(!text.contains(['<', '\r', '\u{1b}']), "{text}");
        seen.push(example["key"].as_str().unwrap().to_owned());
        let letters = mail.wait(n + 1, LIMIT);
        check_mail(&letters[n], &seen[n]);
    }
    assert_eq!(&seen[2..], ["<!channel> `x`".to_owned(), "0xff001b5b324a".to_owned(), dots]);
    assert!(seen[0].starts_with("0x780d0a") && seen[1].starts_with("0x0d0a2e0d0a"), "{seen:?}");
    assert!(mail.all()[4].stuffed > 0, "a line that starts with a dot has one more on its way");
    assert!(running.0.try_wait().unwrap().is_none());
    play.expect(Default::default());
}

fn check_mail(letter: &Letter, key: &str) {
    assert_eq!(
        (letter.from.as_str(), letter.to.as_slice()),
        ("k@test.example", ["a@test.example", "b@test.example"].map(str::to_owned).as_slice())
    );
    // \0k\0hush
    assert_eq!(letter.login.as_deref(), Some("PLAIN AGsAaHVzaA=="));
    let subject = letter.headers("Subject");
    assert!(
        subject.len() == 1 && subject[0].starts_with("[keyrail] FIRING: p: ") && subject[0].contains("dead letter"),
        "{subject:?}"
    );
    for (name, count) in [("From", 1), ("To", 1), ("Date", 1), ("Message-ID", 1), ("Bcc", 0), ("Auto-Submitted", 1)] {
        assert_eq!(letter.headers(name).len(), count, "{name}: {:#?}", letter.lines);
    }
    let text = letter.text();
    assert!(text.contains(&format!("key {key}, rejected, code scripted")), "{text}");
    assert!(text.contains("\n    keyrail dlq redrive p\n"), "{text}");
}

#[test]
fn an_open_breaker_is_told_and_that_it_closed() {
    let tables = "retry = { attempts = 9, in-place = \"1m\", backoff = { first = \"300ms\", factor = 1.0, max = \"300ms\" } }\n\
                  [breaker]\nwindow = \"1s\"\npause = \"500ms\"\n";
    let Some(mut play) = Play::new("an_open_breaker_is_told_and_that_it_closed", tables) else { return };
    let (hook_at, hook) = http("127.0.0.1:0");
    configure(&play.folder, &settings("", Some(hook_at), None));
    let running = start(&play.folder);
    let mut client = beside(&play.folder, &running.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let command = format!("outage-until:{}", now + 5_000);
    let messages: Vec<_> = (0..200).map(|n| (format!("k{n}"), command.as_str(), format!("{n}"))).collect();
    play.send(client.as_mut(), &messages);
    let (request, open) = wait_for(&hook, "breaker", "firing", LIMIT);
    assert!(signed(&request) && open["example"]["code"] == "scripted", "{open}");
    assert!(open["example"]["detail"].as_str().unwrap().contains(" order keys failed: "), "{open}");
    let (_, closed) = wait_for(&hook, "breaker", "resolved", LIMIT);
    assert_eq!(
        (&closed["id"], &closed["since"], closed["pipeline"].as_str()),
        (&open["id"], &open["since"], Some("p"))
    );
}

#[test]
fn keys_that_fail_for_long_or_are_held_are_told_and_when_somebody_acted() {
    let test = "keys_that_fail_for_long_or_are_held_are_told_and_when_somebody_acted";
    let tables = "retry = { attempts = 2, then = \"hold\", in-place = \"0s\", \
                  backoff = { first = \"15s\", factor = 1.0, max = \"15s\", jitter = 0.0 } }\n";
    let Some(mut play) = Play::new(test, tables) else { return };
    let (hook_at, hook) = http("127.0.0.1:0");
    configure(&play.folder, &settings("parked-age = \"1s\"\nkeys = \"hidden\"\n", Some(hook_at), None));
    let running = start(&play.folder);
    let mut client = beside(&play.folder, &running.0);
    play.send_plain(client.as_mut(), &[("bad-key".to_owned(), r#"{"do":"retry","id":"1"}"#.to_owned())]);
    let (_, old) = wait_for(&hook, "parked", "firing", LIMIT);
    assert_eq!((old["count"].as_u64(), old["example"]["topic"].as_str()), (Some(1), Some("in")), "{old}");
    let (request, held) = wait_for(&hook, "held", "firing", LIMIT);
    let example = &held["example"];
    let told = (held["count"].as_u64(), example["code"].as_str(), example.get("key"));
    assert_eq!(told, (Some(1), Some("scripted"), None), "{held}");
    assert!(!String::from_utf8_lossy(&request.body).contains("bad-key"), "the key is hidden");
    wait_for(&hook, "parked", "resolved", LIMIT);
    // What it says is what helps.
    let place = format!("in:{}:{}", example["partition"], example["offset"]);
    assert_eq!(held["commands"][2], format!("keyrail parked drop p {place}"));
    let words: Vec<&str> = held["commands"][2].as_str().unwrap().split(' ').skip(1).collect();
    let (code, out, err) = crate::commands::run(&play.folder, &words, "");
    assert!(code == 0 && out.contains("done"), "{out}{err}");
    wait_for(&hook, "held", "resolved", LIMIT);
}

#[test]
fn input_that_is_lost_is_told_before_the_process_ends() {
    let Some(play) = Play::new("input_that_is_lost_is_told_before_the_process_ends", "") else { return };
    let ((hook_at, hook), (mail_at, mail)) = (http("127.0.0.1:0"), smtp("127.0.0.1:0"));
    // Nobody would hear of it in time.
    let times = settings("", Some(hook_at), Some(mail_at)).replace("200ms", "1m");
    configure(&play.folder, &times);
    let beyond = OffsetCommit { at: at(0, 1), offset: 1_000, metadata: String::new() };
    play.client().commit("p", &["in".to_owned()], &[beyond]).unwrap();
    let mut running = start(&play.folder);
    let ended = crate::support::ended(&mut running.0, LIMIT, &"a pipeline that lost input");
    assert_eq!(ended.code(), Some(1));
    let (_, lost) = wait_for(&hook, "loss", "firing", Duration::ZERO);
    assert_eq!((lost["count"].as_u64(), lost["example"]["partition"].as_i64()), (Some(1), Some(1)), "{lost}");
    assert!(lost["example"]["detail"].as_str().unwrap().contains("offsets 0 to 999"), "{lost}");
    let (_, stopped) = wait_for(&hook, "stopped", "firing", Duration::ZERO);
    assert!(stopped["example"]["detail"].as_str().unwrap().contains("keyrail rewind p --to PLACE"), "{stopped}");
    let letters = mail.all();
    assert!(
        letters.len() == 1 && letters[0].text().contains("input was lost before it was read, 1 time\n"),
        "{letters:#?}"
    );
}

/// The receivers of a configuration, without a pipeline.
fn receivers(settings: &str) -> (Alerts, Couriers, Metrics) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("plugins")).unwrap();
    let file = folder.path().join("keyrail.toml");
    std::fs::write(&file, format!("broker = \"embedded\"\n{settings}")).unwrap();
    let host = config::load_host(&file, &[], &|_| None).unwrap();
    let metrics = Metrics::new();
    let (alerts, couriers) = Alerts::start(&host.alerts, &metrics, "keyrail.toml".as_ref()).unwrap();
    (alerts, couriers, metrics)
}

fn letter(count: u64) -> What {
    let place = Place { topic: "in".to_owned(), partition: Some(0) };
    What::Happened { count, places: vec![(place, count)], example: Example::default() }
}

/// A figure of the metrics' page.
fn figure(metrics: &Metrics, name: &str) -> u64 {
    let page = metrics.render(Format::Prometheus);
    let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap()
}

fn failed(metrics: &Metrics, receiver: &str) -> u64 {
    figure(metrics, &format!("keyrail_alert_messages_total{{receiver=\"{receiver}\",result=\"failed\"}}"))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn receivers_that_are_down_get_all_of_it_when_they_come_back() {
    let (hook_at, mail_at) = (nobody(), nobody());
    let (alerts, couriers, metrics) = receivers(&settings("", Some(hook_at), Some(mail_at)));
    for _ in 0..20 {
        alerts.tell("p", Kind::DeadLetters, letter(3));
        std::thread::sleep(Duration::from_millis(30));
    }
    wait_until("nobody tried", || failed(&metrics, "webhook") >= 2 && failed(&metrics, "mail") >= 2);
    assert_eq!(figure(&metrics, "keyrail_alerts_pending{receiver=\"webhook\"}"), 1);
    let ((_, hook), (_, mail)) = (http(&hook_at.to_string()), smtp(&mail_at.to_string()));
    let json = hook.wait(1, LIMIT)[0].json();
    assert_eq!((json["alerts"][0]["count"].as_u64(), json["alerts"][0]["new"].as_u64()), (Some(60), Some(60)));
    assert!(mail.wait(1, LIMIT)[0].text().contains("60 dead letters"));
    wait_until("it is told", || figure(&metrics, "keyrail_alerts_pending{receiver=\"mail\"}") == 0);
    couriers.finish(LIMIT);
    assert_eq!((hook.all().len(), mail.all().len()), (1, 1), "nothing is told twice");
    assert_eq!(figure(&metrics, "keyrail_alert_messages_total{receiver=\"mail\",result=\"delivered\"}"), 1);
}

#[test]
fn a_receiver_that_fails_or_wants_to_be_left_alone_is_tried_again_when_it_should_be() {
    let ((hook_at, hook), (mail_at, mail)) = (http("127.0.0.1:0"), smtp("127.0.0.1:0"));
    let elsewhere = format!("location: http://{}/hush\r\n", nobody());
    hook.answers(&[
        Answer::Http("500 Internal Server Error", ""),
        Answer::Http("429 Too Many Requests", "retry-after: 4\r\n"),
        Answer::Http("302 Found", Box::leak(elsewhere.into_boxed_str())),
    ]);
    mail.answers(&[Answer::Smtp("451 4.7.1 greylisted"), Answer::Smtp("550 5.1.1 who?")]);
    let (alerts, couriers, metrics) = receivers(&settings("", Some(hook_at), Some(mail_at)));
    alerts.tell("p", Kind::DeadLetters, letter(1));
    let all = hook.wait(4, LIMIT);
    let waits: Vec<Duration> = all.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(waits[0] >= Duration::from_millis(990) && waits[1] >= Duration::from_millis(3_990), "{waits:?}");
    assert!(all.iter().all(|request| signed(request) && request.json()["alerts"][0]["count"] == 1));
    let ids: Vec<Value> = all.iter().map(|request| request.json()["alerts"][0]["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the same alert: {ids:?}");
    assert!(mail.wait(1, LIMIT)[0].text().contains("1 dead letter\n"));
    assert_eq!((failed(&metrics, "webhook"), failed(&metrics, "mail")), (3, 2));
    couriers.finish(LIMIT);
    assert_eq!((hook.all().len(), mail.all().len()), (4, 1));
}

#[test]
fn receivers_that_hang_hold_up_nobody_but_themselves() {
    let ((hook_at, hook), (mail_at, mail)) = (http("127.0.0.1:0"), smtp("127.0.0.1:0"));
    hook.answers(&[Answer::Silence(Duration::from_secs(30))]);
    let (alerts, couriers, metrics) = receivers(&settings("", Some(hook_at), Some(mail_at)));
    alerts.tell("p", Kind::DeadLetters, letter(1));
    hook.wait(1, LIMIT);
    // It hangs. Saying so more often than there is room for takes no time, and the other one hears of it.
    let began = Instant::now();
    for _ in 0..20_000 {
        alerts.tell("p", Kind::DeadLetters, letter(1));
    }
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    mail.wait(2, LIMIT);
    let json = hook.wait(2, LIMIT)[1].json();
    assert_eq!(failed(&metrics, "webhook"), 1);
    let dropped = figure(&metrics, "keyrail_alert_events_dropped_total{receiver=\"webhook\"}");
    let (told, missed) = (json["alerts"][0]["count"].as_u64().unwrap(), json["missed"].as_u64().unwrap());
    assert_eq!(
        (missed, told + missed),
        (dropped, 20_001),
        "what found no room is counted, and nothing else is missing"
    );
    assert!(dropped > 0);
    // One that hangs at the end is waited for within bounds.
    hook.answers(&[Answer::Silence(Duration::from_secs(30))]);
    alerts.tell("p", Kind::DeadLetters, letter(1));
    let began = Instant::now();
    couriers.finish(Duration::from_millis(500));
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

fn test_command(folder: &Folder, more: &[&str]) -> (i32, String, String) {
    let args: Vec<&str> = ["alerts", "test"].iter().chain(more).copied().collect();
    let mut command = command(folder, &args);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_test_alert_says_what_the_receivers_answer() {
    let folder = crate::commands::stage();
    let (code, out, err) = test_command(&folder, &[]);
    assert!(
        code == 1 && out.is_empty() && err.contains("write [alerts.webhook] or [alerts.mail] into keyrail.toml"),
        "{err}"
    );
    let ((hook_at, hook), (mail_at, mail)) = (http("127.0.0.1:0"), smtp("127.0.0.1:0"));
    configure(&folder, &settings("", Some(hook_at), Some(mail_at)));
    let (code, out, err) = test_command(&folder, &[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("delivered: HTTP 204") && out.contains("delivered: SMTP 250 taken as 4711"), "{out}");
    assert_eq!(hook.all()[0].json()["alerts"][0]["kind"], "test");
    assert!(signed(&hook.all()[0]) && mail.all()[0].text().contains("a test: this receiver gets Keyrail's alerts"));
    hook.answers(&[
        Answer::Http("403 Forbidden", ""),
        Answer::Http("301 Moved", "location: https://u:hush@new.example.com/hush\r\n"),
    ]);
    mail.answers(&[Answer::Smtp("550 5.7.1 no relaying\x07 here")]);
    let (code, out, err) = test_command(&folder, &["--json"]);
    let all: Value = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    assert_eq!((code, all[0]["delivered"].as_bool(), all[1]["delivered"].as_bool()), (1, Some(false), Some(false)));
    assert_eq!(all[0]["answer"], "it answers HTTP 403: look at `authorization`, `secret` and the URL (no\\u{1b}[31m!)");
    let said = all[1]["answer"].as_str().unwrap();
    assert!(said.contains("550") && said.contains("no relaying\\u{7} here: look at `from` and `to`"), "{said}");
    let (code, out, _) = test_command(&folder, &["--receiver", "webhook"]);
    assert!(code == 1 && out.contains("a redirect to https://new.example.com, which is not followed"), "{out}");
    assert!(!out.contains("hush") && mail.all().len() == 1, "{out}");
    mail.answers(&[Answer::Silence(Duration::from_secs(20))]);
    let (code, out, _) = test_command(&folder, &["--receiver", "mail"]);
    assert!(code == 1 && out.contains("not delivered: no answer in time (alerts.timeout)"), "{out}");
    let (code, out, err) = test_command(&folder, &["--set", &format!("alerts.webhook.url=http://{}/hush", nobody())]);
    assert!(code == 1 && !out.contains("hush") && !err.contains("hush"), "{out}{err}");
    let shown = crate::commands::run(&folder, &["check", "--resolved"], "").1;
    assert!(shown.contains(&format!("url = \"http://{hook_at}/***\"")) && !shown.contains("hush"), "{shown}");
}
