/* Requests over HTTP, with the host in memory. The handler does what the first word of a value says; prepare asks for what the header `ask`
 * names. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/generated/contract.h"
#include "keyrail_test.h"

#define URL "https://api.example.com/v1"

static keyrail_outcome many(keyrail_context *ctx) {
  keyrail_header header = {"Content-Type", keyrail_text("text/plain")};
  keyrail_request requests[] = {
      {.url = URL "/a"},
      {.url = URL "/b", .body = keyrail_text("x"), .headers = &header, .header_count = 1, .timeout_ms = 250},
      {.url = URL "/c\xff"},
      {.method = "PUT", .url = URL "/none?secret"},
  };
  keyrail_response answers[4];
  keyrail_fetch_all(ctx, requests, 4, answers);
  assert(answers[0].error == KEYRAIL_OK && answers[0].status == 201 && keyrail_is_text(answers[0].body, "of a"));
  assert(strcmp(answers[0].asked, "GET " URL "/a") == 0 && strcmp(answers[0].words, "") == 0);
  assert(keyrail_is_text(keyrail_response_header(&answers[0], "X-Twice"), "2"));
  assert(keyrail_response_header(&answers[0], "none").data == NULL);
  assert(strcmp(answers[0].headers[0].name, "x-twice") == 0);
  assert(answers[1].status == 204 && answers[1].body.data != NULL && answers[1].body.size == 0);
  assert(answers[2].error == KEYRAIL_HTTP_INVALID);
  assert(answers[3].error == KEYRAIL_HTTP_DENIED && !keyrail_is_ok(&answers[3]));
  assert(strstr(answers[3].words, "PUT " URL "/none: the test gives it no answer") == answers[3].words);
  keyrail_fetch_all(ctx, NULL, 0, NULL);
  return keyrail_done();
}

static keyrail_outcome tried(keyrail_context *ctx, const char *url) {
  keyrail_response answer;
  keyrail_request request = {.url = url};
  KEYRAIL_TRY(ctx, keyrail_state_put(ctx, "staged", keyrail_text("x")));
  KEYRAIL_TRY(ctx, keyrail_fetch(ctx, &request, &answer));
  KEYRAIL_TRY_OK(ctx, &answer);
  KEYRAIL_TRY(ctx, keyrail_send(ctx, "out", answer.body));
  return keyrail_done();
}

static keyrail_outcome answered(keyrail_context *ctx) {
  const keyrail_response *answers;
  size_t count = keyrail_answers(ctx, &answers);
  for (size_t i = 0; i < count; i++) {
    KEYRAIL_TRY_OK(ctx, &answers[i]);
    KEYRAIL_TRY(ctx, keyrail_send(ctx, "out", answers[i].body));
  }
  return keyrail_done();
}

keyrail_outcome keyrail_prepare(keyrail_context *ctx, const keyrail_message *message) {
  if (!keyrail_starts_with(message->value, "ask")) return keyrail_done();
  KEYRAIL_TRY(ctx, keyrail_state_put(ctx, "prepared", keyrail_text("x")));
  for (int i = 0; i < 2; i++) {
    /* It is gone when the request is made. */
    char url[100], body[2] = {(char)('0' + i), 0};
    snprintf(url, sizeof url, URL "/%.*s/%d", (int)message->key.size, (const char *)message->key.data, i);
    keyrail_header header = {"n", keyrail_text(body)};
    keyrail_ask(ctx, &(keyrail_request){.method = "POST", .url = url, .headers = &header, .header_count = 1, .body = keyrail_text(body)});
  }
  if (keyrail_is_text(message->value, "ask and fail")) {
    static char code[] = "unasked-0";
    code[8]++;
    return keyrail_dead_letter(code, "no %s", "request");
  }
  return keyrail_done();
}

keyrail_outcome keyrail_handle(keyrail_context *ctx, const keyrail_message *message) {
  if (keyrail_is_text(message->value, "many")) return many(ctx);
  if (keyrail_starts_with(message->value, "ask")) return answered(ctx);
  const keyrail_response *none;
  assert(keyrail_answers(ctx, &none) == 0);
  char url[200];
  snprintf(url, sizeof url, "%.*s", (int)message->value.size, (const char *)message->value.data);
  return tried(ctx, url);
}

static void begin(void) {
  keyrail_test_begin();
  keyrail_test_output("out");
}

