// What the SDK does, with the host in memory. The handler does what its message says in one word.
#undef NDEBUG
#include <array>
#include <cassert>
#include <charconv>
#include <cstdio>
#include <keyrail_test.hpp>

using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

keyrail::counter seen("seen");
keyrail::gauge size_of_value("size");
keyrail::histogram attempts("attempts");

std::expected<void, std::string> check() {
  if (keyrail::config("limit") == "none") return std::unexpected("there must be a limit");
  keyrail::log(keyrail::level::info, "opened");
  return {};
}

keyrail::result<void> scans(keyrail::context &ctx) {
  for (const char *name : {"b", "a", "ab", "c"}) KEYRAIL_TRY(ctx.state().put(name, name));
  auto found = KEYRAIL_TRY(ctx.state().scan("a"));
  assert(found.size() == 2 && found[0].name == "a" && found[1].value == "ab");
  found = KEYRAIL_TRY(ctx.state().scan("", {.after = "ab", .limit = 1}));
  assert(found.size() == 1 && found[0].name == "b");
  KEYRAIL_TRY(ctx.state().erase("b"));
  assert(KEYRAIL_TRY(ctx.state().scan("b")).empty());
  return {};
}

keyrail::result<void> tells(const keyrail::message &message, keyrail::context &ctx) {
  const auto headers = ctx.headers();
  assert(!ctx.header_value("none") && !headers.at(1).value && headers.size() == 3);
  std::string told(ctx.id());
  told.append(" ").append(*message.topic).append(" ").append(ctx.header_value("h").value_or("?"));
  told.append(ctx.follows_dead_letter() ? " yes " : " no ");
  told.append(std::to_string((ctx.deadline() - ctx.now()).count()));
  ctx.log(keyrail::level::info, "told of " + std::to_string(message.offset));
  const std::array<std::byte, 2> key{std::byte{0}, std::byte{255}};
  KEYRAIL_TRY(ctx.send("out", told,
                       {.key = std::span<const std::byte>(key),
                        .headers = {{"seen", ""}, {"gone", std::nullopt}},
                        .timestamp = keyrail::time_point(5ms),
                        .delay = 9s}));
  return {};
}

keyrail::result<void> keeps(keyrail::context &ctx) {
  KEYRAIL_TRY(ctx.state().put_for("brief", "x", 1s));
  KEYRAIL_TRY(ctx.timers().set_after("remind", 1s, "pay"));
  assert(KEYRAIL_TRY(ctx.state().get("brief")) == "x" && !KEYRAIL_TRY(ctx.state().get("none")));
  return {};
}

std::expected<int, std::error_code> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::unexpected(std::make_error_code(error));
  return value;
}

keyrail::outcome ended(std::string_view word, keyrail::context &ctx) {
  if (word == "skip") return keyrail::skip;
  if (word == "retry") return keyrail::retry("later", "1 of 2", {.after = 1500ms});
  if (word == "outage") return keyrail::retry("down", "100% of it", {.outage = true});
  if (word == "fail") return keyrail::fail("some words");
  if (word == "number") return KEYRAIL_TRY(number("x")) == 0 ? keyrail::done : keyrail::skip;
  if (word == "caught") {
    const auto sent = ctx.send("nowhere", "x");
    assert(!sent && sent.error().kind == keyrail::errc::unknown_output && sent.error().code() == "unknown-output");
    return keyrail::done;
  }
  if (word == "unknown") KEYRAIL_TRY(ctx.send("nowhere", nullptr));
  if (word == "long") KEYRAIL_TRY(ctx.state().put(std::string(2000, 'x'), ""));
  if (word == "scan") KEYRAIL_TRY(scans(ctx));
  if (word == "keep") KEYRAIL_TRY(keeps(ctx));
  if (word == "keep-and-fail") {
    KEYRAIL_TRY(keeps(ctx));
    return keyrail::dead_letter("asked", "100%");
  }
  if (word == "set") KEYRAIL_TRY(ctx.timers().set("remind", ctx.now() + 5s));
  if (word == "cancel") KEYRAIL_TRY(ctx.timers().cancel("remind"));
  if (word == "random") KEYRAIL_TRY(ctx.send("out", std::to_string(ctx.random()), {.key = nullptr}));
  return keyrail::done;
}

keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx) {
  seen.add();
  attempts.observe(message.attempt);
  if (message.value) size_of_value.set(static_cast<double>(message.value->size()));
  if (message.timer) {
    assert(!message.topic);
    KEYRAIL_TRY(ctx.send("out", *message.timer));
    return keyrail::done;
  }
  if (message.value == "tell") {
    KEYRAIL_TRY(tells(message, ctx));
    return keyrail::done;
  }
  if (message.value && message.value->starts_with("say ")) {
    KEYRAIL_TRY(ctx.send("out", message.value->substr(4), {.key = message.key, .forward_headers = true}));
    return keyrail::done;
  }
  if (!message.value || message.value->empty()) {
    KEYRAIL_TRY(ctx.send("out", message.value));
    return keyrail::done;
  }
  return ended(*message.value, ctx);
}

