/* The conformance handler by the SDK for C: see README.md beside this folder. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyrail.h"

/* So many headers are described. */
#define DESCRIBED 3
#define TRY(call) KEYRAIL_TRY(ctx, call)

/* What a command says, in memory that is used again. */
static struct {
  char *text;
  size_t size, room;
} said;

static void add_bytes(const void *bytes, size_t size) {
  if (said.room - said.size <= size) {
    said.room = (said.size + size + 1) * 2;
    said.text = realloc(said.text, said.room);
    if (said.text == NULL) abort();
  }
  if (size > 0) memcpy(said.text + said.size, bytes, size);
  said.size += size;
  said.text[said.size] = 0;
}

static void add(const char *text) { add_bytes(text, strlen(text)); }

static void add_value(keyrail_bytes value) { value.data == NULL ? add("null") : add_bytes(value.data, value.size); }

static void add_number(const char *before, uint64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, number);
  add(before);
  add(text);
}

static void add_signed(const char *before, int64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, number);
  add(before);
  add(text);
}

static void add_hash(const char *before, keyrail_bytes bytes) {
  add(before);
  if (bytes.data == NULL) {
    add(" null");
    return;
  }
  uint32_t hash = 2166136261;
  for (size_t i = 0; i < bytes.size; i++) hash = (hash ^ bytes.data[i]) * 16777619;
  char hex[9];
  snprintf(hex, sizeof hex, "%08" PRIx32, hash);
  add_number(" ", bytes.size);
  add(" ");
  add(hex);
}

/* Begins anew. */
static void say(const char *verb, const char *name) {
  said.size = 0;
  add(verb);
  if (name[0] != 0) add(" ");
  add(name);
}

static keyrail_error send_said(keyrail_context *ctx) { return keyrail_send(ctx, "out", keyrail_data(said.text, said.size)); }

/* Ends the first word of a text with a zero, and returns what follows its space. */
static char *cut(char *text) {
  char *space = strchr(text, ' ');
  if (space == NULL) return text + strlen(text);
  *space = 0;
  return space + 1;
}

static bool is(const char *verb, const char *name) { return strcmp(verb, name) == 0; }

static keyrail_outcome describe(keyrail_context *ctx, const keyrail_message *message) {
  const keyrail_header *headers;
  size_t count = keyrail_headers(ctx, &headers);
  say(message->timer == NULL ? "from topic" : "from timer", message->timer == NULL ? message->topic : message->timer);
  add_number("\nat ", message->partition);
  add_number("/", message->offset);
  add_signed(" ", message->timestamp_ms);
  add_number("\nattempt ", message->attempt);
  add("\nid ");
  add(keyrail_id(ctx));
  add(keyrail_follows_dead_letter(ctx) ? "\nfollows yes" : "\nfollows no");
  add_hash("\nkey", message->key);
  add_hash("\nvalue", message->value);
  add_number("\nheaders ", count);
  for (size_t i = 0; i < count && i < DESCRIBED; i++) {
    add("\nheader ");
    add_hash(headers[i].name, headers[i].value);
  }
  TRY(send_said(ctx));
  return keyrail_done();
}

static keyrail_outcome caught(keyrail_context *ctx, const char *to) {
  static const char *const codes[] = {"nothing", "no-key", "unknown-output", "too-large", "over-quota", "other"};
  say("caught", codes[keyrail_send(ctx, to, keyrail_text("x"))]);
  TRY(send_said(ctx));
  return keyrail_done();
}

static keyrail_outcome record(keyrail_context *ctx) {
  const keyrail_header headers[] = {{"a", keyrail_text("1")}, {"b", keyrail_null()}, {"a", keyrail_text("2")}};
  const keyrail_bytes key = keyrail_text("k2");
  const int64_t at_ms = 1234567890123;
  const keyrail_record record = {.to = "out", .value = keyrail_text("v2"), .key = &key, .headers = headers, .header_count = 3,
                                 .forward_headers = true, .timestamp_ms = &at_ms};
  TRY(keyrail_send_record(ctx, &record));
  return keyrail_done();
}

