// Keyrail handlers in C++, over the SDK for C. README.md says how to build them; keyrail_test.hpp runs them without a host.
//
// There are no exceptions: what may fail returns a std::expected. A view that a call hands out (names, values, ids) is of memory that
// the SDK keeps until the handler returns.
#ifndef KEYRAIL_HPP
#define KEYRAIL_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "keyrail.h"

namespace keyrail {

using milliseconds = std::chrono::milliseconds;
using time_point = std::chrono::sys_time<milliseconds>;

// Bytes to hand over: text, or a span of bytes. It views them.
class data {
 public:
  constexpr data(std::string_view text) : view_(text) {}
  constexpr data(const char *text) : view_(text) {}
  data(const std::string &text) : view_(text) {}
  data(std::span<const std::byte> bytes) : view_(reinterpret_cast<const char *>(bytes.data()), bytes.size()) {}
  data(std::span<const std::uint8_t> bytes) : view_(reinterpret_cast<const char *>(bytes.data()), bytes.size()) {}
  [[nodiscard]] constexpr std::string_view view() const { return view_; }

 private:
  std::string_view view_;
};

// The same, or Kafka's null: as a value, a tombstone.
class nullable {
 public:
  constexpr nullable(std::nullptr_t) {}
  constexpr nullable(std::nullopt_t) {}
  constexpr nullable(std::optional<std::string_view> text) : view_(text) {}
  template <class T>
    requires std::is_convertible_v<T, data>
  constexpr nullable(const T &bytes) : view_(data(bytes).view()) {}
  [[nodiscard]] constexpr std::optional<std::string_view> view() const { return view_; }

 private:
  std::optional<std::string_view> view_;
};

// The bytes of a value that was handed out.
inline std::span<const std::byte> as_bytes(std::string_view value) { return std::as_bytes(std::span(value)); }

// One delivery.
struct message {
  // The input topic; none for a timer.
  std::optional<std::string_view> topic;
  // A timer's name; none for a record.
  std::optional<std::string_view> timer;
  // Where the record was first read; a timer's are those of the message that set it.
  std::uint32_t partition = 0;
  std::uint64_t offset = 0;
  // A timer's is the time it was set for.
  time_point timestamp;
  // None is Kafka's null, which is not the same as empty.
  std::optional<std::string_view> key;
  // A timer's payload is its value.
  std::optional<std::string_view> value;
  // 1 on the first run.
  std::uint32_t attempt = 1;
};

// ---- Errors and outcomes ---------------------------------------------------------------------------------------------------------

// Why a call failed. Those of HTTP: keyrail_http.hpp says when.
enum class errc {
  no_key = 1,
  unknown_output,
  too_large,
  over_quota,
  other,
  http_denied,
  http_invalid,
  http_timeout,
  http_unreachable,
  http_too_large
};

struct error {
  errc kind = errc::other;
  std::string words;

  // `no-key`, `unknown-output`, `too-large`, `over-quota` or `other`; of HTTP `http-denied`, `http-invalid`, `http-timeout`,
  // `http-unreachable` or `http-too-large`.
  [[nodiscard]] std::string_view code() const {
    switch (kind) {
      case errc::no_key: return "no-key";
      case errc::unknown_output: return "unknown-output";
      case errc::too_large: return "too-large";
      case errc::over_quota: return "over-quota";
      case errc::http_denied: return "http-denied";
      case errc::http_invalid: return "http-invalid";
      case errc::http_timeout: return "http-timeout";
      case errc::http_unreachable: return "http-unreachable";
      case errc::http_too_large: return "http-too-large";
      case errc::other: break;
    }
    return "other";
  }

  // Whether another run may end otherwise.
  [[nodiscard]] bool may_pass() const {
    return kind == errc::other || kind == errc::http_timeout || kind == errc::http_unreachable;
  }
};

// The message is not settled, and what it staged is undone. Made by retry and dead_letter, or of an error that is handed on.
struct failure {
  // Short and stable: it becomes a header, a metric's label and a group in lists.
  std::string code;
  std::string detail;
  bool is_dead_letter = false;
  // The retry not before this long.
  std::optional<milliseconds> after;
  // The retry at no attempt's cost.
  bool outage = false;

