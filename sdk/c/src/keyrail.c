/* The SDK over the contract's bindings (generated/contract.h). It is the same for a handler that runs in the host and for one that
 * is tested without: there testing.c stands in for the imports. */
#include "keyrail.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated/contract.h"

struct work;

struct keyrail_context {
  uint32_t slot;
  const keyrail_message *message;
  /* What the message was handed, given back when it is over. */
  void **owned;
  size_t owned_count, owned_room;
  /* The host's words of the last failed call. */
  const char *words;
  /* What keyrail_prepare asked for, and what came of it. */
  keyrail_request *asked;
  keyrail_response *answers;
  size_t asked_count;
  /* Makes them. IMPORTANT: nothing else names the function, so that only handlers with keyrail_ask import HTTP. */
  void (*ask)(struct work *all, size_t count);
};

/* A message of a call. */
typedef struct work {
  keyrail_message message;
  keyrail_context context;
  keyrail_outcome outcome;
} work;

/* What the host said in `open`. */
static struct {
  char *handler;
  char **topics;
  size_t topic_count;
  char **names, **values;
  size_t config_count;
} setup;

#include "memory.inc"

keyrail_bytes keyrail_null(void) { return (keyrail_bytes){NULL, 0}; }

keyrail_bytes keyrail_text(const char *text) {
  return text == NULL ? keyrail_null() : keyrail_data(text, strlen(text));
}

keyrail_bytes keyrail_data(const void *data, size_t size) {
  return (keyrail_bytes){size > 0 ? (const uint8_t *)data : empty, size};
}

bool keyrail_is_text(keyrail_bytes bytes, const char *text) {
  size_t size = strlen(text);
  return bytes.data != NULL && bytes.size == size && memcmp(bytes.data, text, size) == 0;
}

bool keyrail_starts_with(keyrail_bytes bytes, const char *text) {
  size_t size = strlen(text);
  return bytes.data != NULL && bytes.size >= size && memcmp(bytes.data, text, size) == 0;
}

/* ---- Outcomes ------------------------------------------------------------------------------------------------------------- */

static char *words_of(const char *format, va_list args) {
  va_list again;
  va_copy(again, args);
  int size = vsnprintf(NULL, 0, format, args);
  size_t room = size < 0 ? 1 : (size_t)size + 1;
  char *text = grown(NULL, room, 1);
  text[0] = 0;
  if (size > 0) vsnprintf(text, room, format, again);
  va_end(again);
  return text;
}

keyrail_outcome keyrail_done(void) { return (keyrail_outcome){.fate = KEYRAIL_DONE}; }

keyrail_outcome keyrail_skip(void) { return (keyrail_outcome){.fate = KEYRAIL_SKIP}; }

keyrail_outcome keyrail_retry(const char *code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  keyrail_outcome outcome = {.fate = KEYRAIL_RETRY, .code = code, .detail = words_of(format, args)};
  va_end(args);
  return outcome;
}

keyrail_outcome keyrail_dead_letter(const char *code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  keyrail_outcome outcome = {.fate = KEYRAIL_DEAD_LETTER, .code = code, .detail = words_of(format, args)};
  va_end(args);
  return outcome;
}

keyrail_outcome keyrail_after(keyrail_outcome retry, uint64_t delay_ms) {
  retry.has_delay = true;
  retry.delay_ms = delay_ms;
  return retry;
}

keyrail_outcome keyrail_outage(keyrail_outcome retry) {
  retry.outage = true;
  return retry;
}

const char *keyrail_words(const keyrail_context *context) { return context->words == NULL ? "" : context->words; }

