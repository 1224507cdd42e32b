/* Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the key's
 * state. An amount that is no number is a dead letter. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyrail.h"

static bool number(keyrail_bytes bytes, int64_t *out) {
  char text[32], *end;
  if (bytes.data == NULL || bytes.size == 0 || bytes.size >= sizeof text) return false;
  memcpy(text, bytes.data, bytes.size);
  text[bytes.size] = 0;
  *out = strtoll(text, &end, 10);
  return *end == 0;
}

keyrail_outcome keyrail_handle(keyrail_context *ctx, const keyrail_message *message) {
  int64_t amount, total = 0;
  if (!number(message->value, &amount)) return keyrail_dead_letter("no-number", "the amount is no number");
  keyrail_bytes before;
  KEYRAIL_TRY(ctx, keyrail_state_get(ctx, "total", &before));
  if (before.data != NULL && !number(before, &total)) return keyrail_dead_letter("state", "the total is no number");
  if (__builtin_add_overflow(total, amount, &total)) return keyrail_dead_letter("overflow", "the total is too large");
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, total);
  KEYRAIL_TRY(ctx, keyrail_state_put(ctx, "total", keyrail_text(text)));
  KEYRAIL_TRY(ctx, keyrail_send(ctx, "totals", keyrail_text(text)));
  return keyrail_done();
}
