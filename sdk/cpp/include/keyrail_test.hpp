// A host in memory, to test a handler on one's own machine: link the handler with sdk/c/src/keyrail.c and sdk/c/src/testing.c.
//
// It keeps state, timers, sends and a clock that only the test moves, holds the limits of state, and undoes what a failed message
// staged. It repeats nothing by a policy: each call runs what it is given, once.
#ifndef KEYRAIL_TEST_HPP
#define KEYRAIL_TEST_HPP

#include <cassert>
#include <functional>

#include "keyrail.hpp"
#include "keyrail_test.h"

namespace keyrail::testing {

// A message to run: the next of partition 0 of the topic `in`, or a timer.
struct input {
  nullable key = nullptr;
  nullable value = nullptr;
  std::optional<std::string> timer = std::nullopt;
  time_point timestamp = {};
  std::uint32_t attempt = 1;
  std::vector<header> headers = {};
  bool follows_dead_letter = false;
};

struct sent_header {
  std::string name;
  std::optional<std::string> value;
};

// What was sent.
struct sent {
  std::string to;
  std::optional<std::string> key;
  std::optional<std::string> value;
  // Without those of the message that go along.
  std::vector<sent_header> headers;
  time_point timestamp;
  milliseconds delay;
};

// A request that was made.
struct requested {
  std::string method;
  std::string url;
  // With the host's idempotency-key.
  std::vector<sent_header> headers;
  std::optional<std::string> body;
  std::optional<milliseconds> timeout;
  // In which call of the host, from 0: requests of one call are made at the same time.
  std::uint32_t call;

  // The value of the last header of that name, as it is written.
  [[nodiscard]] std::optional<std::string> header_value(std::string_view name) const {
    for (auto one = headers.rbegin(); one != headers.rend(); ++one)
      if (one->name == name) return one->value;
    return std::nullopt;
  }
};

// The answer to a request: an error, or a status with headers and a body.
struct answer {
  unsigned status = 200;
  std::vector<sent_header> headers = {};
  std::string body = {};
  std::optional<errc> error = std::nullopt;
  // Why, with an error.
  std::string words = {};
};

// What became of a message.
struct ran {
  keyrail::outcome outcome;
  // Nothing, if the message failed.
  std::vector<testing::sent> sent;
  // In order; also if the message failed, since nobody takes them back.
  std::vector<requested> requests;
};

// A new host, whose clock stands at 1,700,000,000,000 ms. There is one at a time.
class host {
 public:
  host() {
    assert(!there_is_one);
    there_is_one = true;
    ++detail::host_number;
    keyrail_test_begin();
  }
  ~host() {
    keyrail_test_begin();
    server = nullptr;
    there_is_one = false;
  }
  host(const host &) = delete;
  host &operator=(const host &) = delete;

  host &output(const std::string &name) {
    keyrail_test_output(name.c_str());
    return *this;
  }

  host &config(const std::string &name, const std::string &value) {
    keyrail_test_config(name.c_str(), value.c_str());
    return *this;
  }

  // Answers requests of this method to this URL, both to the letter. A later answer takes an earlier one's place. A request without an
  // answer is denied.
  host &answer(const std::string &method, const std::string &url, const testing::answer &answer) {
    std::vector<keyrail_header> headers;
    keyrail_test_answer(method.c_str(), url.c_str(), lent(answer, headers));
    return *this;
  }

  // Answers all requests that no such answer is given to.
  host &answer_all(std::function<testing::answer(const requested &)> answers) {
    server = std::move(answers);
    keyrail_test_answer_all([](const keyrail_requested *raw) {
      // They are copied when this function is over.
      static testing::answer last;
      static std::vector<keyrail_header> headers;
      last = server(requested_of(*raw));
      return lent(last, headers);
    });
    return *this;
  }

  // Opens the handler, or tells why it refuses. Running a message does it if need be.
  std::expected<void, std::string> open() {
    const char *words = keyrail_test_open();
    if (words != nullptr) return std::unexpected(std::string(words));
    return {};
  }

