/* What the SDK does, with the host in memory. The handler does what the first word of a value says. */
#undef NDEBUG
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "keyrail_test.h"

static uint32_t seen;

const char *keyrail_open(void) {
  seen = keyrail_counter("seen");
  const char *limit = keyrail_config("limit");
  return limit != NULL && strcmp(limit, "none") == 0 ? "there must be a limit" : NULL;
}

static keyrail_outcome scans(keyrail_context *ctx) {
  const char *names[] = {"b", "a", "ab", "c"};
  for (size_t i = 0; i < 4; i++) KEYRAIL_TRY(ctx, keyrail_state_put(ctx, names[i], keyrail_text(names[i])));
  const keyrail_entry *entries;
  size_t count;
  KEYRAIL_TRY(ctx, keyrail_state_scan(ctx, "a", NULL, 10, &entries, &count));
  assert(count == 2 && strcmp(entries[0].name, "a") == 0 && keyrail_is_text(entries[1].value, "ab"));
  KEYRAIL_TRY(ctx, keyrail_state_scan(ctx, "", "ab", 1, &entries, &count));
  assert(count == 1 && strcmp(entries[0].name, "b") == 0);
  KEYRAIL_TRY(ctx, keyrail_state_delete(ctx, "b"));
  KEYRAIL_TRY(ctx, keyrail_state_scan(ctx, "b", NULL, 10, &entries, &count));
  assert(count == 0);
  return keyrail_done();
}

static keyrail_outcome tells(keyrail_context *ctx, const keyrail_message *message) {
  char text[200];
  const keyrail_header *headers;
  size_t count = keyrail_headers(ctx, &headers);
  keyrail_bytes last = keyrail_header_value(ctx, "h");
  snprintf(text, sizeof text, "%s %s %zu %.*s %d %" PRId64, keyrail_id(ctx), message->topic, count, (int)last.size,
           (const char *)last.data, keyrail_follows_dead_letter(ctx), keyrail_deadline_ms() - keyrail_now_ms());
  assert(keyrail_header_value(ctx, "none").data == NULL && headers[1].value.data == NULL);
  keyrail_log(ctx, KEYRAIL_INFO, "told of %" PRIu64, message->offset);
  keyrail_bytes key = keyrail_text("other");
  keyrail_header header = {"seen", keyrail_text("")};
  int64_t at_ms = 5;
  keyrail_record record = {.to = "out", .value = keyrail_text(text), .key = &key, .headers = &header, .header_count = 1,
                           .timestamp_ms = &at_ms, .delay_ms = 9};
  KEYRAIL_TRY(ctx, keyrail_send_record(ctx, &record));
  return keyrail_done();
}

keyrail_outcome keyrail_handle(keyrail_context *ctx, const keyrail_message *message) {
  keyrail_observe(seen, 1);
  if (message->timer != NULL) {
    KEYRAIL_TRY(ctx, keyrail_send(ctx, "out", keyrail_text(message->timer)));
    return keyrail_done();
  }
  if (keyrail_is_text(message->value, "skip")) return keyrail_skip();
  if (keyrail_is_text(message->value, "retry")) return keyrail_after(keyrail_retry("later", "%d of %d", 1, 2), 1500);
  if (keyrail_is_text(message->value, "outage")) return keyrail_outage(keyrail_retry("down", "no answer"));
  if (keyrail_is_text(message->value, "scan")) return scans(ctx);
  if (keyrail_is_text(message->value, "tell")) return tells(ctx, message);
  if (keyrail_is_text(message->value, "unknown")) {
    KEYRAIL_TRY(ctx, keyrail_send(ctx, "nowhere", keyrail_null()));
  }
  if (keyrail_starts_with(message->value, "put ")) {
    keyrail_bytes rest = keyrail_data(message->value.data + 4, message->value.size - 4);
    KEYRAIL_TRY(ctx, keyrail_state_put_for(ctx, "brief", rest, 1000));
    KEYRAIL_TRY(ctx, keyrail_timer_set_after(ctx, "remind", 1000, rest));
    if (keyrail_is_text(rest, "and fail")) return keyrail_dead_letter("asked", "%s", "100%");
    return keyrail_done();
  }
  if (keyrail_is_text(message->value, "cancel")) {
    KEYRAIL_TRY(ctx, keyrail_timer_cancel(ctx, "remind"));
    return keyrail_done();
  }
  if (keyrail_is_text(message->value, "large")) {
    static char name[2000];
    memset(name, 'x', sizeof name - 1);
    KEYRAIL_TRY(ctx, keyrail_state_put(ctx, name, keyrail_null()));
  }
  KEYRAIL_TRY(ctx, keyrail_send(ctx, "out", message->value));
  return keyrail_done();
}

