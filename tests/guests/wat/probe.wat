;; Does what the first letter of a message's value asks for and sends what it got to the first output.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
  (import "keyrail:handler/emit@0.1.0" "send" (func $send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))
  (import "keyrail:handler/context@0.1.0" "id" (func $id (param i32 i32)))
  (import "keyrail:handler/context@0.1.0" "headers" (func $headers (param i32 i32)))
  (import "keyrail:handler/context@0.1.0" "header-value" (func $header-value (param i32 i32 i32 i32)))
  (import "keyrail:handler/context@0.1.0" "follows-dead-letter" (func $follows (param i32) (result i32)))
  (import "keyrail:handler/context@0.1.0" "now-ms" (func $now (result i64)))
  (import "keyrail:handler/context@0.1.0" "deadline-ms" (func $deadline (result i64)))
  (import "keyrail:handler/context@0.1.0" "random" (func $random (param i32) (result i64)))
  (import "keyrail:handler/state@0.1.0" "get" (func $get (param i32 i32 i32 i32)))
  (import "keyrail:handler/timers@0.1.0" "cancel" (func $cancel (param i32 i32 i32 i32)))
  (import "keyrail:handler/metrics@0.1.0" "register" (func $register (param i32 i32 i32 i32 i32) (result i32)))
  (import "keyrail:handler/metrics@0.1.0" "observe" (func $observe (param i32 f64)))
  (import "keyrail:handler/log@0.1.0" "threshold" (func $threshold (result i32)))
  (import "keyrail:handler/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (global $base (mut i32) (i32.const 4096))
  (func $alloc (param $n i32) (result i32)
    (local $p i32) (local $short i32)
    (local.set $p (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $p) (local.get $n)))
    (local.set $short (i32.sub (global.get $top) (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $short) (i32.const 0)) (then
      (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $short) (i32.const 16)) (i32.const 1))) (i32.const -1))
        (then unreachable))))
    (local.get $p))
  (func $realloc (export "cabi_realloc") (param $old i32) (param $oldn i32) (param $align i32) (param $n i32) (result i32)
    (local $p i32)
    (local.set $p (call $alloc (local.get $n)))
    (if (local.get $old) (then (memory.copy (local.get $p) (local.get $old) (local.get $oldn))))
    (local.get $p))
  (data (i32.const 1024) "htracenowhereseen")
  ;; fields of a log line: ("trace", "seen")
  (data (i32.const 1100) "\01\04\00\00\05\00\00\00\0d\04\00\00\04\00\00\00")
  ;; headers of a send: ("trace", "seen"), ("h", none)
  (data (i32.const 1200) "\01\04\00\00\05\00\00\00\01\00\00\00\0d\04\00\00\04\00\00\00")
  (data (i32.const 1220) "\00\04\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  (global $out (mut i32) (i32.const 0))
  (global $outn (mut i32) (i32.const 0))
  ;; Keeps the first output's name for the sends.
  (func $open (export "keyrail:handler/guest@0.1.0#open")
    (param $handler i32) (param i32) (param i32 i32) (param $outputs i32) (param $count i32) (param i32 i32 i32) (result i32)
    (if (local.get $count) (then
      (global.set $out (i32.load (local.get $outputs)))
      (global.set $outn (i32.load offset=4 (local.get $outputs)))))
    (global.set $base (global.get $top))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))
  ;; A send without key, with this value.
  (func $tell (param $slot i32) (param $p i32) (param $n i32)
    (call $send (local.get $slot) (global.get $out) (global.get $outn)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (local.get $p) (local.get $n)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 48))
    (if (i32.load8_u (i32.const 48)) (then unreachable)))
  ;; Tells the string whose pointer and length lie there.
  (func $tell-at (param $slot i32) (param $at i32)
    (call $tell (local.get $slot) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at))))
  (func $one (param $slot i32) (param $m i32) (param $o i32)
    (local $case i32)
    (local.set $case (i32.load8_u (i32.load offset=48 (local.get $m))))
    ;; i: the id
    (if (i32.eq (local.get $case) (i32.const 105)) (then
      (call $id (local.get $slot) (i32.const 64)) (call $tell-at (local.get $slot) (i32.const 64))))
    ;; r: two random numbers
    (if (i32.eq (local.get $case) (i32.const 114)) (then
      (i64.store (i32.const 64) (call $random (local.get $slot)))
      (i64.store (i32.const 72) (call $random (local.get $slot)))
      (call $tell (local.get $slot) (i32.const 64) (i32.const 16))))
    ;; h: the value of header h, if there is one
    (if (i32.eq (local.get $case) (i32.const 104)) (then
      (call $header-value (local.get $slot) (i32.const 1024) (i32.const 1) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (call $tell-at (local.get $slot) (i32.const 68))))))
    ;; n: the name of each header
    (if (i32.eq (local.get $case) (i32.const 110)) (then
      (call $headers (local.get $slot) (i32.const 64))
      (block $done (loop $next
        (br_if $done (i32.eqz (i32.load (i32.const 68))))
        (call $tell-at (local.get $slot) (i32.load (i32.const 64)))
        (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 20)))
        (i32.store (i32.const 68) (i32.sub (i32.load (i32.const 68)) (i32.const 1)))
        (br $next)))))
    ;; f: whether it follows a dead letter
    (if (i32.eq (local.get $case) (i32.const 102)) (then
      (i32.store8 (i32.const 64) (call $follows (local.get $slot)))
      (call $tell (local.get $slot) (i32.const 64) (i32.const 1))))
    ;; t: time and deadline
    (if (i32.eq (local.get $case) (i32.const 116)) (then
      (i64.store (i32.const 64) (call $now))
      (i64.store (i32.const 72) (call $deadline))
      (call $tell (local.get $slot) (i32.const 64) (i32.const 16))))
    ;; s: state, which answers other(text); result at 64, its error at 68, the text at 72
    (if (i32.eq (local.get $case) (i32.const 115)) (then
      (call $get (local.get $slot) (i32.const 1024) (i32.const 1) (i32.const 64))
      (if (i32.ne (i32.load8_u (i32.const 68)) (i32.const 4)) (then unreachable))
      (call $tell-at (local.get $slot) (i32.const 72))))
    ;; c: timers, which answer other(text)
    (if (i32.eq (local.get $case) (i32.const 99)) (then
      (call $cancel (local.get $slot) (i32.const 1024) (i32.const 1) (i32.const 64))
      (if (i32.ne (i32.load8_u (i32.const 68)) (i32.const 4)) (then unreachable))
      (call $tell-at (local.get $slot) (i32.const 72))))
    ;; o: a send to an output that is not there; tells the error's case
    (if (i32.eq (local.get $case) (i32.const 111)) (then
      (call $send (local.get $slot) (i32.const 1030) (i32.const 7)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 64))
      (call $tell (local.get $slot) (i32.const 68) (i32.const 1))))
    ;; d: a delayed send; tells the error's text
    (if (i32.eq (local.get $case) (i32.const 100)) (then
      (call $send (local.get $slot) (global.get $out) (global.get $outn)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 1) (i64.const 5) (i32.const 64))
      (call $tell-at (local.get $slot) (i32.const 72))))
    ;; w: a send with everything: key, tombstone, two headers, forwarding, time
    (if (i32.eq (local.get $case) (i32.const 119)) (then
      (call $send (local.get $slot) (global.get $out) (global.get $outn)
        (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 1200) (i32.const 2) (i32.const 1) (i32.const 1) (i64.const 1234) (i32.const 0) (i64.const 0) (i32.const 64))))
    ;; g: a metric
    (if (i32.eq (local.get $case) (i32.const 103)) (then
      (call $observe
        (call $register (i32.const 1037) (i32.const 4) (i32.const 0) (i32.const 1100) (i32.const 1)) (f64.const 2.5))))
    ;; l: a line in the log at info, with a field; tells the threshold
    (if (i32.eq (local.get $case) (i32.const 108)) (then
      (call $write (i32.const 2) (i32.load offset=48 (local.get $m)) (i32.load offset=52 (local.get $m))
        (i32.const 1100) (i32.const 1))
      (i32.store8 (i32.const 64) (call $threshold))
      (call $tell (local.get $slot) (i32.const 64) (i32.const 1))))
    ;; k: skips
    (if (i32.eq (local.get $case) (i32.const 107)) (then (i32.store8 (local.get $o) (i32.const 1))))
    ;; y: sends, then asks for a retry after 1500 ms because of an outage; the value is the detail
    (if (i32.eq (local.get $case) (i32.const 121)) (then
      (call $tell (local.get $slot) (i32.const 1024) (i32.const 1))
      (i32.store8 (local.get $o) (i32.const 2))
      (i32.store offset=8 (local.get $o) (i32.const 1025)) (i32.store offset=12 (local.get $o) (i32.const 5))
      (i32.store offset=16 (local.get $o) (i32.load offset=48 (local.get $m)))
      (i32.store offset=20 (local.get $o) (i32.load offset=52 (local.get $m)))
      (i32.store8 offset=24 (local.get $o) (i32.const 1)) (i64.store offset=32 (local.get $o) (i64.const 1500))
      (i32.store8 offset=40 (local.get $o) (i32.const 1)))))
  (func $process (export "keyrail:handler/guest@0.1.0#process") (param $batch i32) (param $n i32) (result i32)
    (local $outcomes i32) (local $i i32)
    (local.set $outcomes (call $alloc (i32.mul (local.get $n) (i32.const 48))))
    (memory.fill (local.get $outcomes) (i32.const 0) (i32.mul (local.get $n) (i32.const 48)))
    (i32.store (i32.const 32) (local.get $outcomes))
    (i32.store (i32.const 36) (local.get $n))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (call $one (local.get $i)
        (i32.add (local.get $batch) (i32.mul (local.get $i) (i32.const 64)))
        (i32.add (local.get $outcomes) (i32.mul (local.get $i) (i32.const 48))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.const 32))
  (func (export "cabi_post_keyrail:handler/guest@0.1.0#process") (param i32) (global.set $top (global.get $base)))
)