  ran run(const input &given) {
    std::vector<keyrail_header> headers;
    std::vector<std::string> names;
    names.reserve(given.headers.size());
    for (const header &one : given.headers) {
      names.emplace_back(one.name);
      headers.push_back({names.back().c_str(), detail::lent(one.value)});
    }
    keyrail_input raw{};
    raw.key = detail::lent(given.key.view());
    raw.value = detail::lent(given.value.view());
    raw.timer = given.timer ? given.timer->c_str() : nullptr;
    raw.timestamp_ms = given.timestamp.time_since_epoch().count();
    raw.attempt = given.attempt;
    raw.headers = headers.data();
    raw.header_count = headers.size();
    raw.follows_dead_letter = given.follows_dead_letter;
    const keyrail_run run = keyrail_test_run(raw);
    std::vector<requested> requests;
    for (const keyrail_requested &one : std::span(run.requests, run.request_count)) requests.push_back(requested_of(one));
    return {outcome_of(run), sent_of(run), std::move(requests)};
  }

  // The same with a key and a value.
  ran say(nullable key, nullable value) { return run({.key = key, .value = value}); }

  // What a key keeps under a name.
  [[nodiscard]] std::optional<std::string> state(const std::string &key, const std::string &name) const {
    return copied(keyrail_test_state(key.c_str(), name.c_str()));
  }

  // When a key's timer is due.
  [[nodiscard]] std::optional<time_point> timer(const std::string &key, const std::string &name) const {
    const std::int64_t at_ms = keyrail_test_timer(key.c_str(), name.c_str());
    return at_ms < 0 ? std::nullopt : std::optional(detail::instant(at_ms));
  }

  // The sum of what was observed under a metric's name.
  [[nodiscard]] double metric(const std::string &name) const { return keyrail_test_metric(name.c_str()); }
  // The last line of the log.
  [[nodiscard]] std::string logged() const { return keyrail_test_logged(); }
  void set_now(time_point now) { keyrail_test_set_now_ms(now.time_since_epoch().count()); }

 private:
  static std::optional<std::string> copied(keyrail_bytes bytes) {
    const std::optional<std::string_view> found = detail::viewed(bytes);
    return found ? std::optional<std::string>(*found) : std::nullopt;
  }

  static keyrail::outcome outcome_of(const keyrail_run &run) {
    if (run.fate == KEYRAIL_DONE) return done;
    if (run.fate == KEYRAIL_SKIP) return skip;
    failure why(run.code, run.detail, run.fate == KEYRAIL_DEAD_LETTER);
    if (run.has_delay) why.after = milliseconds(run.delay_ms);
    why.outage = run.outage;
    return std::unexpected(std::move(why));
  }

  static std::vector<testing::sent> sent_of(const keyrail_run &run) {
    std::vector<testing::sent> all;
    for (const keyrail_sent &one : std::span(run.sent, run.sent_count)) {
      all.push_back({one.to, copied(one.key), copied(one.value), copied(one.headers, one.header_count),
                     detail::instant(one.timestamp_ms), milliseconds(one.delay_ms)});
    }
    return all;
  }

  static std::vector<sent_header> copied(const keyrail_header *headers, std::size_t count) {
    std::vector<sent_header> all;
    for (const keyrail_header &own : std::span(headers, count)) all.push_back({own.name, copied(own.value)});
    return all;
  }

  static requested requested_of(const keyrail_requested &raw) {
    const auto timeout = raw.timeout_ms == 0 ? std::nullopt : std::optional(milliseconds(raw.timeout_ms));
    return {raw.method, raw.url, copied(raw.headers, raw.header_count), copied(raw.body), timeout, raw.call};
  }

  // With room for its headers.
  static keyrail_response lent(const testing::answer &answer, std::vector<keyrail_header> &headers) {
    headers.clear();
    for (const sent_header &own : answer.headers) headers.push_back({own.name.c_str(), detail::lent(own.value)});
    keyrail_response raw{};
    raw.error = answer.error ? static_cast<keyrail_error>(*answer.error) : KEYRAIL_OK;
    raw.words = answer.words.c_str();
    raw.status = static_cast<std::uint16_t>(answer.status);
    raw.headers = headers.data();
    raw.header_count = headers.size();
    raw.body = detail::lent(std::string_view(answer.body));
    return raw;
  }

  inline static bool there_is_one = false;
  inline static std::function<testing::answer(const requested &)> server;
};

}  // namespace keyrail::testing
#endif