static void begin(void) {
  keyrail_test_begin();
  keyrail_test_output("out");
}

static void outcomes_carry_what_was_said(void) {
  begin();
  assert(keyrail_test_say("k", "skip").fate == KEYRAIL_SKIP);
  keyrail_run run = keyrail_test_say("k", "retry");
  assert(run.fate == KEYRAIL_RETRY && strcmp(run.code, "later") == 0 && strcmp(run.detail, "1 of 2") == 0);
  assert(run.has_delay && run.delay_ms == 1500 && !run.outage);
  run = keyrail_test_say("k", "outage");
  assert(run.outage && !run.has_delay);
  run = keyrail_test_say("k", "unknown");
  assert(run.fate == KEYRAIL_DEAD_LETTER && strcmp(run.code, "unknown-output") == 0);
  run = keyrail_test_say(NULL, "scan");
  assert(run.fate == KEYRAIL_DEAD_LETTER && strcmp(run.code, "no-key") == 0);
  assert(strcmp(keyrail_test_say("k", "large").code, "too-large") == 0);
  assert(keyrail_test_metric("seen") == 6);
}

static void null_and_empty_stay_apart(void) {
  begin();
  keyrail_run run = keyrail_test_say("k", NULL);
  assert(run.sent_count == 1 && run.sent[0].value.data == NULL);
  run = keyrail_test_say("", "");
  assert(run.sent[0].value.data != NULL && run.sent[0].value.size == 0 && run.sent[0].key.data != NULL);
  run = keyrail_test_run((keyrail_input){.value = keyrail_data("a\0b", 3)});
  assert(run.sent[0].value.size == 3 && memcmp(run.sent[0].value.data, "a\0b", 3) == 0 && run.sent[0].key.data == NULL);
}

static void state_and_timers_are_undone_with_a_failed_message(void) {
  begin();
  assert(keyrail_test_say("k", "put and fail").fate == KEYRAIL_DEAD_LETTER);
  assert(keyrail_test_state("k", "brief").data == NULL && keyrail_test_timer("k", "remind") == -1);
  assert(keyrail_test_say("k", "put x").fate == KEYRAIL_DONE);
  assert(keyrail_is_text(keyrail_test_state("k", "brief"), "x") && keyrail_test_state("other", "brief").data == NULL);
  assert(keyrail_test_timer("k", "remind") == 1700000001000);
  keyrail_test_set_now_ms(1700000001000);
  assert(keyrail_test_state("k", "brief").data == NULL);
  assert(keyrail_test_say("k", "cancel").fate == KEYRAIL_DONE && keyrail_test_timer("k", "remind") == -1);
  assert(keyrail_test_say("k", "scan").fate == KEYRAIL_DONE && keyrail_test_state("k", "b").data == NULL);
  keyrail_run run = keyrail_test_run((keyrail_input){.key = keyrail_text("k"), .timer = "remind"});
  assert(keyrail_is_text(run.sent[0].value, "remind"));
}

static void the_context_tells_of_the_message(void) {
  begin();
  keyrail_header headers[] = {{"h", keyrail_text("first")}, {"n", keyrail_null()}, {"h", keyrail_text("last")}};
  keyrail_input input = {.value = keyrail_text("tell"), .headers = headers, .header_count = 3, .follows_dead_letter = true};
  keyrail_run run = keyrail_test_run(input);
  assert(run.sent_count == 1 && keyrail_is_text(run.sent[0].value, "in/0/0 in 3 last 1 5000"));
  assert(keyrail_is_text(run.sent[0].key, "other") && run.sent[0].timestamp_ms == 5 && run.sent[0].delay_ms == 9);
  assert(run.sent[0].header_count == 1 && keyrail_is_text(run.sent[0].headers[0].value, ""));
  assert(strcmp(keyrail_test_logged(), "told of 0") == 0);
}

static void open_may_refuse(void) {
  begin();
  keyrail_test_config("limit", "none");
  assert(strcmp(keyrail_test_open(), "there must be a limit") == 0);
  begin();
  keyrail_test_config("limit", "5");
  assert(keyrail_test_open() == NULL && strcmp(keyrail_config("limit"), "5") == 0 && keyrail_config("x") == NULL);
  assert(strcmp(keyrail_handler(), "test") == 0);
}

int main(void) {
  outcomes_carry_what_was_said();
  null_and_empty_stay_apart();
  state_and_timers_are_undone_with_a_failed_message();
  the_context_tells_of_the_message();
  open_may_refuse();
  keyrail_test_begin();
  puts("all passed");
  return 0;
}
