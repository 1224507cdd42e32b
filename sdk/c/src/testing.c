/* The host in memory: it stands where the contract's imports stand in a handler that is built to WebAssembly. */
#include "keyrail_test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generated/contract.h"

#define NAME_BYTES ((size_t)1 << 10)
#define KEY_BYTES ((size_t)32 << 10)
#define VALUE_BYTES ((size_t)512 << 10)
#define SCAN_NAMES 1000

/* Bytes of one's own, with a zero behind them; null where there is no data. */
typedef struct blob {
  uint8_t *data;
  size_t size;
} blob;

/* A value of state, or a timer. */
typedef struct kept {
  blob key, name, value;
  bool is_timer;
  /* When it ends, or is due; INT64_MAX: never. */
  int64_t at_ms;
} kept;

typedef struct all_kept {
  kept *entries;
  size_t count;
} all_kept;

typedef struct metric {
  char *name;
  double sum;
} metric;

static struct {
  bool opened;
  int64_t now_ms;
  char **outputs;
  size_t output_count;
  char **names, **values;
  size_t config_count;
  all_kept kept;
  metric *metrics;
  size_t metric_count;
  char *logged, *refused;
  keyrail_sent *sent;
  size_t sent_count;
  char *code, *detail;
  uint64_t offset;
  /* The message that runs. */
  keyrail_input input;
  char id[64];
  uint64_t chance;
} world;

static void *grown(void *old, size_t count, size_t size) {
  void *all = realloc(old, count * size > 0 ? count * size : 1);
  if (all == NULL) abort();
  return all;
}

static blob copied(const void *data, size_t size) {
  blob out = {grown(NULL, size + 1, 1), size};
  if (size > 0) memcpy(out.data, data, size);
  out.data[size] = 0;
  return out;
}

static char *text_of(const void *data, size_t size) { return (char *)copied(data, size).data; }

static char *text_copy(const char *text) { return text_of(text, strlen(text)); }

static bool same(blob a, const void *data, size_t size) {
  return a.size == size && (size == 0 || memcmp(a.data, data, size) == 0);
}

static all_kept copy_of(const all_kept *from) {
  all_kept out = {grown(NULL, from->count, sizeof *out.entries), from->count};
  for (size_t i = 0; i < from->count; i++) {
    const kept *entry = &from->entries[i];
    out.entries[i] = *entry;
    out.entries[i].key = copied(entry->key.data, entry->key.size);
    out.entries[i].name = copied(entry->name.data, entry->name.size);
    out.entries[i].value = copied(entry->value.data, entry->value.size);
  }
  return out;
}

static void drop_entry(kept *entry) {
  free(entry->key.data);
  free(entry->name.data);
  free(entry->value.data);
}

static void drop_all(all_kept *all) {
  for (size_t i = 0; i < all->count; i++) drop_entry(&all->entries[i]);
  free(all->entries);
  *all = (all_kept){NULL, 0};
}

static void drop_headers(const keyrail_header *headers, size_t count) {
  for (size_t i = 0; i < count; i++) {
    free((void *)(uintptr_t)headers[i].name);
    free((void *)(uintptr_t)headers[i].value.data);
  }
  free((void *)(uintptr_t)headers);
}

static void drop_sent(void) {
  for (size_t i = 0; i < world.sent_count; i++) {
    keyrail_sent *sent = &world.sent[i];
    free((void *)(uintptr_t)sent->to);
    free((void *)(uintptr_t)sent->key.data);
    free((void *)(uintptr_t)sent->value.data);
    drop_headers(sent->headers, sent->header_count);
  }
  free(world.sent);
  world.sent = NULL;
  world.sent_count = 0;
}

static contract_string_t given_text(const char *text) {
  size_t size = strlen(text);
  return (contract_string_t){size > 0 ? copied(text, size).data : NULL, size};
}

#include "testing_http.inc"

/* ---- The test's side ------------------------------------------------------------------------------------------------------ */

void keyrail_test_begin(void) {
  drop_all(&world.kept);
  drop_sent();
  drop_outside();
  for (size_t i = 0; i < world.output_count; i++) free(world.outputs[i]);
  for (size_t i = 0; i < world.config_count; i++) {
    free(world.names[i]);
    free(world.values[i]);
  }
  for (size_t i = 0; i < world.metric_count; i++) free(world.metrics[i].name);
  void *rest[] = {world.outputs, world.names, world.values, world.metrics, world.logged, world.refused, world.code, world.detail};
  for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) free(rest[i]);
  memset(&world, 0, sizeof world);
  world.now_ms = 1700000000000;
}