keyrail_outcome keyrail_failed(const keyrail_context *context, keyrail_error error) {
  switch (error) {
    case KEYRAIL_NO_KEY:
      return keyrail_dead_letter("no-key", "the message has no order key");
    case KEYRAIL_UNKNOWN_OUTPUT:
      return keyrail_dead_letter("unknown-output", "the manifest has no such output");
    case KEYRAIL_TOO_LARGE:
      return keyrail_dead_letter("too-large", "a name, a key or a value is too large");
    case KEYRAIL_OVER_QUOTA:
      return keyrail_dead_letter("over-quota", "more than the manifest's limits allow for one message");
    case KEYRAIL_HTTP_TIMEOUT:
      return keyrail_retry("http-timeout", "%s", keyrail_words(context));
    case KEYRAIL_HTTP_UNREACHABLE:
      return keyrail_retry("http-unreachable", "%s", keyrail_words(context));
    case KEYRAIL_HTTP_DENIED:
      return keyrail_dead_letter("http-denied", "%s", keyrail_words(context));
    case KEYRAIL_HTTP_INVALID:
      return keyrail_dead_letter("http-invalid", "%s", keyrail_words(context));
    case KEYRAIL_HTTP_TOO_LARGE:
      return keyrail_dead_letter("http-too-large", "%s", keyrail_words(context));
    default:
      return keyrail_retry("error", "%s", keyrail_words(context));
  }
}

/* The result of an import; the contract's cases are in the same order. */
static keyrail_error result(keyrail_context *context, bool ok, keyrail_handler_types_error_t error) {
  if (ok) return KEYRAIL_OK;
  if (error.tag != KEYRAIL_HANDLER_TYPES_ERROR_OTHER) return (keyrail_error)(error.tag + 1);
  context->words = keep_text(context, error.val.other);
  return KEYRAIL_OTHER;
}

/* ---- Sends, state, timers ------------------------------------------------------------------------------------------------- */

keyrail_error keyrail_send(keyrail_context *context, const char *to, keyrail_bytes value) {
  keyrail_record record = {.to = to, .value = value};
  return keyrail_send_record(context, &record);
}

keyrail_error keyrail_send_record(keyrail_context *context, const keyrail_record *record) {
  keyrail_handler_emit_header_t *headers = NULL;
  if (record->header_count > 0) headers = keep(context, grown(NULL, record->header_count, sizeof *headers));
  for (size_t i = 0; i < record->header_count; i++) {
    headers[i].name = lent_text(record->headers[i].name);
    headers[i].value = lent_option(record->headers[i].value);
  }
  keyrail_handler_emit_output_t output = {
      .to = lent_text(record->to),
      .key = lent_option(record->key == NULL ? context->message->key : *record->key),
      .value = lent_option(record->value),
      .headers = {headers, record->header_count},
      .forward_headers = record->forward_headers,
      .timestamp_ms = {record->timestamp_ms != NULL, record->timestamp_ms == NULL ? 0 : *record->timestamp_ms},
      .delay_ms = {record->delay_ms > 0, record->delay_ms},
  };
  keyrail_handler_emit_error_t error = {0};
  bool ok = keyrail_handler_emit_send(context->slot, &output, &error);
  return result(context, ok, error);
}

keyrail_error keyrail_state_get(keyrail_context *context, const char *name, keyrail_bytes *value) {
  contract_string_t asked = lent_text(name);
  contract_option_list_u8_t found = {0};
  keyrail_handler_state_error_t error = {0};
  *value = keyrail_null();
  bool ok = keyrail_handler_state_get(context->slot, &asked, &found, &error);
  if (ok && found.is_some) *value = keep_bytes(context, found.val);
  return result(context, ok, error);
}

static keyrail_error put(keyrail_context *context, const char *name, keyrail_bytes value, uint64_t *ttl_ms) {
  contract_string_t asked = lent_text(name);
  contract_list_u8_t bytes = lent(value);
  keyrail_handler_state_error_t error = {0};
  bool ok = keyrail_handler_state_put(context->slot, &asked, &bytes, ttl_ms, &error);
  return result(context, ok, error);
}

keyrail_error keyrail_state_put(keyrail_context *context, const char *name, keyrail_bytes value) {
  return put(context, name, value, NULL);
}

keyrail_error keyrail_state_put_for(keyrail_context *context, const char *name, keyrail_bytes value, uint64_t ttl_ms) {
  return put(context, name, value, &ttl_ms);
}

keyrail_error keyrail_state_delete(keyrail_context *context, const char *name) {
  contract_string_t asked = lent_text(name);
  keyrail_handler_state_error_t error = {0};
  bool ok = keyrail_handler_state_delete(context->slot, &asked, &error);
  return result(context, ok, error);
}

