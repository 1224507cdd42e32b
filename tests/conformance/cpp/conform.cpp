// The conformance handler by the SDK for C++: see README.md beside this folder.
#include <array>
#include <charconv>
#include <cstdio>
#include <keyrail.hpp>

namespace {

using keyrail::milliseconds;
using std::string;
using std::string_view;

constexpr string_view out = "out";
// So many headers are described.
constexpr std::size_t described = 3;

// The first word, and what follows its space.
struct words {
  string_view first, rest;
};

words split(string_view text) {
  const auto at = text.find(' ');
  if (at == string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

keyrail::result<std::uint64_t> number(string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return keyrail::fail("no number: " + string(text));
  return value;
}

keyrail::result<milliseconds> span(string_view text) { return milliseconds(KEYRAIL_TRY(number(text))); }

string shown(std::optional<string_view> text) { return string(text.value_or("null")); }

string hashed(std::optional<string_view> bytes) {
  if (!bytes) return "null";
  std::uint32_t hash = 2166136261;
  for (const char byte : *bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 16777619;
  std::array<char, 9> hex{};
  std::snprintf(hex.data(), hex.size(), "%08lx", static_cast<unsigned long>(hash));
  return std::to_string(bytes->size()) + " " + hex.data();
}

keyrail::called<void> describe(const keyrail::message &message, keyrail::context &ctx) {
  const auto headers = ctx.headers();
  string told = message.timer ? "from timer " + string(*message.timer) : "from topic " + shown(message.topic);
  told += "\nat " + std::to_string(message.partition) + "/" + std::to_string(message.offset);
  told += " " + std::to_string(message.timestamp.time_since_epoch().count());
  told += "\nattempt " + std::to_string(message.attempt);
  told += "\nid " + string(ctx.id());
  told += ctx.follows_dead_letter() ? "\nfollows yes" : "\nfollows no";
  told += "\nkey " + hashed(message.key);
  told += "\nvalue " + hashed(message.value);
  told += "\nheaders " + std::to_string(headers.size());
  for (std::size_t i = 0; i < std::min(headers.size(), described); ++i) {
    told += "\nheader " + string(headers[i].name) + " " + hashed(headers[i].value);
  }
  return ctx.send(out, told);
}

// How a command went: that the next one may run, or that the message ends as skipped.
using went = keyrail::result<bool>;

went sends(string_view verb, string_view rest, keyrail::context &ctx) {
  const auto [first, text] = split(rest);
  if (verb == "send") {
    KEYRAIL_TRY(ctx.send(first, text));
  } else if (verb == "caught") {
    const auto tried = ctx.send(rest, "x");
    KEYRAIL_TRY(ctx.send(out, "caught " + string(tried ? "nothing" : tried.error().code())));
  } else if (verb == "record") {
    KEYRAIL_TRY(ctx.send(out, "v2",
                         {.key = "k2",
                          .headers = {{"a", "1"}, {"b", std::nullopt}, {"a", "2"}},
                          .forward_headers = true,
                          .timestamp = keyrail::time_point(milliseconds(1234567890123))}));
  } else if (verb == "tombstone") {
    KEYRAIL_TRY(ctx.send(out, nullptr));
  } else if (verb == "keyless") {
    KEYRAIL_TRY(ctx.send(out, "", {.key = nullptr}));
  } else {
    KEYRAIL_TRY(ctx.send(out, text, {.delay = KEYRAIL_TRY(span(first))}));
  }
  return true;
}

went keeps(string_view verb, string_view rest, keyrail::context &ctx) {
  auto state = ctx.state();
  const auto [name, text] = split(rest);
  if (verb == "put") {
    KEYRAIL_TRY(state.put(name, text));
  } else if (verb == "put-for") {
    const auto [own, value] = split(text);
    KEYRAIL_TRY(state.put_for(own, value, KEYRAIL_TRY(span(name))));
  } else if (verb == "delete") {
    KEYRAIL_TRY(state.erase(name));
  } else if (verb == "get") {
    KEYRAIL_TRY(ctx.send(out, "get " + string(name) + " " + shown(KEYRAIL_TRY(state.get(name)))));
  } else {
    const auto [limit, after] = split(text);
    keyrail::scan_options options{.limit = static_cast<std::uint32_t>(KEYRAIL_TRY(number(limit)))};
    if (!after.empty()) options.after = after;
    string told;
    for (const auto &[own, value] : KEYRAIL_TRY(state.scan(name == "-" ? "" : name, options))) {
      told += (told.empty() ? "" : ",") + string(own) + "=" + string(value);
    }
    KEYRAIL_TRY(ctx.send(out, "scan " + told));
  }
  return true;
}

went tells(string_view verb, string_view rest, keyrail::context &ctx) {
  string told(verb);
  if (verb == "header") told += " " + string(rest) + " " + shown(ctx.header_value(rest));
  if (verb == "config") told += " " + string(rest) + " " + shown(keyrail::config(rest));
  if (verb == "now") told += " " + std::to_string(ctx.now().time_since_epoch().count());
  if (verb == "deadline") told += " " + std::to_string((ctx.deadline() - ctx.now()).count());
  if (verb == "random") {
    for (int i = 0; i < 2; ++i) told += " " + std::to_string(ctx.random());
  }
  KEYRAIL_TRY(ctx.send(out, told));
  return true;
}

// What ends a message otherwise than well.
went ends(string_view line, const keyrail::message &message) {
  const auto [verb, rest] = split(line);
  const auto [first, text] = split(rest);
  const string code(first), why(text);
  if (verb == "until") {
    if (message.attempt > KEYRAIL_TRY(number(first))) return true;
    return keyrail::retry(why, "attempt " + std::to_string(message.attempt));
  }
  if (verb == "retry") return keyrail::retry(code, why);
  if (verb == "outage") return keyrail::retry(code, why, {.outage = true});
  if (verb == "dead") return keyrail::dead_letter(code, why);
  if (verb == "raise") return keyrail::fail(string(rest));
  if (verb == "after") {
    const auto [later, words] = split(text);
    return keyrail::retry(string(later), string(words), {.after = KEYRAIL_TRY(span(first))});
  }
  return keyrail::dead_letter("unknown-command", string(line));
}

keyrail::result<bool> logs(string_view rest, const keyrail::context &ctx) {
  constexpr std::array<string_view, 6> levels{"trace", "debug", "info", "warn", "error", "critical"};
  const auto [level, text] = split(rest);
  const auto found = std::ranges::find(levels, level);
  if (found == levels.end()) return keyrail::dead_letter("level", string(level));
  ctx.log(static_cast<keyrail::level>(found - levels.begin()), text);
  return true;
}

// `METHOD URL [TEXT]`.
keyrail::request request(string_view line) {
  const auto [method, rest] = split(line);
  const auto [url, text] = split(rest);
  keyrail::request asked{.url = string(url), .method = string(method == "-" ? "" : method)};
  if (!text.empty()) asked.body = text;
  return asked;
}

// Sends what came of requests, a line each.
went tells(std::span<const keyrail::answer> answers, keyrail::context &ctx) {
  string told;
  for (const keyrail::answer &answer : answers) {
    if (&answer != answers.data()) told += "\n";
    if (answer) {
      told.append(std::to_string(answer->status())).append(" ").append(answer->body());
    } else {
      told.append("error ").append(answer.error().code().substr(string_view("http-").size()));
    }
  }
  KEYRAIL_TRY(ctx.send(out, told));
  return true;
}

// The requests that `ask` named, and the answers to those of the first step.
struct outside {
  std::vector<keyrail::request> asked;
  std::span<const keyrail::answer> answers;
};

went asks(string_view verb, string_view rest, outside &of, keyrail::context &ctx) {
  if (verb == "fetch") return tells(ctx.fetch_all(std::exchange(of.asked, {})), ctx);
  if (verb == "answers") return tells(of.answers, ctx);
  if (verb == "ok") {
    const keyrail::answer well = KEYRAIL_TRY(KEYRAIL_TRY(ctx.fetch(request(rest))).ok_or_retry());
    return tells(std::span(&well, 1), ctx);
  }
  if (verb == "ask") {
    of.asked.push_back(request(rest));
  } else if (!of.asked.empty() && verb == "ask-header") {
    const auto [name, text] = split(rest);
    of.asked.back().headers.push_back({string(name), text});
  } else if (!of.asked.empty()) {
    of.asked.back().timeout = KEYRAIL_TRY(span(rest));
  }
  return true;
}

bool among(string_view verb, std::initializer_list<string_view> all) { return std::ranges::find(all, verb) != all.end(); }

went run(string_view line, const keyrail::message &message, outside &of, keyrail::context &ctx) {
  const auto [verb, rest] = split(line);
  if (among(verb, {"ask", "ask-header", "ask-timeout", "fetch", "ok", "answers"})) return asks(verb, rest, of, ctx);
  if (among(verb, {"send", "caught", "record", "tombstone", "keyless", "later"})) return sends(verb, rest, ctx);
  if (among(verb, {"put", "put-for", "delete", "get", "scan"})) return keeps(verb, rest, ctx);
  if (among(verb, {"header", "now", "deadline", "random", "config"})) return tells(verb, rest, ctx);
  if (verb == "describe") {
    KEYRAIL_TRY(describe(message, ctx));
  } else if (verb == "timer") {
    const auto [name, when] = split(rest);
    const auto [wait, text] = split(when);
    KEYRAIL_TRY(ctx.timers().set_after(name, KEYRAIL_TRY(span(wait)), text));
  } else if (verb == "cancel") {
    KEYRAIL_TRY(ctx.timers().cancel(rest));
  } else if (verb == "log") {
    return logs(rest, ctx);
  } else if (verb == "count") {
    keyrail::counter{string(rest)}.add();
  } else if (verb == "skip") {
    return false;
  } else {
    return ends(line, message);
  }
  return true;
}

// Takes the next line that is not empty off a script; none is left if it is empty.
string_view next_line(string_view &script) {
  string_view line;
  while (line.empty() && !script.empty()) {
    line = script.substr(0, script.find('\n'));
    script.remove_prefix(std::min(script.size(), line.size() + 1));
  }
  return line;
}

keyrail::result<std::vector<keyrail::request>> prepare(const keyrail::message &message, keyrail::context &ctx) {
  std::vector<keyrail::request> all;
  auto script = ctx.header_value("ask").value_or("");
  for (auto line = next_line(script); !line.empty(); line = next_line(script)) {
    if (line.starts_with("dead ")) KEYRAIL_TRY(ends(line, message));
    all.push_back(request(line));
  }
  return all;
}

keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx, std::span<const keyrail::answer> answers) {
  outside of{.asked = {}, .answers = answers};
  auto script = ctx.header_value("do").value_or("describe");
  for (auto line = next_line(script); !line.empty(); line = next_line(script)) {
    if (!KEYRAIL_TRY(run(line, message, of, ctx))) return keyrail::skip;
  }
  return keyrail::done;
}

std::expected<void, string> check() {
  if (const auto words = keyrail::config("refuse")) return std::unexpected(string(*words));
  return {};
}

}  // namespace

KEYRAIL_HTTP_HANDLER(prepare, handle, check)
