// Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the key's state. An
// amount that is no number is a dead letter.
#include <charconv>
#include <keyrail.hpp>

namespace {

std::optional<std::int64_t> number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

keyrail::outcome handle(const keyrail::message &message, keyrail::context &ctx) {
  const auto amount = number(message.value.value_or(""));
  if (!amount) return keyrail::dead_letter("no-number", "the amount is no number");
  const auto before = number(KEYRAIL_TRY(ctx.state().get("total")).value_or("0"));
  if (!before) return keyrail::dead_letter("state", "the total is no number");
  std::int64_t total = 0;
  if (__builtin_add_overflow(*before, *amount, &total)) return keyrail::dead_letter("overflow", "the total is too large");
  KEYRAIL_TRY(ctx.state().put("total", std::to_string(total)));
  KEYRAIL_TRY(ctx.send("totals", std::to_string(total)));
  return keyrail::done;
}

}  // namespace

KEYRAIL_HANDLER(handle)
