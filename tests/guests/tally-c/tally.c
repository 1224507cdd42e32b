/* The test handler tally, in C: counts the messages of each key, and sends each to the output `out` as `COUNT VALUE`, with the count
 * in the key's state under `count`. A value that begins with `forget` deletes the count behind it, one with `fail N` fails on its
 * first N runs, after it has counted. `print` writes to the standard streams, `crash` traps after it has said why. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keyrail.h"

keyrail_outcome keyrail_handle(keyrail_context *ctx, const keyrail_message *message) {
  keyrail_bytes before, value = message->value;
  uint64_t count = 1;
  char text[32];
  KEYRAIL_TRY(ctx, keyrail_state_get(ctx, "count", &before));
  if (before.data != NULL) {
    if (before.size >= sizeof text) return keyrail_dead_letter("count", "the state is no number");
    memcpy(text, before.data, before.size);
    text[before.size] = 0;
    count = strtoull(text, NULL, 10) + 1;
  }
  snprintf(text, sizeof text, "%" PRIu64, count);
  KEYRAIL_TRY(ctx, keyrail_state_put(ctx, "count", keyrail_text(text)));
  if (keyrail_starts_with(value, "fail ")) {
    uint32_t times = 0;
    for (size_t i = 5; i < value.size && value.data[i] >= '0' && value.data[i] <= '9'; i++) times = times * 10 + value.data[i] - '0';
    if (message->attempt <= times) return keyrail_retry("asked", "the message asks to fail");
  }
  if (keyrail_starts_with(value, "print")) {
    printf("count %" PRIu64 " at %lld", count, (long long)time(NULL));
    puts("");
    fprintf(stderr, "%s is printed\n", keyrail_id(ctx));
  }
  if (keyrail_starts_with(value, "crash")) {
    fprintf(stderr, "tally.c: %.*s\n", (int)value.size, (const char *)value.data);
    abort();
  }
  size_t size = strlen(text) + 1 + value.size;
  char *out = malloc(size + 1);
  if (out == NULL) return keyrail_retry("memory", "no room for %zu bytes", size);
  snprintf(out, size + 1, "%s %.*s", text, (int)value.size, (const char *)value.data);
  keyrail_error error = keyrail_send(ctx, "out", keyrail_data(out, size));
  free(out);
  if (error != KEYRAIL_OK) return keyrail_failed(ctx, error);
  if (keyrail_starts_with(value, "forget")) KEYRAIL_TRY(ctx, keyrail_state_delete(ctx, "count"));
  return keyrail_done();
}
