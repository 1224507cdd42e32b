#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "keyrail_test.h"

int main(void) {
  keyrail_test_begin();
  keyrail_test_output("totals");
  keyrail_run run = keyrail_test_say("ann", "7");
  assert(run.fate == KEYRAIL_DONE && run.sent_count == 1);
  assert(keyrail_is_text(run.sent[0].value, "7") && keyrail_is_text(run.sent[0].key, "ann"));
  assert(keyrail_test_say("bob", "1").fate == KEYRAIL_DONE);
  run = keyrail_test_say("ann", "-2");
  assert(keyrail_is_text(run.sent[0].value, "5"));
  run = keyrail_test_say("ann", "many");
  assert(run.fate == KEYRAIL_DEAD_LETTER && strcmp(run.code, "no-number") == 0 && run.sent_count == 0);
  assert(keyrail_is_text(keyrail_test_state("ann", "total"), "5"));
  assert(strcmp(keyrail_test_say("ann", "9223372036854775807").code, "overflow") == 0);
  keyrail_test_begin();
  puts("all passed");
  return 0;
}