keyrail_error keyrail_state_scan(keyrail_context *context, const char *prefix, const char *after, uint32_t limit,
                                 const keyrail_entry **entries, size_t *count) {
  contract_string_t begin = lent_text(prefix), from = lent_text(after == NULL ? "" : after);
  contract_list_tuple2_string_list_u8_t found = {0};
  keyrail_handler_state_error_t error = {0};
  *entries = NULL;
  *count = 0;
  bool ok = keyrail_handler_state_scan(context->slot, &begin, after == NULL ? NULL : &from, limit, &found, &error);
  if (ok) {
    keyrail_entry *all = keep(context, grown(NULL, found.len, sizeof *all));
    for (size_t i = 0; i < found.len; i++) {
      all[i].name = keep_text(context, found.ptr[i].f0);
      all[i].value = keep_bytes(context, found.ptr[i].f1);
    }
    if (found.len > 0) free(found.ptr);
    *entries = all;
    *count = found.len;
  }
  return result(context, ok, error);
}

keyrail_error keyrail_timer_set(keyrail_context *context, const char *name, int64_t at_ms, keyrail_bytes payload) {
  contract_string_t asked = lent_text(name);
  contract_list_u8_t bytes = lent(payload);
  keyrail_handler_timers_error_t error = {0};
  bool ok = keyrail_handler_timers_set(context->slot, &asked, at_ms, &bytes, &error);
  return result(context, ok, error);
}

keyrail_error keyrail_timer_set_after(keyrail_context *context, const char *name, uint64_t wait_ms, keyrail_bytes payload) {
  int64_t now_ms = keyrail_now_ms();
  int64_t at_ms = wait_ms > (uint64_t)(INT64_MAX - now_ms) ? INT64_MAX : now_ms + (int64_t)wait_ms;
  return keyrail_timer_set(context, name, at_ms, payload);
}

keyrail_error keyrail_timer_cancel(keyrail_context *context, const char *name) {
  contract_string_t asked = lent_text(name);
  keyrail_handler_timers_error_t error = {0};
  bool ok = keyrail_handler_timers_cancel(context->slot, &asked, &error);
  return result(context, ok, error);
}

/* ---- What else is known --------------------------------------------------------------------------------------------------- */

const char *keyrail_id(keyrail_context *context) {
  contract_string_t id = {0};
  keyrail_handler_context_id(context->slot, &id);
  return keep_text(context, id);
}

keyrail_bytes keyrail_header_value(keyrail_context *context, const char *name) {
  contract_string_t asked = lent_text(name);
  contract_list_u8_t found = {0};
  bool is_some = keyrail_handler_context_header_value(context->slot, &asked, &found);
  return is_some ? keep_bytes(context, found) : keyrail_null();
}

size_t keyrail_headers(keyrail_context *context, const keyrail_header **headers) {
  keyrail_handler_context_list_header_t found = {0};
  keyrail_handler_context_headers(context->slot, &found);
  keyrail_header *all = keep(context, grown(NULL, found.len, sizeof *all));
  for (size_t i = 0; i < found.len; i++) {
    all[i].name = keep_text(context, found.ptr[i].name);
    all[i].value = found.ptr[i].value.is_some ? keep_bytes(context, found.ptr[i].value.val) : keyrail_null();
  }
  if (found.len > 0) free(found.ptr);
  *headers = all;
  return found.len;
}

bool keyrail_follows_dead_letter(keyrail_context *context) {
  return keyrail_handler_context_follows_dead_letter(context->slot);
}

int64_t keyrail_now_ms(void) { return keyrail_handler_context_now_ms(); }

uint64_t keyrail_random(keyrail_context *context) { return keyrail_handler_context_random(context->slot); }

int64_t keyrail_deadline_ms(void) { return keyrail_handler_context_deadline_ms(); }

#include "http.inc"

/* ---- Log and metrics ------------------------------------------------------------------------------------------------------ */