void keyrail_test_output(const char *name) {
  world.outputs = grown(world.outputs, world.output_count + 1, sizeof *world.outputs);
  world.outputs[world.output_count++] = text_copy(name);
}

void keyrail_test_config(const char *name, const char *value) {
  world.names = grown(world.names, world.config_count + 1, sizeof *world.names);
  world.values = grown(world.values, world.config_count + 1, sizeof *world.values);
  world.names[world.config_count] = text_copy(name);
  world.values[world.config_count++] = text_copy(value);
}

void keyrail_test_set_now_ms(int64_t now_ms) { world.now_ms = now_ms; }

const char *keyrail_test_open(void) {
  exports_keyrail_handler_guest_setup_t setup = {.handler = given_text("test"), .max_batch = 1};
  setup.topics = (contract_list_string_t){grown(NULL, 1, sizeof(contract_string_t)), 1};
  setup.topics.ptr[0] = given_text("in");
  if (world.config_count > 0) {
    setup.config.ptr = grown(NULL, world.config_count, sizeof *setup.config.ptr);
    setup.config.len = world.config_count;
  }
  for (size_t i = 0; i < world.config_count; i++) {
    setup.config.ptr[i].f0 = given_text(world.names[i]);
    setup.config.ptr[i].f1 = given_text(world.values[i]);
  }
  contract_string_t words = {NULL, 0};
  world.opened = exports_keyrail_handler_guest_open(&setup, &words);
  if (world.opened) return NULL;
  free(world.refused);
  world.refused = text_of(words.ptr, words.len);
  free(words.ptr);
  return world.refused;
}

static contract_option_list_u8_t given(keyrail_bytes bytes) {
  contract_option_list_u8_t out = {bytes.data != NULL, {NULL, bytes.size}};
  if (out.is_some && bytes.size > 0) out.val.ptr = copied(bytes.data, bytes.size).data;
  return out;
}

static void take_failure(keyrail_handler_types_failure_t failure) {
  world.code = text_of(failure.code.ptr, failure.code.len);
  world.detail = text_of(failure.detail.ptr, failure.detail.len);
  if (failure.code.len > 0) free(failure.code.ptr);
  if (failure.detail.len > 0) free(failure.detail.ptr);
}

static uint64_t seed(void) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char *c = world.id; *c != 0; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
  return hash ^ world.input.attempt * 0xd1342543de82ef95u;
}

static keyrail_run decided(const exports_keyrail_handler_guest_outcome_t *outcome) {
  keyrail_run run = {.fate = (keyrail_fate)outcome->tag};
  if (outcome->tag == KEYRAIL_HANDLER_TYPES_OUTCOME_RETRY) {
    take_failure(outcome->val.retry.failure);
    run.has_delay = outcome->val.retry.delay_ms.is_some;
    run.delay_ms = run.has_delay ? outcome->val.retry.delay_ms.val : 0;
    run.outage = outcome->val.retry.outage;
  } else if (outcome->tag == KEYRAIL_HANDLER_TYPES_OUTCOME_DEAD_LETTER) {
    take_failure(outcome->val.dead_letter);
  }
  return run;
}