  failure(std::string short_code, std::string why, bool dead)
      : code(std::move(short_code)), detail(std::move(why)), is_dead_letter(dead) {}
  // What would be refused alike each time is a dead letter, all else is retried.
  failure(const error &refused)
      : failure(refused.kind == errc::other ? "error" : std::string(refused.code()), refused.words, !refused.may_pass()) {}
  failure(std::string words) : failure("error", std::move(words), false) {}
  failure(std::error_code why) : failure(why.message()) {}
};

enum class settled { done, skip };
// Settled.
inline constexpr settled done = settled::done;
// Settled, and counted apart: filtered out on purpose.
inline constexpr settled skip = settled::skip;

// What becomes of a message. Its sends, state and timers take effect only if it is settled, together with the commit of its offset.
using outcome = std::expected<settled, failure>;

// What a function below the handler returns that may end the message.
template <class T>
using result = std::expected<T, failure>;

struct retry_options {
  // None: when the manifest's retry policy says.
  std::optional<milliseconds> after = std::nullopt;
  // The cause lies outside the message, such as a service that is down: the retry costs no attempt.
  bool outage = false;
};

// Runs the message again, its key's later messages behind it.
inline std::unexpected<failure> retry(std::string code, std::string detail = {}, retry_options options = {}) {
  failure retried(std::move(code), std::move(detail), false);
  retried.after = options.after;
  retried.outage = options.outage;
  return std::unexpected(std::move(retried));
}

// Gives the message up to the dead letters.
inline std::unexpected<failure> dead_letter(std::string code, std::string detail = {}) {
  return std::unexpected(failure(std::move(code), std::move(detail), true));
}

// A retry under the code `error`, as of any error that is handed on.
inline std::unexpected<failure> fail(std::string words) { return std::unexpected(failure(std::move(words))); }
inline std::unexpected<failure> fail(std::error_code why) { return std::unexpected(failure(why)); }

// C's returns C's outcome.
#undef KEYRAIL_TRY
// The value of a std::expected; its error, if it has one, is returned from this function as the message's failure:
//   auto before = KEYRAIL_TRY(ctx.state().get("last"));
#define KEYRAIL_TRY(...) KEYRAIL_TRY_AS(KEYRAIL_JOIN(keyrail_tried_, __COUNTER__), __VA_ARGS__)
#define KEYRAIL_TRY_AS(tried, ...)                                                                \
  __extension__({                                                                                 \
    auto tried = (__VA_ARGS__);                                                                   \
    if (!tried) return std::unexpected<::keyrail::failure>(::keyrail::failure((tried).error())); \
    *std::move(tried);                                                                            \
  })
// Names that differ, since one may stand in another.
#define KEYRAIL_JOIN(a, b) KEYRAIL_JOINED(a, b)
#define KEYRAIL_JOINED(a, b) a##b

// ---- What it is made of ----------------------------------------------------------------------------------------------------------

namespace detail {

// What is empty is not null, also where its view has no address: keyrail_data sees to that.
inline keyrail_bytes lent(std::string_view bytes) { return keyrail_data(bytes.data(), bytes.size()); }

inline keyrail_bytes lent(std::optional<std::string_view> bytes) { return bytes ? lent(*bytes) : keyrail_null(); }

inline std::optional<std::string_view> viewed(keyrail_bytes bytes) {
  if (bytes.data == nullptr) return std::nullopt;
  return std::string_view(reinterpret_cast<const char *>(bytes.data), bytes.size);
}

inline std::optional<std::string_view> viewed(const char *text) {
  if (text == nullptr) return std::nullopt;
  return std::string_view(text);
}

inline std::uint64_t span_ms(milliseconds span) {
  return static_cast<std::uint64_t>(std::max(span.count(), milliseconds::rep{0}));
}

inline time_point instant(std::int64_t at_ms) { return time_point(milliseconds(at_ms)); }

// Tests begin anew within one process: then handles of metrics are of a host that is gone.
inline unsigned host_number = 0;

}  // namespace detail

// ---- The host's side of a message ------------------------------------------------------------------------------------------------

struct header {
  std::string_view name;
  std::optional<std::string_view> value;
};

struct entry {
  std::string_view name;
  std::string_view value;
};

struct send_options {
  // None: the message's own. Null is no key.
  std::optional<nullable> key = std::nullopt;
  std::vector<header> headers = {};
  // Also copies the message's own headers; traceparent and tracestate are always copied.
  bool forward_headers = false;
  // None: the message's own.
  std::optional<time_point> timestamp = std::nullopt;
  // Not before this long after the message is settled. See limits.delay of the manifest.
  milliseconds delay = milliseconds(0);
};

struct scan_options {
  // Names behind this one, for the next page.
  std::optional<std::string_view> after = std::nullopt;
  std::uint32_t limit = 1000;
};

enum class level { trace, debug, info, warn, error, critical };

template <class T>
using called = std::expected<T, error>;

struct request;
class response;
// What came of a request.
using answer = called<response>;

// One message's side of the host, until the handler returns. What is staged through it is undone if the message fails; the
// handler's own memory is not.
class context {
 public:
  class state_of_key;
  class timers_of_key;