static keyrail_outcome scan(keyrail_context *ctx, const char *prefix, char *limit) {
  const char *after = cut(limit);
  const keyrail_entry *entries;
  size_t count;
  uint32_t most = (uint32_t)strtoul(limit, NULL, 10);
  TRY(keyrail_state_scan(ctx, is(prefix, "-") ? "" : prefix, after[0] == 0 ? NULL : after, most, &entries, &count));
  say("scan", "");
  add(" ");
  for (size_t i = 0; i < count; i++) {
    add(i > 0 ? "," : "");
    add(entries[i].name);
    add("=");
    add_value(entries[i].value);
  }
  TRY(send_said(ctx));
  return keyrail_done();
}

/* Sends: what is not told by its own name above. */
static keyrail_outcome sends(keyrail_context *ctx, const char *verb, char *rest) {
  if (is(verb, "caught")) return caught(ctx, rest);
  if (is(verb, "record")) return record(ctx);
  if (is(verb, "send")) {
    const char *text = cut(rest);
    TRY(keyrail_send(ctx, rest, keyrail_text(text)));
  } else if (is(verb, "tombstone")) {
    TRY(keyrail_send(ctx, "out", keyrail_null()));
  } else if (is(verb, "keyless")) {
    const keyrail_bytes none = keyrail_null();
    const keyrail_record record = {.to = "out", .value = keyrail_text(""), .key = &none};
    TRY(keyrail_send_record(ctx, &record));
  } else {
    const char *text = cut(rest);
    const keyrail_record record = {.to = "out", .value = keyrail_text(text), .delay_ms = strtoull(rest, NULL, 10)};
    TRY(keyrail_send_record(ctx, &record));
  }
  return keyrail_done();
}

static keyrail_outcome keeps(keyrail_context *ctx, const char *verb, char *rest) {
  char *text = cut(rest);
  if (is(verb, "scan")) return scan(ctx, rest, text);
  if (is(verb, "put")) {
    TRY(keyrail_state_put(ctx, rest, keyrail_text(text)));
  } else if (is(verb, "put-for")) {
    const char *value = cut(text);
    TRY(keyrail_state_put_for(ctx, text, keyrail_text(value), strtoull(rest, NULL, 10)));
  } else if (is(verb, "delete")) {
    TRY(keyrail_state_delete(ctx, rest));
  } else if (is(verb, "get")) {
    keyrail_bytes value;
    TRY(keyrail_state_get(ctx, rest, &value));
    say("get", rest);
    add(" ");
    add_value(value);
    TRY(send_said(ctx));
  } else if (is(verb, "timer")) {
    const char *payload = cut(text);
    TRY(keyrail_timer_set_after(ctx, rest, strtoull(text, NULL, 10), keyrail_text(payload)));
  } else {
    TRY(keyrail_timer_cancel(ctx, rest));
  }
  return keyrail_done();
}

static keyrail_outcome tells(keyrail_context *ctx, const char *verb, const char *rest) {
  say(verb, rest);
  if (is(verb, "now")) {
    add_signed(" ", keyrail_now_ms());
  } else if (is(verb, "deadline")) {
    add_signed(" ", keyrail_deadline_ms() - keyrail_now_ms());
  } else if (is(verb, "random")) {
    for (int i = 0; i < 2; i++) add_number(" ", keyrail_random(ctx));
  } else {
    add(" ");
    add_value(is(verb, "header") ? keyrail_header_value(ctx, rest) : keyrail_text(keyrail_config(rest)));
  }
  TRY(send_said(ctx));
  return keyrail_done();
}

/* `METHOD URL [TEXT]`. */
static keyrail_request request_of(char *line) {
  char *url = cut(line), *text = cut(url);
  return (keyrail_request){
      .method = is(line, "-") ? NULL : line, .url = url, .body = text[0] == 0 ? keyrail_null() : keyrail_text(text)};
}

