/* Keyrail handlers in C.
 *
 * A handler is a function from a message to what becomes of it, keyrail_handle. README.md says how to build it; keyrail_test.h
 * runs it without a host.
 *
 * Memory: what a call hands out (names, values, ids) belongs to the SDK and stays until keyrail_handle returns; copy what is to
 * stay longer. What a call is given is only read. Nothing here is to be freed. */
#ifndef KEYRAIL_H
#define KEYRAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KEYRAIL_FORMAT(at, args) __attribute__((format(printf, at, args)))
#else
#define KEYRAIL_FORMAT(at, args)
#endif

/* Bytes, or Kafka's null: that has no data. An empty value has data, and size 0. */
typedef struct keyrail_bytes {
  const uint8_t *data;
  size_t size;
} keyrail_bytes;

/* Kafka's null: as a value, a tombstone. */
keyrail_bytes keyrail_null(void);
/* The text without its terminating zero; NULL is Kafka's null. */
keyrail_bytes keyrail_text(const char *text);
keyrail_bytes keyrail_data(const void *data, size_t size);
/* Whether it is this text, to the letter. Kafka's null is none. */
bool keyrail_is_text(keyrail_bytes bytes, const char *text);
bool keyrail_starts_with(keyrail_bytes bytes, const char *text);

/* One delivery. */
typedef struct keyrail_message {
  /* The input topic; NULL for a timer. */
  const char *topic;
  /* A timer's name; NULL for a record. */
  const char *timer;
  /* Where the record was first read; a timer's are those of the message that set it. */
  uint32_t partition;
  uint64_t offset;
  /* Milliseconds since the Unix epoch; a timer's is the time it was set for. */
  int64_t timestamp_ms;
  keyrail_bytes key;
  /* A timer's payload is its value. */
  keyrail_bytes value;
  /* 1 on the first run. */
  uint32_t attempt;
} keyrail_message;

/* One message's side of the host. What is staged through it (sends, state, timers) takes effect only if the message is done or
 * skipped, together with the commit of its offset. The handler's own memory is not undone. */
typedef struct keyrail_context keyrail_context;

/* ---- What becomes of a message ------------------------------------------------------------------------------------------- */

typedef enum keyrail_fate { KEYRAIL_DONE, KEYRAIL_SKIP, KEYRAIL_RETRY, KEYRAIL_DEAD_LETTER } keyrail_fate;

/* Made by the functions below, and returned once. */
typedef struct keyrail_outcome {
  keyrail_fate fate;
  const char *code;
  char *detail;
  bool has_delay;
  uint64_t delay_ms;
  bool outage;
} keyrail_outcome;

/* Settled. */
keyrail_outcome keyrail_done(void);
/* Settled, and counted apart: filtered out on purpose. */
keyrail_outcome keyrail_skip(void);
/* Runs again by the manifest's retry policy, its key's later messages behind it. A code is short and stable, and outlives the
 * call (a literal): it becomes a header, a metric's label and a group in lists. */
keyrail_outcome keyrail_retry(const char *code, const char *format, ...) KEYRAIL_FORMAT(2, 3);
/* Goes to the dead letters. */
keyrail_outcome keyrail_dead_letter(const char *code, const char *format, ...) KEYRAIL_FORMAT(2, 3);
/* The retry not before this long. */
keyrail_outcome keyrail_after(keyrail_outcome retry, uint64_t delay_ms);
/* The retry at no attempt's cost: its cause lies outside the message, such as a service that is down. */
keyrail_outcome keyrail_outage(keyrail_outcome retry);

/* Why a call failed. */
typedef enum keyrail_error {
  KEYRAIL_OK = 0,
  /* The message has no order key. */
  KEYRAIL_NO_KEY,
  /* The manifest has no output of that name. */
  KEYRAIL_UNKNOWN_OUTPUT,
  /* A name, a key, a value or a page of a scan. */
  KEYRAIL_TOO_LARGE,
  /* The manifest's limits for one message. */
  KEYRAIL_OVER_QUOTA,
  /* In the host's words: keyrail_words. */
  KEYRAIL_OTHER,
  /* Of HTTP: the manifest does not grant it; nothing was sent. */
  KEYRAIL_HTTP_DENIED,
  /* No such request can be sent; nothing was. */
  KEYRAIL_HTTP_INVALID,
  /* No answer in time: it may have been done all the same. */
  KEYRAIL_HTTP_TIMEOUT,
  /* No connection, or one that broke: it may have been done all the same. */
  KEYRAIL_HTTP_UNREACHABLE,
  /* The answer's body is larger than limits.response-bytes of the manifest. */
  KEYRAIL_HTTP_TOO_LARGE
} keyrail_error;