  explicit context(keyrail_context *raw) : raw_(raw) {}
  context(const context &) = delete;
  context &operator=(const context &) = delete;

  // Values by name, for the message's order key. One key's messages run one at a time, in order, so a plain read, change and write
  // is safe.
  [[nodiscard]] state_of_key state();
  // Messages to the same key, later, in that key's order.
  [[nodiscard]] timers_of_key timers();

  // Sends a record to an output of the manifest when the message is settled.
  [[nodiscard]] called<void> send(std::string_view to, nullable value, const send_options &options = {}) {
    const std::string name(to);
    std::vector<std::string> names;
    names.reserve(options.headers.size());
    std::vector<keyrail_header> headers;
    headers.reserve(options.headers.size());
    for (const header &own : options.headers) {
      names.emplace_back(own.name);
      headers.push_back({names.back().c_str(), detail::lent(own.value)});
    }
    const keyrail_bytes key = options.key ? detail::lent(options.key->view()) : keyrail_null();
    const std::int64_t at_ms = options.timestamp ? options.timestamp->time_since_epoch().count() : 0;
    keyrail_record record{};
    record.to = name.c_str();
    record.value = detail::lent(value.view());
    record.key = options.key ? &key : nullptr;
    record.headers = headers.data();
    record.header_count = headers.size();
    record.forward_headers = options.forward_headers;
    record.timestamp_ms = options.timestamp ? &at_ms : nullptr;
    record.delay_ms = detail::span_ms(options.delay);
    return ended(keyrail_send_record(raw_, &record));
  }

  // Makes a request to a host that the manifest grants under capabilities.http, and waits for its answer. Any status is one; redirects
  // are not followed. It is no part of the message's commit: a message that runs again asks again.
  [[nodiscard]] answer fetch(const request &one);
  // Makes all of them at the same time, and waits for the last: an answer for each, in their order.
  [[nodiscard]] std::vector<answer> fetch_all(std::span<const request> all);

  // The same over retries, parking, redrive and replay: the idempotency key for effects outside Keyrail.
  [[nodiscard]] std::string_view id() { return keyrail_id(raw_); }

  // The value of the last header of that name; none if there is none, or if it is null.
  [[nodiscard]] std::optional<std::string_view> header_value(std::string_view name) {
    return detail::viewed(keyrail_header_value(raw_, std::string(name).c_str()));
  }

  // All headers, in order.
  [[nodiscard]] std::vector<header> headers() {
    const keyrail_header *found = nullptr;
    const std::size_t count = keyrail_headers(raw_, &found);
    std::vector<header> all;
    all.reserve(count);
    for (const keyrail_header &one : std::span(found, count)) all.push_back({one.name, detail::viewed(one.value)});
    return all;
  }