static void requests_are_made_at_the_same_time_and_answered_in_order(void) {
  begin();
  keyrail_header twice[] = {{"X-Twice", keyrail_text("1")}, {"x-twice", keyrail_text("2")}};
  keyrail_test_answer("GET", URL "/a", (keyrail_response){.status = 200});
  keyrail_test_answer("GET", URL "/a",
                      (keyrail_response){.status = 201, .headers = twice, .header_count = 2, .body = keyrail_text("of a")});
  keyrail_test_answer("POST", URL "/b", (keyrail_response){.status = 204});
  keyrail_run run = keyrail_test_say("k", "many");
  assert(run.fate == KEYRAIL_DONE && run.request_count == 3);
  const keyrail_requested *made = run.requests;
  assert(strcmp(made[1].method, "POST") == 0 && strcmp(made[1].url, URL "/b") == 0 && made[1].timeout_ms == 250);
  assert(keyrail_is_text(made[1].body, "x") && made[0].body.data == NULL && made[0].timeout_ms == 0);
  assert(made[1].header_count == 2 && keyrail_is_text(made[1].headers[0].value, "text/plain"));
  const char *keys[] = {"in/0/0", "in/0/0", "in/0/0-2"};
  for (size_t i = 0; i < 3; i++) {
    const keyrail_header *last = &made[i].headers[made[i].header_count - 1];
    assert(made[i].call == 0 && made[i].slot == 0);
    assert(strcmp(last->name, "idempotency-key") == 0 && keyrail_is_text(last->value, keys[i]));
  }
  assert(keyrail_test_say("k", "x").request_count == 1);
}

static keyrail_run one(keyrail_response answer) {
  keyrail_test_answer("GET", URL "?token=t", answer);
  keyrail_run run = keyrail_test_say("k", URL "?token=t");
  assert(run.request_count == 1);
  return run;
}

static void an_error_that_is_not_caught_is_the_message_s_outcome(void) {
  begin();
  const struct {
    keyrail_error error;
    keyrail_fate fate;
    const char *code, *detail;
  } all[] = {
      {KEYRAIL_HTTP_DENIED, KEYRAIL_DEAD_LETTER, "http-denied", "GET " URL ": why"},
      {KEYRAIL_HTTP_INVALID, KEYRAIL_DEAD_LETTER, "http-invalid", "GET " URL ": why"},
      {KEYRAIL_HTTP_TIMEOUT, KEYRAIL_RETRY, "http-timeout", "GET " URL ": no answer in time"},
      {KEYRAIL_HTTP_UNREACHABLE, KEYRAIL_RETRY, "http-unreachable", "GET " URL ": why"},
      {KEYRAIL_HTTP_TOO_LARGE, KEYRAIL_DEAD_LETTER, "http-too-large",
       "GET " URL ": the answer is larger than limits.response-bytes allows"},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    keyrail_run run = one((keyrail_response){.error = all[i].error, .words = "why"});
    assert(run.fate == all[i].fate && strcmp(run.code, all[i].code) == 0 && strcmp(run.detail, all[i].detail) == 0);
    assert(!run.has_delay && !run.outage && keyrail_test_state("k", "staged").data == NULL);
  }
}

static keyrail_run status(uint16_t status, const char *retry_after, const char *body) {
  keyrail_header header = {"Retry-After", keyrail_text(retry_after)};
  return one((keyrail_response){
      .status = status, .headers = &header, .header_count = retry_after == NULL ? 0 : 1, .body = keyrail_text(body)});
}

static void a_status_that_is_no_success_is_retried_or_given_up(void) {
  begin();
  keyrail_run run = status(299, NULL, "body");
  assert(run.fate == KEYRAIL_DONE && keyrail_is_text(run.sent[0].value, "body"));
  const uint16_t again[] = {408, 425, 429, 500, 503, 599}, never[] = {199, 300, 304, 400, 404, 428, 600};
  for (size_t i = 0; i < sizeof again / sizeof *again; i++) assert(status(again[i], NULL, "").fate == KEYRAIL_RETRY);
  for (size_t i = 0; i < sizeof never / sizeof *never; i++) assert(status(never[i], "5", "").fate == KEYRAIL_DEAD_LETTER);
  run = status(404, NULL, "no such thing");
  assert(strcmp(run.code, "http-404") == 0 && strcmp(run.detail, "GET " URL ": 404 no such thing") == 0);
  run = status(503, NULL, NULL);
  assert(strcmp(run.detail, "GET " URL ": 503") == 0 && !run.has_delay);
  const struct {
    uint16_t status;
    const char *after;
    uint64_t delay_ms;
  } waits[] = {{429, "2", 2000},   {503, " 30 ", 30000}, {503, "99999999999999999999999", 3600000}, {500, "2", 0},
               {503, "0", 0},      {429, "", 0},         {429, "-1", 0},                            {429, "1.5", 0},
               {429, "Fri, 13", 0}};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    run = status(waits[i].status, waits[i].after, NULL);
    assert(run.fate == KEYRAIL_RETRY && run.has_delay == (waits[i].delay_ms > 0) && run.delay_ms == waits[i].delay_ms);
  }
}