void keyrail_log(const keyrail_context *context, keyrail_level level, const char *format, ...) {
  if ((keyrail_handler_log_level_t)level < keyrail_handler_log_threshold()) return;
  va_list args;
  va_start(args, format);
  char *text = words_of(format, args);
  va_end(args);
  char partition[24], offset[24];
  contract_tuple2_string_string_t pairs[2];
  contract_list_tuple2_string_string_t fields = {pairs, 0};
  if (context != NULL) {
    snprintf(partition, sizeof partition, "%lu", (unsigned long)context->message->partition);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)context->message->offset);
    pairs[0] = (contract_tuple2_string_string_t){lent_text("partition"), lent_text(partition)};
    pairs[1] = (contract_tuple2_string_string_t){lent_text("offset"), lent_text(offset)};
    fields.len = 2;
  }
  contract_string_t message = lent_text(text);
  keyrail_handler_log_write((keyrail_handler_log_level_t)level, &message, &fields);
  free(text);
}

static uint32_t metric(const char *name, keyrail_handler_metrics_kind_t kind) {
  contract_string_t asked = lent_text(name);
  contract_list_tuple2_string_string_t labels = {NULL, 0};
  return keyrail_handler_metrics_register(&asked, kind, &labels);
}

uint32_t keyrail_counter(const char *name) { return metric(name, KEYRAIL_HANDLER_METRICS_KIND_COUNTER); }

uint32_t keyrail_gauge(const char *name) { return metric(name, KEYRAIL_HANDLER_METRICS_KIND_GAUGE); }

uint32_t keyrail_histogram(const char *name) { return metric(name, KEYRAIL_HANDLER_METRICS_KIND_HISTOGRAM); }

void keyrail_observe(uint32_t metric, double value) { keyrail_handler_metrics_observe(metric, value); }

/* ---- Configuration -------------------------------------------------------------------------------------------------------- */

const char *keyrail_config(const char *name) {
  for (size_t i = 0; i < setup.config_count; i++) {
    if (strcmp(setup.names[i], name) == 0) return setup.values[i];
  }
  return NULL;
}

const char *keyrail_handler(void) { return setup.handler == NULL ? "" : setup.handler; }

/* ---- What the host calls -------------------------------------------------------------------------------------------------- */

__attribute__((weak)) const char *keyrail_open(void) { return NULL; }

/* Takes over a string that the host has given. */
static char *taken(contract_string_t text) {
  char *copied = copy(text.ptr, text.len);
  if (text.len > 0) free(text.ptr);
  return copied;
}

/* The host opens once; a test does it more often. */
static void drop_setup(void) {
  for (size_t i = 0; i < setup.topic_count; i++) free(setup.topics[i]);
  for (size_t i = 0; i < setup.config_count; i++) {
    free(setup.names[i]);
    free(setup.values[i]);
  }
  free(setup.handler);
  free(setup.topics);
  free(setup.names);
  free(setup.values);
}

bool exports_keyrail_handler_guest_open(exports_keyrail_handler_guest_setup_t *given, contract_string_t *err) {
  drop_setup();
  setup.handler = taken(given->handler);
  setup.topic_count = given->topics.len;
  setup.topics = grown(NULL, given->topics.len, sizeof *setup.topics);
  for (size_t i = 0; i < given->topics.len; i++) setup.topics[i] = taken(given->topics.ptr[i]);
  setup.config_count = given->config.len;
  setup.names = grown(NULL, given->config.len, sizeof *setup.names);
  setup.values = grown(NULL, given->config.len, sizeof *setup.values);
  for (size_t i = 0; i < given->config.len; i++) {
    setup.names[i] = taken(given->config.ptr[i].f0);
    setup.values[i] = taken(given->config.ptr[i].f1);
  }
  for (size_t i = 0; i < given->outputs.len; i++) free(taken(given->outputs.ptr[i]));
  if (given->topics.len > 0) free(given->topics.ptr);
  if (given->outputs.len > 0) free(given->outputs.ptr);
  if (given->config.len > 0) free(given->config.ptr);
  const char *refused = keyrail_open();
  if (refused == NULL) return true;
  *err = (contract_string_t){(uint8_t *)copy((const uint8_t *)refused, strlen(refused)), strlen(refused)};
  return false;
}