  // Whether an earlier message of this key was dead-lettered or discarded.
  [[nodiscard]] bool follows_dead_letter() { return keyrail_follows_dead_letter(raw_); }
  // The time of the call, which the library's clocks say, too.
  [[nodiscard]] time_point now() const { return detail::instant(keyrail_now_ms()); }
  // When the host will stop this call.
  [[nodiscard]] time_point deadline() const { return detail::instant(keyrail_deadline_ms()); }
  // The next number of a sequence seeded by the message's id and attempt, so that a run can be repeated.
  [[nodiscard]] std::uint64_t random() { return keyrail_random(raw_); }

  // A line of the log, with the message's partition and offset.
  void log(level at, std::string_view words) const {
    keyrail_log(raw_, static_cast<keyrail_level>(at), "%.*s", static_cast<int>(words.size()), words.data());
  }

 private:
  [[nodiscard]] called<void> ended(keyrail_error how) const {
    if (how == KEYRAIL_OK) return {};
    return std::unexpected(refused(how));
  }

  [[nodiscard]] error refused(keyrail_error how) const;

  keyrail_context *raw_;
};

// Each call may fail as no_key, too_large and other, and one that writes as over_quota.
class context::state_of_key {
 public:
  explicit state_of_key(context &of) : of_(of) {}

  [[nodiscard]] called<std::optional<std::string_view>> get(std::string_view name) {
    keyrail_bytes value;
    const keyrail_error how = keyrail_state_get(of_.raw_, std::string(name).c_str(), &value);
    if (how != KEYRAIL_OK) return std::unexpected(of_.refused(how));
    return detail::viewed(value);
  }

  [[nodiscard]] called<void> put(std::string_view name, data value) {
    return of_.ended(keyrail_state_put(of_.raw_, std::string(name).c_str(), detail::lent(value.view())));
  }

  // The value goes away after this long.
  [[nodiscard]] called<void> put_for(std::string_view name, data value, milliseconds ttl) {
    const keyrail_bytes bytes = detail::lent(value.view());
    return of_.ended(keyrail_state_put_for(of_.raw_, std::string(name).c_str(), bytes, detail::span_ms(ttl)));
  }

  // No error if there is none.
  [[nodiscard]] called<void> erase(std::string_view name) {
    return of_.ended(keyrail_state_delete(of_.raw_, std::string(name).c_str()));
  }

  // Names that begin with prefix, and their values, in byte order. The host gives at most 1,000 names and 4 MiB.
  [[nodiscard]] called<std::vector<entry>> scan(std::string_view prefix = {}, const scan_options &options = {}) {
    const std::string begin(prefix), after(options.after.value_or(""));
    const keyrail_entry *found = nullptr;
    std::size_t count = 0;
    const keyrail_error how = keyrail_state_scan(of_.raw_, begin.c_str(), options.after ? after.c_str() : nullptr, options.limit,
                                                 &found, &count);
    if (how != KEYRAIL_OK) return std::unexpected(of_.refused(how));
    std::vector<entry> all;
    all.reserve(count);
    for (const keyrail_entry &one : std::span(found, count)) all.push_back({one.name, detail::viewed(one.value).value_or("")});
    return all;
  }

 private:
  context &of_;
};

// Each key has one of a name. Each call may fail as no_key, too_large, over_quota and other.
class context::timers_of_key {
 public:
  explicit timers_of_key(context &of) : of_(of) {}

  // Replaces one of the same name.
  [[nodiscard]] called<void> set(std::string_view name, time_point at, data payload = "") {
    const std::int64_t at_ms = at.time_since_epoch().count();
    return of_.ended(keyrail_timer_set(of_.raw_, std::string(name).c_str(), at_ms, detail::lent(payload.view())));
  }

  // That long after now.
  [[nodiscard]] called<void> set_after(std::string_view name, milliseconds wait, data payload = "") {
    const keyrail_bytes bytes = detail::lent(payload.view());
    return of_.ended(keyrail_timer_set_after(of_.raw_, std::string(name).c_str(), detail::span_ms(wait), bytes));
  }

  // No error if there is none.
  [[nodiscard]] called<void> cancel(std::string_view name) {
    return of_.ended(keyrail_timer_cancel(of_.raw_, std::string(name).c_str()));
  }

