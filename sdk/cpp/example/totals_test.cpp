#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <keyrail_test.hpp>

int main() {
  keyrail::testing::host host;
  host.output("totals");
  auto ran = host.say("ann", "7");
  assert(ran.outcome == keyrail::done && ran.sent.size() == 1);
  assert(ran.sent[0].value == "7" && ran.sent[0].key == "ann");
  assert(host.say("bob", "1").outcome == keyrail::done);
  assert(host.say("ann", "-2").sent[0].value == "5");
  ran = host.say("ann", "many");
  assert(ran.outcome.error().is_dead_letter && ran.outcome.error().code == "no-number" && ran.sent.empty());
  assert(host.state("ann", "total") == "5");
  assert(host.say("ann", "9223372036854775807").outcome.error().code == "overflow");
  assert(host.say("ann", nullptr).outcome.error().code == "no-number");
  std::puts("all passed");
}