keyrail_run keyrail_test_run(keyrail_input input) {
  if (!world.opened && keyrail_test_open() != NULL) {
    fprintf(stderr, "the handler refuses to open: %s\n", world.refused);
    abort();
  }
  drop_sent();
  drop_requests();
  free(world.code);
  free(world.detail);
  world.code = world.detail = NULL;
  if (input.attempt == 0) input.attempt = 1;
  world.input = input;
  snprintf(world.id, sizeof world.id, "in/0/%llu", (unsigned long long)world.offset);
  world.chance = seed();
  all_kept before = copy_of(&world.kept);
  exports_keyrail_handler_guest_list_message_t batch = {grown(NULL, 1, sizeof *batch.ptr), 1};
  batch.ptr[0] = (exports_keyrail_handler_guest_message_t){
      .offset = world.offset, .timestamp_ms = input.timestamp_ms, .attempt = input.attempt};
  batch.ptr[0].key = given(input.key);
  batch.ptr[0].value = given(input.value);
  if (input.timer != NULL) {
    batch.ptr[0].source.tag = KEYRAIL_HANDLER_TYPES_SOURCE_TIMER;
    batch.ptr[0].source.val.timer = given_text(input.timer);
  }
  exports_keyrail_handler_guest_list_outcome_t outcomes = {NULL, 0};
  exports_keyrail_handler_guest_process(&batch, &outcomes);
  keyrail_run run = decided(&outcomes.ptr[0]);
  free(outcomes.ptr);
  world.offset++;
  if (run.fate == KEYRAIL_RETRY || run.fate == KEYRAIL_DEAD_LETTER) {
    drop_all(&world.kept);
    world.kept = before;
    drop_sent();
  } else {
    drop_all(&before);
  }
  run.code = world.code == NULL ? "" : world.code;
  run.detail = world.detail == NULL ? "" : world.detail;
  run.sent = world.sent;
  run.sent_count = world.sent_count;
  run.requests = outside.made;
  run.request_count = outside.made_count;
  return run;
}

keyrail_run keyrail_test_say(const char *key, const char *value) {
  return keyrail_test_run((keyrail_input){.key = keyrail_text(key), .value = keyrail_text(value)});
}

static kept *find(bool is_timer, const void *key, size_t key_size, const void *name, size_t name_size) {
  for (size_t i = 0; i < world.kept.count; i++) {
    kept *entry = &world.kept.entries[i];
    bool ended = !is_timer && entry->at_ms <= world.now_ms;
    if (entry->is_timer == is_timer && !ended && same(entry->key, key, key_size) && same(entry->name, name, name_size))
      return entry;
  }
  return NULL;
}

keyrail_bytes keyrail_test_state(const char *key, const char *name) {
  kept *entry = find(false, key, strlen(key), name, strlen(name));
  return entry == NULL ? keyrail_null() : keyrail_data(entry->value.data, entry->value.size);
}

int64_t keyrail_test_timer(const char *key, const char *name) {
  kept *entry = find(true, key, strlen(key), name, strlen(name));
  return entry == NULL ? -1 : entry->at_ms;
}

double keyrail_test_metric(const char *name) {
  for (size_t i = 0; i < world.metric_count; i++)
    if (strcmp(world.metrics[i].name, name) == 0) return world.metrics[i].sum;
  return 0;
}

const char *keyrail_test_logged(void) { return world.logged == NULL ? "" : world.logged; }

/* ---- The contract's imports ----------------------------------------------------------------------------------------------- */

void keyrail_handler_context_id(uint32_t slot, contract_string_t *ret) {
  (void)slot;
  *ret = given_text(world.id);
}

void keyrail_handler_context_headers(uint32_t slot, keyrail_handler_context_list_header_t *ret) {
  (void)slot;
  ret->len = world.input.header_count;
  ret->ptr = ret->len > 0 ? grown(NULL, ret->len, sizeof *ret->ptr) : NULL;
  for (size_t i = 0; i < ret->len; i++) {
    ret->ptr[i].name = given_text(world.input.headers[i].name);
    ret->ptr[i].value = given(world.input.headers[i].value);
  }
}

bool keyrail_handler_context_header_value(uint32_t slot, contract_string_t *name, contract_list_u8_t *ret) {
  (void)slot;
  for (size_t i = world.input.header_count; i > 0; i--) {
    const keyrail_header *header = &world.input.headers[i - 1];
    if (strlen(header->name) == name->len && memcmp(header->name, name->ptr, name->len) == 0) {
      contract_option_list_u8_t value = given(header->value);
      *ret = value.val;
      return value.is_some;
    }
  }
  return false;
}

bool keyrail_handler_context_follows_dead_letter(uint32_t slot) {
  (void)slot;
  return world.input.follows_dead_letter;
}

int64_t keyrail_handler_context_now_ms(void) { return world.now_ms; }

int64_t keyrail_handler_context_deadline_ms(void) { return world.now_ms + 5000; }