/* What a failed call makes of the message: what is refused alike each time becomes a dead letter, all else is retried. Of HTTP the codes
 * are http-denied, http-invalid and http-too-large, and http-timeout and http-unreachable. */
keyrail_outcome keyrail_failed(const keyrail_context *context, keyrail_error error);
/* The words of the last failed call. */
const char *keyrail_words(const keyrail_context *context);
/* Returns from keyrail_handle if the call fails. */
#define KEYRAIL_TRY(context, call)                                                    \
  do {                                                                                \
    keyrail_error keyrail_tried = (call);                                             \
    if (keyrail_tried != KEYRAIL_OK) return keyrail_failed((context), keyrail_tried); \
  } while (0)

/* ---- What the handler implements ------------------------------------------------------------------------------------------ */

/* Once for each message. One key's messages come in order. */
keyrail_outcome keyrail_handle(keyrail_context *context, const keyrail_message *message);

/* Once, before the first message; may be left out. NULL: ready. Words refuse this version of the handler. What the
 * configuration says stays until the process ends. */
const char *keyrail_open(void);

/* The value of the manifest's [config] under this name, or NULL. */
const char *keyrail_config(const char *name);
/* The pipeline's name. */
const char *keyrail_handler(void);

/* ---- Sends ---------------------------------------------------------------------------------------------------------------- */

typedef struct keyrail_header {
  const char *name;
  keyrail_bytes value;
} keyrail_header;

/* A record to send. Zeroed, it has the message's key and timestamp, and no headers but traceparent and tracestate. */
typedef struct keyrail_record {
  /* An output's name in the manifest. */
  const char *to;
  keyrail_bytes value;
  /* NULL: the message's own key. */
  const keyrail_bytes *key;
  const keyrail_header *headers;
  size_t header_count;
  /* Also copies the message's own headers. */
  bool forward_headers;
  /* NULL: the message's own, in milliseconds since the Unix epoch. */
  const int64_t *timestamp_ms;
  /* Not before this long after the message is settled; 0: at once. See limits.delay of the manifest. */
  uint64_t delay_ms;
} keyrail_record;

/* Sends a record with the message's own key when the message is settled. */
keyrail_error keyrail_send(keyrail_context *context, const char *to, keyrail_bytes value);
keyrail_error keyrail_send_record(keyrail_context *context, const keyrail_record *record);

/* ---- State of the message's order key ------------------------------------------------------------------------------------- */

typedef struct keyrail_entry {
  const char *name;
  keyrail_bytes value;
} keyrail_entry;

/* Kafka's null if there is nothing of that name. */
keyrail_error keyrail_state_get(keyrail_context *context, const char *name, keyrail_bytes *value);
keyrail_error keyrail_state_put(keyrail_context *context, const char *name, keyrail_bytes value);
/* The value goes away after this long. */
keyrail_error keyrail_state_put_for(keyrail_context *context, const char *name, keyrail_bytes value, uint64_t ttl_ms);
/* No error if there is none. */
keyrail_error keyrail_state_delete(keyrail_context *context, const char *name);
/* At most limit names that begin with prefix, in byte order, those after `after` (NULL: from the first). */
keyrail_error keyrail_state_scan(keyrail_context *context, const char *prefix, const char *after, uint32_t limit,
                                 const keyrail_entry **entries, size_t *count);

/* ---- Timers: a message to the same key, later, in that key's order -------------------------------------------------------- */

/* At a time in milliseconds since the Unix epoch; replaces one of the same key and name. */
keyrail_error keyrail_timer_set(keyrail_context *context, const char *name, int64_t at_ms, keyrail_bytes payload);
keyrail_error keyrail_timer_set_after(keyrail_context *context, const char *name, uint64_t wait_ms, keyrail_bytes payload);
/* No error if there is none. */
keyrail_error keyrail_timer_cancel(keyrail_context *context, const char *name);

/* ---- HTTP: requests to the hosts that the manifest grants under capabilities.http ----------------------------------------- */

/* A request. Zeroed but for its url, it is a GET. */
typedef struct keyrail_request {
  /* NULL: GET, or POST if there is a body. */
  const char *method;
  /* The whole of it: https://HOST/PATH. */
  const char *url;
  /* Names in any case. The host adds idempotency-key, the same when the message runs again, and traceparent and tracestate
   * unless they are here. */
  const keyrail_header *headers;
  size_t header_count;
  /* Without data: none. */
  keyrail_bytes body;
  /* Until the answer's last byte has come; 0, and at most: limits.timeout of the manifest. */
  uint64_t timeout_ms;
} keyrail_request;