/* What came of requests, a line each. */
static keyrail_outcome answers(keyrail_context *ctx, const keyrail_response *all, size_t count) {
  static const char *const codes[] = {"denied", "invalid", "timeout", "unreachable", "too-large"};
  said.size = 0;
  add("");
  for (size_t i = 0; i < count; i++) {
    add(i > 0 ? "\n" : "");
    if (all[i].error == KEYRAIL_OK) {
      add_number("", all[i].status);
      add(" ");
      add_value(all[i].body);
    } else {
      add("error ");
      add(codes[all[i].error - KEYRAIL_HTTP_DENIED]);
    }
  }
  TRY(send_said(ctx));
  return keyrail_done();
}

/* The requests that `ask` named: what they point to is the message's. */
static struct {
  keyrail_request *requests;
  size_t count;
} asked;

static void *grown(const void *old, size_t count, size_t size) {
  void *all = realloc((void *)(uintptr_t)old, count * size + 1);
  if (all == NULL) abort();
  return all;
}

static void forget_asked(void) {
  for (size_t i = 0; i < asked.count; i++) free((void *)(uintptr_t)asked.requests[i].headers);
  asked.count = 0;
}

static keyrail_outcome asks(keyrail_context *ctx, const char *verb, char *rest) {
  keyrail_request *last = asked.count > 0 ? &asked.requests[asked.count - 1] : NULL;
  if (is(verb, "ask")) {
    asked.requests = grown(asked.requests, asked.count + 1, sizeof *last);
    asked.requests[asked.count++] = request_of(rest);
  } else if (is(verb, "ask-header") && last != NULL) {
    const char *text = cut(rest);
    keyrail_header *headers = grown(last->headers, last->header_count + 1, sizeof *headers);
    headers[last->header_count++] = (keyrail_header){rest, keyrail_text(text)};
    last->headers = headers;
  } else if (is(verb, "ask-timeout") && last != NULL) {
    last->timeout_ms = strtoull(rest, NULL, 10);
  } else if (is(verb, "fetch")) {
    keyrail_response *all = grown(NULL, asked.count, sizeof *all);
    keyrail_fetch_all(ctx, asked.requests, asked.count, all);
    keyrail_outcome outcome = answers(ctx, all, asked.count);
    free(all);
    forget_asked();
    return outcome;
  } else if (is(verb, "ok")) {
    keyrail_request request = request_of(rest);
    keyrail_response response;
    TRY(keyrail_fetch(ctx, &request, &response));
    KEYRAIL_TRY_OK(ctx, &response);
    return answers(ctx, &response, 1);
  } else if (is(verb, "answers")) {
    const keyrail_response *all;
    size_t count = keyrail_answers(ctx, &all);
    return answers(ctx, all, count);
  }
  return keyrail_done();
}

/* A code is to outlive the call, and here it comes from the message. */
static const char *lasting(const char *code) {
  static char last[256];
  snprintf(last, sizeof last, "%s", code);
  return last;
}

/* What ends a message otherwise than well. */
static keyrail_outcome ends(const keyrail_message *message, const char *verb, char *rest) {
  if (is(verb, "raise")) return keyrail_retry("error", "%s", rest);
  char *text = cut(rest);
  if (is(verb, "until")) {
    if (message->attempt > strtoul(rest, NULL, 10)) return keyrail_done();
    return keyrail_retry(lasting(text), "attempt %" PRIu32, message->attempt);
  }
  if (is(verb, "after")) {
    const char *why = cut(text);
    return keyrail_after(keyrail_retry(lasting(text), "%s", why), strtoull(rest, NULL, 10));
  }
  if (is(verb, "retry")) return keyrail_retry(lasting(rest), "%s", text);
  if (is(verb, "outage")) return keyrail_outage(keyrail_retry(lasting(rest), "%s", text));
  return keyrail_dead_letter(lasting(rest), "%s", text);
}

