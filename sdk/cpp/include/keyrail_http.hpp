// Requests over HTTP: context::fetch, context::fetch_all, and handlers in two steps. keyrail.hpp includes it.
#ifndef KEYRAIL_HTTP_HPP
#define KEYRAIL_HTTP_HPP

#include "keyrail.hpp"

namespace keyrail {

// Bytes of one's own: a copy of what it is made of.
class owned {
 public:
  template <class T>
    requires std::is_convertible_v<T, data>
  owned(const T &bytes) : bytes_(data(bytes).view()) {}
  owned(std::string &&bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] std::string_view view() const { return bytes_; }

 private:
  std::string bytes_;
};

struct request_header {
  std::string name;
  owned value;
};

// A request:
//   ctx.fetch({.url = "https://api.example.com/orders", .headers = {{"content-type", "application/json"}}, .body = "{}"})
struct request {
  // The whole of it: https://HOST/PATH.
  std::string url;
  // Empty: GET, or POST if there is a body.
  std::string method = {};
  // Names in any case. The host adds idempotency-key, the same when the message runs again, and traceparent and tracestate unless
  // they are here.
  std::vector<request_header> headers = {};
  std::optional<owned> body = std::nullopt;
  // Until the answer's last byte has come; none, and at most: limits.timeout of the manifest.
  std::optional<milliseconds> timeout = std::nullopt;
};

// An answer, whatever its status. What it views stays until the handler returns.
class response {
 public:
  response(keyrail_context *of, const keyrail_response &raw) : of_(of), raw_(raw) {}

  // As in HTTP: 200.
  [[nodiscard]] unsigned status() const { return raw_.status; }
  // Whether the status is from 200 to 299.
  [[nodiscard]] bool ok() const { return keyrail_is_ok(&raw_); }
  [[nodiscard]] std::string_view body() const { return detail::viewed(raw_.body).value_or(""); }

  // The value of the last header of that name, in any case.
  [[nodiscard]] std::optional<std::string_view> header_value(std::string_view name) const {
    return detail::viewed(keyrail_response_header(&raw_, std::string(name).c_str()));
  }

  // All headers, in order; their names are in lower case.
  [[nodiscard]] std::vector<header> headers() const {
    std::vector<header> all;
    all.reserve(raw_.header_count);
    for (const keyrail_header &one : std::span(raw_.headers, raw_.header_count)) all.push_back({one.name, detail::viewed(one.value)});
    return all;
  }

  // The same response if its status is 2xx. Else 408, 425, 429 and 5xx are a retry, of 429 and 503 after the seconds of `retry-after`, at
  // most an hour; any other status is a dead letter. Both have the code http-STATUS.
  [[nodiscard]] result<response> ok_or_retry() const;

 private:
  keyrail_context *of_;
  keyrail_response raw_;
};

inline result<response> response::ok_or_retry() const {
  if (ok()) return *this;
  keyrail_outcome said = keyrail_not_ok(of_, &raw_);
  failure why(said.code, said.detail, said.fate == KEYRAIL_DEAD_LETTER);
  if (said.has_delay) why.after = milliseconds(said.delay_ms);
  // The SDK for C makes it by malloc.
  std::free(said.detail);
  return std::unexpected(std::move(why));
}

namespace detail {

// The SDK for C's view of a request.
class viewed_request {
 public:
  explicit viewed_request(const request &one) {
    headers_.reserve(one.headers.size());
    for (const request_header &own : one.headers) headers_.push_back({own.name.c_str(), lent(own.value.view())});
    raw_.method = one.method.empty() ? nullptr : one.method.c_str();
    raw_.url = one.url.c_str();
    raw_.headers = headers_.data();
    raw_.header_count = headers_.size();
    raw_.body = one.body ? lent(one.body->view()) : keyrail_null();
    // 0 is none, and no answer is there sooner than after a millisecond.
    raw_.timeout_ms = one.timeout ? std::max<std::uint64_t>(span_ms(*one.timeout), 1) : 0;
  }
  // Where its headers lie is kept when it is moved.
  viewed_request(viewed_request &&) = default;
  viewed_request(const viewed_request &) = delete;
  [[nodiscard]] const keyrail_request &raw() const { return raw_; }

 private:
  std::vector<keyrail_header> headers_;
  keyrail_request raw_{};
};

inline answer answered(keyrail_context *of, const keyrail_response &raw) {
  if (raw.error == KEYRAIL_OK) return response(of, raw);
  return std::unexpected(error{static_cast<errc>(raw.error), raw.words});
}

using prepare_function = result<std::vector<request>> (*)(const message &, context &);
using handle_answers_function = outcome (*)(const message &, context &, std::span<const answer>);

inline keyrail_outcome prepare(prepare_function prepare, keyrail_context *raw, const keyrail_message *given) {
  context ctx(raw);
  result<std::vector<request>> asked = prepare(taken(given), ctx);
  if (!asked) return told(std::move(asked).error());
  for (const request &one : *asked) keyrail_ask(raw, &viewed_request(one).raw());
  return keyrail_done();
}

inline keyrail_outcome run(handle_answers_function handle, keyrail_context *raw, const keyrail_message *given) {
  context ctx(raw);
  const keyrail_response *found = nullptr;
  const std::size_t count = keyrail_answers(raw, &found);
  std::vector<answer> answers;
  answers.reserve(count);
  for (const keyrail_response &one : std::span(found, count)) answers.push_back(answered(raw, one));
  return told(handle(taken(given), ctx, answers));
}

}  // namespace detail

inline std::vector<answer> context::fetch_all(std::span<const request> all) {
  std::vector<detail::viewed_request> viewed;
  viewed.reserve(all.size());
  std::vector<keyrail_request> raw;
  raw.reserve(all.size());
  for (const request &one : all) raw.push_back(viewed.emplace_back(one).raw());
  std::vector<keyrail_response> found(all.size());
  keyrail_fetch_all(raw_, raw.data(), raw.size(), found.data());
  std::vector<answer> answers;
  answers.reserve(all.size());
  for (const keyrail_response &one : found) answers.push_back(detail::answered(raw_, one));
  return answers;
}

inline answer context::fetch(const request &one) { return std::move(fetch_all(std::span(&one, 1)).front()); }

}  // namespace keyrail

// In the place of KEYRAIL_HANDLER, for a handler in two steps: all messages of a call are prepared, the host makes the requests of all of
// them at the same time, then each is handled with its answers, in the order of its requests. An error of the first step is what
// becomes of the message: its requests are not made. Where the manifest grants hosts a call has one message of a key at most, so that a service
// sees one key's requests in order.
//   keyrail::result<std::vector<keyrail::request>> prepare(const keyrail::message &message, keyrail::context &ctx);
//   keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx, std::span<const keyrail::answer> answers);
//   std::expected<void, std::string> check();  // may be left out
#define KEYRAIL_HTTP_HANDLER(prepare, handle, ...)                                                 \
  extern "C" keyrail_outcome keyrail_prepare(keyrail_context *raw, const keyrail_message *given) { \
    return ::keyrail::detail::prepare(prepare, raw, given);                                        \
  }                                                                                                \
  KEYRAIL_HANDLER(handle, __VA_ARGS__)

#endif