static void a_detail_has_the_first_200_bytes_of_text(void) {
  begin();
  const size_t start = strlen("GET " URL ": 500 ");
  char body[303];
  for (size_t i = 0; i < 302; i += 2) memcpy(body + i, "\xc3\xa4", 2);
  body[302] = 0;
  assert(strlen(status(500, NULL, body).detail) == start + 200);
  memmove(body + 1, body, 301);
  body[0] = 'a';
  assert(strlen(status(500, NULL, body).detail) == start + 199);
  const char *none[] = {"a\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80", "\x80"};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) assert(strcmp(status(500, NULL, none[i]).detail, "GET " URL ": 500") == 0);
  assert(strcmp(status(500, NULL, "\xf0\x9f\x98\x80 \xf0\x9f\x98").detail, "GET " URL ": 500 \xf0\x9f\x98\x80 ") == 0);
}

static struct {
  uint32_t slot, call;
} seen[8];
static size_t seen_count;

static keyrail_response echo(const keyrail_requested *request) {
  assert(seen_count < 8);
  seen[seen_count].slot = request->slot;
  seen[seen_count++].call = request->call;
  if (request->body.data != NULL) assert(keyrail_is_text(request->headers[0].value, keyrail_is_text(request->body, "0") ? "0" : "1"));
  if (strstr(request->url, "/down/") != NULL) return (keyrail_response){.error = KEYRAIL_HTTP_UNREACHABLE, .words = "no route"};
  return (keyrail_response){.status = 200, .body = keyrail_text(request->url)};
}

static void what_prepare_asks_for_is_there_when_the_message_is_handled(void) {
  begin();
  keyrail_test_answer_all(echo);
  keyrail_run run = keyrail_test_say("k", "ask");
  assert(run.fate == KEYRAIL_DONE && run.sent_count == 2 && run.request_count == 2);
  assert(keyrail_is_text(run.sent[0].value, URL "/k/0") && keyrail_is_text(run.sent[1].value, URL "/k/1"));
  assert(run.requests[0].call == 0 && run.requests[1].call == 0);
  run = keyrail_test_say("down", "ask");
  assert(run.fate == KEYRAIL_RETRY && strcmp(run.code, "http-unreachable") == 0 && run.sent_count == 0);
  run = keyrail_test_say("other", "ask and fail");
  assert(run.fate == KEYRAIL_DEAD_LETTER && strcmp(run.detail, "no request") == 0 && run.request_count == 0);
  assert(keyrail_test_state("other", "prepared").data == NULL && keyrail_is_text(keyrail_test_state("k", "prepared"), "x"));
}

static contract_option_list_u8_t given(const char *text) {
  uint8_t *copy = malloc(strlen(text));
  assert(copy != NULL);
  memcpy(copy, text, strlen(text));
  return (contract_option_list_u8_t){true, {copy, strlen(text)}};
}

/* As the host calls, with more than one message. */
static void requests_of_a_batch_are_made_in_one_call_but_for_those_of_messages_that_are_decided(void) {
  begin();
  keyrail_test_answer_all(echo);
  assert(keyrail_test_say("k", "ask").fate == KEYRAIL_DONE);
  seen_count = 0;
  const char *values[] = {"ask", "ask and fail", "https://plain", "ask", "ask and fail"};
  exports_keyrail_handler_guest_list_message_t batch = {malloc(5 * sizeof *batch.ptr), 5};
  assert(batch.ptr != NULL);
  for (size_t i = 0; i < 5; i++)
    batch.ptr[i] = (exports_keyrail_handler_guest_message_t){.key = given("k"), .value = given(values[i]), .attempt = 1};
  exports_keyrail_handler_guest_list_outcome_t outcomes;
  exports_keyrail_handler_guest_process(&batch, &outcomes);
  const uint8_t tags[] = {KEYRAIL_DONE, KEYRAIL_DEAD_LETTER, KEYRAIL_DONE, KEYRAIL_DONE, KEYRAIL_DEAD_LETTER};
  for (size_t i = 0; i < 5; i++) assert(outcomes.ptr[i].tag == tags[i]);
  assert(outcomes.ptr[1].val.dead_letter.code.ptr[8] + 1 == outcomes.ptr[4].val.dead_letter.code.ptr[8]);
  for (size_t i = 1; i < 5; i += 3) {
    free(outcomes.ptr[i].val.dead_letter.code.ptr);
    free(outcomes.ptr[i].val.dead_letter.detail.ptr);
  }
  free(outcomes.ptr);
  const uint32_t slots[] = {0, 0, 3, 3, 2};
  assert(seen_count == 5);
  for (size_t i = 0; i < 5; i++) assert(seen[i].slot == slots[i] && seen[i].call == (i < 4 ? 1 : 2));
}

int main(void) {
  requests_are_made_at_the_same_time_and_answered_in_order();
  an_error_that_is_not_caught_is_the_message_s_outcome();
  a_status_that_is_no_success_is_retried_or_given_up();
  a_detail_has_the_first_200_bytes_of_text();
  what_prepare_asks_for_is_there_when_the_message_is_handled();
  requests_of_a_batch_are_made_in_one_call_but_for_those_of_messages_that_are_decided();
  keyrail_test_begin();
  puts("all passed");
  return 0;
}