static contract_string_t own_text(const char *text) {
  size_t size = text == NULL ? 0 : strlen(text);
  return (contract_string_t){size > 0 ? (uint8_t *)copy((const uint8_t *)text, size) : NULL, size};
}

/* The contract's form of an outcome, whose memory the host gives back. */
static exports_keyrail_handler_guest_outcome_t told(keyrail_outcome outcome) {
  exports_keyrail_handler_guest_outcome_t out = {0};
  if (outcome.fate == KEYRAIL_DONE || outcome.fate == KEYRAIL_SKIP) {
    out.tag = outcome.fate == KEYRAIL_DONE ? KEYRAIL_HANDLER_TYPES_OUTCOME_DONE : KEYRAIL_HANDLER_TYPES_OUTCOME_SKIP;
  } else {
    keyrail_handler_types_failure_t failure = {own_text(outcome.code), own_text(outcome.detail)};
    if (outcome.fate == KEYRAIL_RETRY) {
      out.tag = KEYRAIL_HANDLER_TYPES_OUTCOME_RETRY;
      out.val.retry.failure = failure;
      out.val.retry.delay_ms = (contract_option_u64_t){outcome.has_delay, outcome.delay_ms};
      out.val.retry.outage = outcome.outage;
    } else {
      out.tag = KEYRAIL_HANDLER_TYPES_OUTCOME_DEAD_LETTER;
      out.val.dead_letter = failure;
    }
  }
  free(outcome.detail);
  return out;
}

static void begin(work *one, uint32_t slot, const exports_keyrail_handler_guest_message_t *given) {
  *one = (work){
      .message =
          {
              .partition = given->partition,
              .offset = given->offset,
              .timestamp_ms = given->timestamp_ms,
              .key = option(given->key),
              .value = option(given->value),
              .attempt = given->attempt,
          },
      .context = {.slot = slot, .message = &one->message},
  };
  if (given->source.tag == KEYRAIL_HANDLER_TYPES_SOURCE_TIMER) {
    one->message.timer = keep_text(&one->context, given->source.val.timer);
  } else if (given->source.val.topic < setup.topic_count) {
    one->message.topic = setup.topics[given->source.val.topic];
  }
  one->outcome = keyrail_prepare(&one->context, &one->message);
  /* It is told when it is the message's turn. */
  one->outcome.code = own_copy(&one->context, one->outcome.code);
}

static void end(work *one, exports_keyrail_handler_guest_message_t *given) {
  keyrail_context *context = &one->context;
  while (context->owned_count > 0) free(context->owned[--context->owned_count]);
  free(context->owned);
  free(context->asked);
  free(context->answers);
  if (given->key.is_some && given->key.val.len > 0) free(given->key.val.ptr);
  if (given->value.is_some && given->value.val.len > 0) free(given->value.val.ptr);
}

void exports_keyrail_handler_guest_process(exports_keyrail_handler_guest_list_message_t *batch,
                                           exports_keyrail_handler_guest_list_outcome_t *ret) {
  work *all = grown(NULL, batch->len, sizeof *all);
  void (*ask)(work *, size_t) = NULL;
  for (size_t i = 0; i < batch->len; i++) {
    begin(&all[i], (uint32_t)i, &batch->ptr[i]);
    if (all[i].context.asked_count > 0) ask = all[i].context.ask;
  }
  if (ask != NULL) ask(all, batch->len);
  ret->len = batch->len;
  ret->ptr = grown(NULL, batch->len, sizeof *ret->ptr);
  for (size_t i = 0; i < batch->len; i++) {
    work *one = &all[i];
    if (one->outcome.fate == KEYRAIL_DONE) one->outcome = keyrail_handle(&one->context, &one->message);
    ret->ptr[i] = told(one->outcome);
    end(one, &batch->ptr[i]);
  }
  free(all);
  if (batch->len > 0) free(batch->ptr);
}

#ifdef __wasm__
/* The bindings want the contract's types linked in. The host adds them itself, so there is nothing behind the name. */
void __component_type_object_force_link_contract(void);
void __component_type_object_force_link_contract(void) {}
#endif