using keyrail::testing::host;

keyrail::failure failed(host &in, std::string_view word, keyrail::nullable key = "k") {
  const auto ran = in.say(key, word);
  assert(!ran.outcome && ran.sent.empty());
  return ran.outcome.error();
}

void outcomes_carry_what_was_said() {
  host in;
  in.output("out");
  assert(in.say("k", "skip").outcome == keyrail::skip && in.say("k", "caught").outcome == keyrail::done);
  auto why = failed(in, "retry");
  assert(!why.is_dead_letter && why.code == "later" && why.detail == "1 of 2" && why.after == 1500ms && !why.outage);
  why = failed(in, "outage");
  assert(why.outage && !why.after && why.detail == "100% of it");
  why = failed(in, "fail");
  assert(!why.is_dead_letter && why.code == "error" && why.detail == "some words");
  why = failed(in, "number");
  assert(why.code == "error" && why.detail == std::make_error_code(std::errc::invalid_argument).message());
  why = failed(in, "unknown");
  assert(why.is_dead_letter && why.code == "unknown-output" && !why.detail.empty());
  assert(failed(in, "scan", nullptr).code == "no-key" && failed(in, "long").code == "too-large");
  assert(in.metric("seen") == 9 && in.metric("attempts") == 9 && in.metric("size") > 0);
}

void null_and_empty_stay_apart() {
  host in;
  in.output("out");
  auto ran = in.say("k", nullptr);
  assert(ran.sent.size() == 1 && !ran.sent[0].value && ran.sent[0].key == "k");
  ran = in.say("", "");
  assert(ran.sent[0].value == "" && ran.sent[0].key == "");
  ran = in.say(std::nullopt, "say a\0b"sv);
  assert(ran.sent[0].value == "a\0b"sv && !ran.sent[0].key);
  assert(!in.say("k", "random").sent.at(0).key);
}

void state_and_timers_are_undone_with_a_failed_message() {
  host in;
  in.output("out");
  assert(failed(in, "keep-and-fail").code == "asked");
  assert(!in.state("k", "brief") && !in.timer("k", "remind"));
  assert(in.say("k", "keep").outcome == keyrail::done);
  assert(in.state("k", "brief") == "x" && !in.state("other", "brief"));
  assert(in.timer("k", "remind") == keyrail::time_point(1700000001000ms));
  in.set_now(keyrail::time_point(1700000001000ms));
  assert(!in.state("k", "brief"));
  assert(in.say("k", "set").outcome == keyrail::done && in.timer("k", "remind") == keyrail::time_point(1700000006000ms));
  assert(in.say("k", "cancel").outcome == keyrail::done && !in.timer("k", "remind"));
  assert(in.say("k", "scan").outcome == keyrail::done && in.state("k", "a") == "a" && !in.state("k", "b"));
  assert(in.run({.key = "k", .timer = "remind"}).sent.at(0).value == "remind");
}

void the_context_tells_of_the_message() {
  host in;
  in.output("out");
  const auto ran = in.run({.value = "tell",
                           .headers = {{"h", "first"}, {"n", std::nullopt}, {"h", "last"}},
                           .follows_dead_letter = true});
  const auto &sent = ran.sent.at(0);
  assert(sent.value == "in/0/0 in last yes 5000" && sent.key == "\0\xff"sv);
  assert(sent.timestamp == keyrail::time_point(5ms) && sent.delay == 9s && sent.headers.size() == 2);
  assert(sent.headers[0].name == "seen" && sent.headers[0].value == "" && !sent.headers[1].value);
  assert(in.logged() == "told of 0");
  assert(keyrail::as_bytes("a\xff").back() == std::byte{255});
}

void open_may_refuse() {
  {
    host in;
    in.config("limit", "none");
    assert(in.open().error() == "there must be a limit");
  }
  host in;
  in.config("limit", "5");
  assert(in.open() && keyrail::config("limit") == "5" && !keyrail::config("x") && keyrail::pipeline() == "test");
  assert(in.logged() == "opened");
}

}  // namespace

KEYRAIL_HANDLER(handle, check)

int main() {
  outcomes_carry_what_was_said();
  null_and_empty_stay_apart();
  state_and_timers_are_undone_with_a_failed_message();
  the_context_tells_of_the_message();
  open_may_refuse();
  std::puts("all passed");
}