/* What came of a request. */
typedef struct keyrail_response {
  /* KEYRAIL_OK: it was answered, whatever the status. */
  keyrail_error error;
  /* Why it was not answered; else "". */
  const char *words;
  /* As in HTTP: 200. */
  uint16_t status;
  /* Names in lower case. */
  const keyrail_header *headers;
  size_t header_count;
  keyrail_bytes body;
  /* METHOD URL of the request, without what follows ? or #: for people. */
  const char *asked;
} keyrail_response;

/* Makes a request, and waits for its answer. Any status is one; redirects are not followed. It is no part of the message's commit: a
 * message that runs again asks again. */
keyrail_error keyrail_fetch(keyrail_context *context, const keyrail_request *request, keyrail_response *response);
/* Makes all of them at the same time, and waits for the last: an answer for each, in their order, or its error. */
void keyrail_fetch_all(keyrail_context *context, const keyrail_request *requests, size_t count, keyrail_response *responses);
/* The value of the answer's last header of that name, in any case; Kafka's null if there is none. */
keyrail_bytes keyrail_response_header(const keyrail_response *response, const char *name);
/* Whether it was answered with a status from 200 to 299. */
bool keyrail_is_ok(const keyrail_response *response);
/* What becomes of the message if not. The status 408, 425, 429 or 5xx: a retry, of 429 and 503 after the seconds of `retry-after`, at
 * most an hour; any other: a dead letter; both with the code http-STATUS. An error: see keyrail_failed. */
keyrail_outcome keyrail_not_ok(keyrail_context *context, const keyrail_response *response);
/* Returns from keyrail_handle by it. */
#define KEYRAIL_TRY_OK(context, response)                                                     \
  do {                                                                                        \
    const keyrail_response *keyrail_tried = (response);                                       \
    if (!keyrail_is_ok(keyrail_tried)) return keyrail_not_ok((context), keyrail_tried);       \
  } while (0)

/* May be left out: the first of two steps. It runs for all messages of a call before keyrail_handle does for the first of them, and says by
 * keyrail_ask which requests a message needs; those of all messages are made at the same time. keyrail_done(): the message goes on to
 * keyrail_handle. Anything else is what becomes of it: its requests are not made, and what it staged is undone.
 * Where the manifest grants hosts a call has one message of a key at most, so that a service sees one key's requests in order. */
keyrail_outcome keyrail_prepare(keyrail_context *context, const keyrail_message *message);
/* In keyrail_prepare: one more request of this message. It is copied. */
void keyrail_ask(keyrail_context *context, const keyrail_request *request);
/* In keyrail_handle: what came of them, in their order. */
size_t keyrail_answers(keyrail_context *context, const keyrail_response **answers);

/* ---- What else is known --------------------------------------------------------------------------------------------------- */

/* The same over retries, parking, redrive and replay: the idempotency key for effects outside Keyrail. */
const char *keyrail_id(keyrail_context *context);
/* The value of the last header of that name; Kafka's null if there is none. */
keyrail_bytes keyrail_header_value(keyrail_context *context, const char *name);
/* All headers, in order. */
size_t keyrail_headers(keyrail_context *context, const keyrail_header **headers);
/* Whether an earlier message of this key was dead-lettered or discarded. */
bool keyrail_follows_dead_letter(keyrail_context *context);
/* Milliseconds since the Unix epoch, fixed within a call. The library's clock says the same. */
int64_t keyrail_now_ms(void);
/* The next number of a sequence seeded by the message's id and attempt, so that a run can be repeated. */
uint64_t keyrail_random(keyrail_context *context);
/* When the host will stop this call. */
int64_t keyrail_deadline_ms(void);

/* ---- Log and metrics ------------------------------------------------------------------------------------------------------ */

typedef enum keyrail_level {
  KEYRAIL_TRACE,
  KEYRAIL_DEBUG,
  KEYRAIL_INFO,
  KEYRAIL_WARN,
  KEYRAIL_ERROR,
  KEYRAIL_CRITICAL
} keyrail_level;

/* A line of the log, with the message's partition and offset. context may be NULL, as in keyrail_open. What is written to
 * stdout and stderr becomes lines, too, without them. */
void keyrail_log(const keyrail_context *context, keyrail_level level, const char *format, ...) KEYRAIL_FORMAT(3, 4);

/* A handle to a metric of this name: letters, digits and _. It is for keyrail_observe. */
uint32_t keyrail_counter(const char *name);
uint32_t keyrail_gauge(const char *name);
uint32_t keyrail_histogram(const char *name);
/* Not undone if the message fails. */
void keyrail_observe(uint32_t metric, double value);

#ifdef __cplusplus
}
#endif
#endif
