// Requests over HTTP, with the host in memory: what a message asks for itself, and what it asks for in a step before. The value of a
// message says which.
#undef NDEBUG
#include <array>
#include <cassert>
#include <cstdio>
#include <keyrail_test.hpp>

using namespace std::chrono_literals;

namespace {

using keyrail::errc;
using keyrail::testing::host;

const std::string url = "https://api.example.com/v1";

keyrail::result<void> many(keyrail::context &ctx) {
  const std::array<std::byte, 2> raw{std::byte{0}, std::byte{255}};
  const std::vector<keyrail::request> requests{
      {.url = url + "/a"},
      {.url = url + "/b", .headers = {{"Content-Type", "text/plain"}, {"n", std::string("1")}}, .body = "x", .timeout = 250ms},
      {.url = url + "/c", .method = "PUT", .body = std::span<const std::byte>(raw), .timeout = 0ms},
      {.url = url + "/none?secret", .method = "DELETE"},
  };
  const auto answers = ctx.fetch_all(requests);
  assert(answers.size() == 4 && answers[0] && answers[0]->status() == 201 && answers[0]->ok() && answers[0]->body() == "of a");
  assert(answers[0]->header_value("X-Twice") == "2" && !answers[0]->header_value("none"));
  assert(answers[0]->headers().size() == 2 && answers[0]->headers()[0].name == "x-twice");
  assert(answers[1]->status() == 404 && !answers[1]->ok() && answers[1]->body().empty());
  assert(!answers[2] && answers[2].error().kind == errc::http_timeout && answers[2].error().code() == "http-timeout");
  assert(answers[3].error().kind == errc::http_denied);
  assert(answers[3].error().words.starts_with("DELETE " + url + "/none: the test gives it no answer"));
  assert(ctx.fetch_all({}).empty());
  return {};
}

keyrail::result<std::vector<keyrail::request>> prepare(const keyrail::message &message, keyrail::context &ctx) {
  if (!message.value || !message.value->starts_with("ask")) return {};
  KEYRAIL_TRY(ctx.state().put("prepared", "x"));
  if (message.value == "ask and fail") return keyrail::dead_letter("unasked", "no request");
  if (message.value == "ask later") return keyrail::retry("later", "not now", {.after = 5s, .outage = true});
  std::vector<keyrail::request> all;
  for (const char *name : {"0", "1"}) all.push_back({.url = url + "/" + std::string(*message.key) + "/" + name, .body = name});
  return all;
}

keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx, std::span<const keyrail::answer> answers) {
  for (const auto &answer : answers) {
    KEYRAIL_TRY(ctx.send("out", KEYRAIL_TRY(KEYRAIL_TRY(answer).ok_or_retry()).body()));
  }
  if (message.value == "many") KEYRAIL_TRY(many(ctx));
  if (message.value == "one") {
    KEYRAIL_TRY(ctx.state().put("staged", "x"));
    const auto found = KEYRAIL_TRY(KEYRAIL_TRY(ctx.fetch({.url = url + "?token=t"})).ok_or_retry());
    KEYRAIL_TRY(ctx.send("out", found.body()));
  }
  return keyrail::done;
}

void requests_are_made_at_the_same_time_and_answered_in_order() {
  host in;
  in.answer("GET", url + "/a", {.status = 200});
  in.answer("GET", url + "/a", {.status = 201, .headers = {{"X-Twice", "1"}, {"x-twice", "2"}}, .body = "of a"});
  in.answer("POST", url + "/b", {.status = 404}).answer("PUT", url + "/c", {.error = errc::http_timeout});
  const auto ran = in.say("k", "many");
  assert(ran.outcome == keyrail::done && ran.requests.size() == 4);
  const auto &made = ran.requests;
  assert(made[0].method == "GET" && !made[0].body && !made[0].timeout && made[0].headers.size() == 1);
  assert(made[1].method == "POST" && made[1].url == url + "/b" && made[1].body == "x" && made[1].timeout == 250ms);
  assert(made[1].header_value("Content-Type") == "text/plain" && made[1].header_value("n") == "1");
  assert(made[2].body == std::string("\0\xff", 2) && made[2].timeout == 1ms);
  const std::array<const char *, 4> keys{"in/0/0", "in/0/0", "in/0/0-2", "in/0/0-3"};
  for (std::size_t i = 0; i < 4; ++i) assert(made[i].call == 0 && made[i].header_value("idempotency-key") == keys[i]);
}

