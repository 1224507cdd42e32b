/* A host in memory, to test a handler on one's own machine: link the handler with src/keyrail.c and src/testing.c.
 *
 * It keeps state, timers, sends and a clock that only the test moves, holds the limits of state, and undoes what a failed message
 * staged. It repeats nothing by a policy: each call runs what it is given, once. What it hands out stays until the next run. */
#ifndef KEYRAIL_TEST_H
#define KEYRAIL_TEST_H

#include "keyrail.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A message to run. Zeroed, it is the next of partition 0 of the topic `in`, without key and value, on its first run. */
typedef struct keyrail_input {
  keyrail_bytes key;
  keyrail_bytes value;
  /* It is this timer instead of a record. */
  const char *timer;
  int64_t timestamp_ms;
  uint32_t attempt;
  const keyrail_header *headers;
  size_t header_count;
  bool follows_dead_letter;
} keyrail_input;

/* What was sent. */
typedef struct keyrail_sent {
  const char *to;
  keyrail_bytes key;
  keyrail_bytes value;
  const keyrail_header *headers;
  size_t header_count;
  int64_t timestamp_ms;
  uint64_t delay_ms;
} keyrail_sent;

/* A request that was made. */
typedef struct keyrail_requested {
  const char *method;
  const char *url;
  /* With the host's idempotency-key. */
  const keyrail_header *headers;
  size_t header_count;
  /* Without data: none. */
  keyrail_bytes body;
  /* 0: none was set. */
  uint64_t timeout_ms;
  /* In which call of the host, from 0: requests of one call are made at the same time. */
  uint32_t call;
  /* Of the message in its batch. */
  uint32_t slot;
} keyrail_requested;

/* What became of a message. */
typedef struct keyrail_run {
  keyrail_fate fate;
  /* "" where it was settled. */
  const char *code;
  const char *detail;
  bool has_delay;
  uint64_t delay_ms;
  bool outage;
  /* Nothing, if the message failed. */
  const keyrail_sent *sent;
  size_t sent_count;
  /* In order; also if the message failed, since nobody takes them back. */
  const keyrail_requested *requests;
  size_t request_count;
} keyrail_run;

/* A new host, with outputs and configuration of none; its clock stands at 1,700,000,000,000 ms. */
void keyrail_test_begin(void);
void keyrail_test_output(const char *name);
void keyrail_test_config(const char *name, const char *value);
/* Answers requests of this method to this URL, both to the letter: with an error, or with status, headers and body. A later answer takes
 * an earlier one's place. A request without an answer is denied. */
void keyrail_test_answer(const char *method, const char *url, keyrail_response answer);
/* Answers all requests that no such answer is given to; NULL: none. */
void keyrail_test_answer_all(keyrail_response (*server)(const keyrail_requested *request));
/* Opens the handler; NULL, or why it refuses. Running a message does it if need be. */
const char *keyrail_test_open(void);
keyrail_run keyrail_test_run(keyrail_input input);
/* The same with a key and a value in text. */
keyrail_run keyrail_test_say(const char *key, const char *value);
/* What a key keeps under a name; Kafka's null if nothing. */
keyrail_bytes keyrail_test_state(const char *key, const char *name);
/* When a key's timer is due, in milliseconds since the Unix epoch; -1 if there is none. */
int64_t keyrail_test_timer(const char *key, const char *name);
/* The sum of what was observed under a metric's name. */
double keyrail_test_metric(const char *name);
/* The last line of the log; "" if there is none. */
const char *keyrail_test_logged(void);
void keyrail_test_set_now_ms(int64_t now_ms);

#ifdef __cplusplus
}
#endif
#endif