static keyrail_outcome logs(keyrail_context *ctx, char *rest) {
  static const char *const levels[] = {"trace", "debug", "info", "warn", "error", "critical"};
  const char *text = cut(rest);
  for (int level = KEYRAIL_TRACE; level <= KEYRAIL_CRITICAL; level++) {
    if (!is(rest, levels[level])) continue;
    keyrail_log(ctx, (keyrail_level)level, "%s", text);
    return keyrail_done();
  }
  return keyrail_dead_letter("level", "%s", rest);
}

static bool among(const char *verb, const char *const *all) {
  for (; *all != NULL; all++)
    if (is(verb, *all)) return true;
  return false;
}

static keyrail_outcome run(keyrail_context *ctx, const keyrail_message *message, char *line) {
  static const char *const sending[] = {"send", "caught", "record", "tombstone", "keyless", "later", NULL};
  static const char *const keeping[] = {"put", "put-for", "delete", "get", "scan", "timer", "cancel", NULL};
  static const char *const telling[] = {"header", "now", "deadline", "random", "config", NULL};
  static const char *const asking[] = {"ask", "ask-header", "ask-timeout", "fetch", "ok", "answers", NULL};
  static const char *const ending[] = {"until", "retry", "after", "outage", "dead", "raise", NULL};
  char *rest = cut(line);
  if (among(line, sending)) return sends(ctx, line, rest);
  if (among(line, keeping)) return keeps(ctx, line, rest);
  if (among(line, telling)) return tells(ctx, line, rest);
  if (among(line, asking)) return asks(ctx, line, rest);
  if (among(line, ending)) return ends(message, line, rest);
  if (is(line, "describe")) return describe(ctx, message);
  if (is(line, "log")) return logs(ctx, rest);
  if (is(line, "skip")) return keyrail_skip();
  if (is(line, "count")) {
    keyrail_observe(keyrail_counter(rest), 1);
    return keyrail_done();
  }
  return keyrail_dead_letter("unknown-command", "%s%s%s", line, rest[0] == 0 ? "" : " ", rest);
}

/* Runs each line of a script; its lines are parted in a copy. */
static keyrail_outcome each_line(keyrail_context *ctx, const keyrail_message *message, keyrail_bytes script,
                                 keyrail_outcome (*run_line)(keyrail_context *, const keyrail_message *, char *)) {
  char *lines = grown(NULL, script.size, 1);
  memcpy(lines, script.data, script.size);
  lines[script.size] = 0;
  keyrail_outcome outcome = keyrail_done();
  for (char *line = lines, *next; line != NULL && outcome.fate == KEYRAIL_DONE; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) *next++ = 0;
    if (line[0] != 0) outcome = run_line(ctx, message, line);
  }
  forget_asked();
  free(lines);
  return outcome;
}

static keyrail_outcome prepare_line(keyrail_context *ctx, const keyrail_message *message, char *line) {
  if (strncmp(line, "dead ", 5) == 0) {
    char *verb = line, *rest = cut(line);
    return ends(message, verb, rest);
  }
  const keyrail_request request = request_of(line);
  keyrail_ask(ctx, &request);
  return keyrail_done();
}

keyrail_outcome keyrail_prepare(keyrail_context *ctx, const keyrail_message *message) {
  keyrail_bytes script = keyrail_header_value(ctx, "ask");
  return script.data == NULL ? keyrail_done() : each_line(ctx, message, script, prepare_line);
}

keyrail_outcome keyrail_handle(keyrail_context *ctx, const keyrail_message *message) {
  keyrail_bytes script = keyrail_header_value(ctx, "do");
  return script.data == NULL ? describe(ctx, message) : each_line(ctx, message, script, run);
}

const char *keyrail_open(void) { return keyrail_config("refuse"); }