 private:
  context &of_;
};

inline context::state_of_key context::state() { return state_of_key(*this); }

inline context::timers_of_key context::timers() { return timers_of_key(*this); }

inline error context::refused(keyrail_error how) const {
  keyrail_outcome said = keyrail_failed(raw_, how);
  error told{static_cast<errc>(how), said.detail};
  // The SDK for C makes it by malloc.
  std::free(said.detail);
  return told;
}

// ---- Besides the message ---------------------------------------------------------------------------------------------------------

// The value of the manifest's [config] under this name. It stays until the process ends.
inline std::optional<std::string_view> config(std::string_view name) {
  return detail::viewed(keyrail_config(std::string(name).c_str()));
}

// The pipeline's name.
inline std::string_view pipeline() { return keyrail_handler(); }

// A line of the log, outside of a message.
inline void log(level at, std::string_view words) {
  keyrail_log(nullptr, static_cast<keyrail_level>(at), "%.*s", static_cast<int>(words.size()), words.data());
}

namespace detail {

// Registered at its first use, since a global one is made before the host may be called.
template <std::uint32_t (*Register)(const char *)>
class metric {
 public:
  explicit metric(std::string name) : name_(std::move(name)) {}

 protected:
  void observed(double value) {
    if (!handle_ || of_ != host_number) {
      handle_ = Register(name_.c_str());
      of_ = host_number;
    }
    keyrail_observe(*handle_, value);
  }

 private:
  std::string name_;
  std::optional<std::uint32_t> handle_;
  unsigned of_ = 0;
};

}  // namespace detail

// Metrics of the handler's own, named by letters, digits and _. What is observed is not undone if the message fails.
class counter : detail::metric<keyrail_counter> {
 public:
  using metric::metric;
  void add(double value = 1) { observed(value); }
};

class gauge : detail::metric<keyrail_gauge> {
 public:
  using metric::metric;
  void set(double value) { observed(value); }
};

class histogram : detail::metric<keyrail_histogram> {
 public:
  using metric::metric;
  void observe(double value) { observed(value); }
};

namespace detail {

using handle_function = outcome (*)(const message &, context &);
using open_function = std::expected<void, std::string> (*)();

inline message taken(const keyrail_message *given) {
  return {
      .topic = viewed(given->topic),
      .timer = viewed(given->timer),
      .partition = given->partition,
      .offset = given->offset,
      .timestamp = instant(given->timestamp_ms),
      .key = viewed(given->key),
      .value = viewed(given->value),
      .attempt = given->attempt,
  };
}

inline keyrail_outcome told(failure why) {
  // The host is told after this function is over.
  static std::string code;
  code = std::move(why.code);
  const char *detail = why.detail.c_str();
  if (why.is_dead_letter) return keyrail_dead_letter(code.c_str(), "%s", detail);
  keyrail_outcome retried = keyrail_retry(code.c_str(), "%s", detail);
  if (why.after) retried = keyrail_after(retried, span_ms(*why.after));
  return why.outage ? keyrail_outage(retried) : retried;
}

inline keyrail_outcome told(outcome ended) {
  if (!ended) return told(std::move(ended).error());
  return *ended == done ? keyrail_done() : keyrail_skip();
}

inline keyrail_outcome run(handle_function handle, keyrail_context *raw, const keyrail_message *given) {
  context ctx(raw);
  return told(handle(taken(given), ctx));
}

inline const char *open() { return nullptr; }

inline const char *open(open_function check) {
  static std::string words;
  const std::expected<void, std::string> opened = check();
  if (opened) return nullptr;
  words = opened.error();
  return words.c_str();
}

}  // namespace detail
}  // namespace keyrail

// Once, in one source: the function that handles each message, and one that runs before the first and may refuse this version of the
// handler in words.
//   keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx);
//   std::expected<void, std::string> check();  // may be left out
#define KEYRAIL_HANDLER(handle, ...)                                                              \
  extern "C" keyrail_outcome keyrail_handle(keyrail_context *raw, const keyrail_message *given) { \
    return ::keyrail::detail::run(handle, raw, given);                                            \
  }                                                                                               \
  extern "C" const char *keyrail_open(void) { return ::keyrail::detail::open(__VA_ARGS__); }

#include "keyrail_http.hpp"

#endif