uint64_t keyrail_handler_context_random(uint32_t slot) {
  (void)slot;
  uint64_t z = world.chance += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static keyrail_bytes kept_bytes(contract_option_list_u8_t bytes) {
  if (!bytes.is_some) return keyrail_null();
  return (keyrail_bytes){copied(bytes.val.ptr, bytes.val.len).data, bytes.val.len};
}

bool keyrail_handler_emit_send(uint32_t slot, keyrail_handler_emit_output_t *output, keyrail_handler_emit_error_t *err) {
  (void)slot;
  bool known = false;
  for (size_t i = 0; i < world.output_count; i++)
    known |= strlen(world.outputs[i]) == output->to.len && memcmp(world.outputs[i], output->to.ptr, output->to.len) == 0;
  err->tag = KEYRAIL_HANDLER_TYPES_ERROR_UNKNOWN_OUTPUT;
  if (!known) return false;
  keyrail_header *headers = grown(NULL, output->headers.len, sizeof *headers);
  for (size_t i = 0; i < output->headers.len; i++) {
    headers[i].name = text_of(output->headers.ptr[i].name.ptr, output->headers.ptr[i].name.len);
    headers[i].value = kept_bytes(output->headers.ptr[i].value);
  }
  world.sent = grown(world.sent, world.sent_count + 1, sizeof *world.sent);
  world.sent[world.sent_count++] = (keyrail_sent){
      .to = text_of(output->to.ptr, output->to.len),
      .key = kept_bytes(output->key),
      .value = kept_bytes(output->value),
      .headers = headers,
      .header_count = output->headers.len,
      .timestamp_ms = output->timestamp_ms.is_some ? output->timestamp_ms.val : world.input.timestamp_ms,
      .delay_ms = output->delay_ms.is_some ? output->delay_ms.val : 0,
  };
  return true;
}

/* Whether the message has a key that state and timers can be kept by, and the name is fit. */
static bool fits(const contract_string_t *name, keyrail_handler_types_error_t *err) {
  err->tag = world.input.key.data == NULL ? KEYRAIL_HANDLER_TYPES_ERROR_NO_KEY : KEYRAIL_HANDLER_TYPES_ERROR_TOO_LARGE;
  return world.input.key.data != NULL && world.input.key.size <= KEY_BYTES && name->len <= NAME_BYTES;
}

static void keep(bool is_timer, const contract_string_t *name, const contract_list_u8_t *value, int64_t at_ms) {
  keyrail_bytes key = world.input.key;
  kept *entry = find(is_timer, key.data, key.size, name->ptr, name->len);
  if (entry != NULL) {
    free(entry->value.data);
  } else {
    world.kept.entries = grown(world.kept.entries, world.kept.count + 1, sizeof *entry);
    entry = &world.kept.entries[world.kept.count++];
    *entry = (kept){.key = copied(key.data, key.size), .name = copied(name->ptr, name->len), .is_timer = is_timer};
  }
  entry->value = copied(value->ptr, value->len);
  entry->at_ms = at_ms;
}

static void forget(bool is_timer, const contract_string_t *name) {
  kept *entry = find(is_timer, world.input.key.data, world.input.key.size, name->ptr, name->len);
  if (entry == NULL) return;
  drop_entry(entry);
  *entry = world.kept.entries[--world.kept.count];
}

bool keyrail_handler_state_get(uint32_t slot, contract_string_t *name, contract_option_list_u8_t *ret,
                               keyrail_handler_state_error_t *err) {
  (void)slot;
  if (!fits(name, err)) return false;
  kept *entry = find(false, world.input.key.data, world.input.key.size, name->ptr, name->len);
  *ret = given(entry == NULL ? keyrail_null() : keyrail_data(entry->value.data, entry->value.size));
  return true;
}

bool keyrail_handler_state_put(uint32_t slot, contract_string_t *name, contract_list_u8_t *value, uint64_t *maybe_ttl_ms,
                               keyrail_handler_state_error_t *err) {
  (void)slot;
  if (!fits(name, err) || value->len > VALUE_BYTES) return false;
  bool ends = maybe_ttl_ms != NULL && *maybe_ttl_ms < (uint64_t)(INT64_MAX - world.now_ms);
  keep(false, name, value, ends ? world.now_ms + (int64_t)*maybe_ttl_ms : INT64_MAX);
  return true;
}

bool keyrail_handler_state_delete(uint32_t slot, contract_string_t *name, keyrail_handler_state_error_t *err) {
  (void)slot;
  if (!fits(name, err)) return false;
  forget(false, name);
  return true;
}

static int by_name(const void *a, const void *b) {
  const contract_tuple2_string_list_u8_t *x = a, *y = b;
  size_t least = x->f0.len < y->f0.len ? x->f0.len : y->f0.len;
  int order = least > 0 ? memcmp(x->f0.ptr, y->f0.ptr, least) : 0;
  return order != 0 ? order : (x->f0.len > y->f0.len) - (x->f0.len < y->f0.len);
}

bool keyrail_handler_state_scan(uint32_t slot, contract_string_t *prefix, contract_string_t *maybe_after, uint32_t limit,
                                contract_list_tuple2_string_list_u8_t *ret, keyrail_handler_state_error_t *err) {
  (void)slot;
  if (!fits(prefix, err)) return false;
  contract_tuple2_string_list_u8_t *all = grown(NULL, world.kept.count, sizeof *all);
  size_t count = 0;
  for (size_t i = 0; i < world.kept.count; i++) {
    const kept *entry = &world.kept.entries[i];
    contract_tuple2_string_list_u8_t row = {{entry->name.data, entry->name.size}, {entry->value.data, entry->value.size}};
    contract_tuple2_string_list_u8_t after = {maybe_after == NULL ? row.f0 : *maybe_after, {NULL, 0}};
    bool here = !entry->is_timer && entry->at_ms > world.now_ms && same(entry->key, world.input.key.data, world.input.key.size);
    bool begins = entry->name.size >= prefix->len && memcmp(entry->name.data, prefix->ptr, prefix->len) == 0;
    if (here && begins && (maybe_after == NULL || by_name(&row, &after) > 0)) all[count++] = row;
  }
  if (count > 0) qsort(all, count, sizeof *all, by_name);
  uint32_t most = limit < SCAN_NAMES ? limit : SCAN_NAMES;
  ret->len = count < most ? count : most;
  ret->ptr = ret->len > 0 ? grown(NULL, ret->len, sizeof *ret->ptr) : NULL;
  for (size_t i = 0; i < ret->len; i++) {
    ret->ptr[i].f0 = (contract_string_t){copied(all[i].f0.ptr, all[i].f0.len).data, all[i].f0.len};
    if (all[i].f0.len == 0) free(ret->ptr[i].f0.ptr);
    ret->ptr[i].f1 = given(keyrail_data(all[i].f1.ptr, all[i].f1.len)).val;
  }
  free(all);
  return true;
}

bool keyrail_handler_timers_set(uint32_t slot, contract_string_t *name, int64_t at_ms, contract_list_u8_t *payload,
                                keyrail_handler_timers_error_t *err) {
  (void)slot;
  if (!fits(name, err) || payload->len > VALUE_BYTES) return false;
  keep(true, name, payload, at_ms);
  return true;
}

bool keyrail_handler_timers_cancel(uint32_t slot, contract_string_t *name, keyrail_handler_timers_error_t *err) {
  (void)slot;
  if (!fits(name, err)) return false;
  forget(true, name);
  return true;
}

keyrail_handler_log_level_t keyrail_handler_log_threshold(void) { return KEYRAIL_HANDLER_LOG_LEVEL_INFO; }

void keyrail_handler_log_write(keyrail_handler_log_level_t level, contract_string_t *message,
                               contract_list_tuple2_string_string_t *fields) {
  (void)level;
  (void)fields;
  free(world.logged);
  world.logged = text_of(message->ptr, message->len);
}

uint32_t keyrail_handler_metrics_register(contract_string_t *name, keyrail_handler_metrics_kind_t kind,
                                          contract_list_tuple2_string_string_t *labels) {
  (void)kind;
  (void)labels;
  for (size_t i = 0; i < world.metric_count; i++)
    if (strlen(world.metrics[i].name) == name->len && memcmp(world.metrics[i].name, name->ptr, name->len) == 0)
      return (uint32_t)i;
  world.metrics = grown(world.metrics, world.metric_count + 1, sizeof *world.metrics);
  world.metrics[world.metric_count] = (metric){text_of(name->ptr, name->len), 0};
  return (uint32_t)world.metric_count++;
}

void keyrail_handler_metrics_observe(uint32_t metric, double value) {
  if (metric < world.metric_count) world.metrics[metric].sum += value;
}