keyrail::failure failed(host &in, const keyrail::testing::answer &answer) {
  in.answer("GET", url + "?token=t", answer);
  const auto ran = in.say("k", "one");
  assert(!ran.outcome && ran.sent.empty() && ran.requests.size() == 1 && !in.state("k", "staged"));
  return ran.outcome.error();
}

void an_error_that_is_handed_on_is_the_message_s_outcome() {
  host in;
  in.output("out");
  struct expected {
    errc kind;
    const char *code, *words;
    bool is_dead_letter;
  };
  const std::array<expected, 5> all{{{errc::http_denied, "http-denied", "why", true},
                                     {errc::http_invalid, "http-invalid", "why", true},
                                     {errc::http_timeout, "http-timeout", "no answer in time", false},
                                     {errc::http_unreachable, "http-unreachable", "why", false},
                                     {errc::http_too_large, "http-too-large",
                                      "the answer is larger than limits.response-bytes allows", true}}};
  for (const auto &[kind, code, words, is_dead_letter] : all) {
    const auto why = failed(in, {.error = kind, .words = "why"});
    assert(why.code == code && why.detail == "GET " + url + ": " + words && why.is_dead_letter == is_dead_letter);
    assert(!why.after && !why.outage);
  }
}

void a_status_that_is_no_success_is_retried_or_given_up() {
  host in;
  in.output("out");
  auto why = failed(in, {.status = 503, .headers = {{"Retry-After", "30"}}, .body = "busy"});
  assert(!why.is_dead_letter && why.code == "http-503" && why.detail == "GET " + url + ": 503 busy" && why.after == 30s && !why.outage);
  why = failed(in, {.status = 404, .headers = {{"Retry-After", "30"}}});
  assert(why.is_dead_letter && why.code == "http-404" && why.detail == "GET " + url + ": 404" && !why.after);
  in.answer("GET", url + "?token=t", {.status = 204, .body = "well"});
  assert(in.say("k", "one").sent.at(0).value == "well");
}

void what_a_message_asks_for_is_there_when_it_is_handled() {
  host in;
  in.output("out");
  in.answer_all([](const keyrail::testing::requested &request) -> keyrail::testing::answer {
    if (request.url.contains("/down/")) return {.error = errc::http_unreachable, .words = "no route"};
    return {.headers = {{"n", *request.body}}, .body = *request.body + " of " + request.url};
  });
  auto ran = in.say("k", "ask");
  assert(ran.outcome == keyrail::done && ran.sent.size() == 2 && ran.requests.size() == 2);
  assert(ran.sent[0].value == "0 of " + url + "/k/0" && ran.sent[1].value == "1 of " + url + "/k/1");
  assert(ran.requests[0].call == 0 && ran.requests[1].call == 0 && in.state("k", "prepared") == "x");
  ran = in.say("down", "ask");
  assert(ran.outcome.error().code == "http-unreachable" && !in.state("down", "prepared"));
  ran = in.say("other", "ask and fail");
  assert(ran.outcome.error().is_dead_letter && ran.outcome.error().code == "unasked" && ran.requests.empty());
  ran = in.say("other", "ask later");
  const auto why = ran.outcome.error();
  assert(!why.is_dead_letter && why.code == "later" && why.detail == "not now" && why.after == 5s && why.outage);
  assert(!in.state("other", "prepared") && in.say("k", nullptr).outcome == keyrail::done);
}

}  // namespace

KEYRAIL_HTTP_HANDLER(prepare, handle)

int main() {
  requests_are_made_at_the_same_time_and_answered_in_order();
  an_error_that_is_handed_on_is_the_message_s_outcome();
  a_status_that_is_no_success_is_retried_or_given_up();
  what_a_message_asks_for_is_there_when_it_is_handled();
  std::puts("all passed");
}
