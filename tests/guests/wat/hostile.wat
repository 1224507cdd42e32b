;; Misbehaves as the first letter of a message's value says; a message without a value, or with another letter, is done.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
  (import "keyrail:handler/emit@0.1.0" "send" (func $send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))
  (import "keyrail:handler/context@0.1.0" "id" (func $id (param i32 i32)))
  (import "keyrail:handler/context@0.1.0" "now-ms" (func $now (result i64)))
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
  (data (i32.const 1024) "out\ff\fe")
  (table $table 1 funcref)
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
  (func $crash unreachable)
  (func $descend (param $n i64) (result i64)
    (i64.add (call $descend (i64.add (local.get $n) (i64.const 1))) (local.get $n)))
  (func $spend (param $slot i32) (param $value i32) (param $n i32)
    (call $send (local.get $slot) (global.get $out) (global.get $outn)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (local.get $value) (local.get $n)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 48)))
  (func $dead-letter (param $o i32) (param $code i32) (param $coden i32) (param $detail i32) (param $detailn i32)
    (i32.store8 (local.get $o) (i32.const 3))
    (i32.store offset=8 (local.get $o) (local.get $code)) (i32.store offset=12 (local.get $o) (local.get $coden))
    (i32.store offset=16 (local.get $o) (local.get $detail)) (i32.store offset=20 (local.get $o) (local.get $detailn)))
  (func $one (param $slot i32) (param $m i32) (param $o i32)
    (local $case i32) (local $i i32) (local $p i32)
    (if (i32.eqz (i32.load offset=52 (local.get $m))) (then (return)))
    (local.set $case (i32.load8_u (i32.load offset=48 (local.get $m))))
    ;; t: a trap, after a send
    (if (i32.eq (local.get $case) (i32.const 116)) (then
      (call $spend (local.get $slot) (i32.const 1024) (i32.const 3)) (call $crash)))
    ;; l: no end
    (if (i32.eq (local.get $case) (i32.const 108)) (then (loop $ever (br $ever))))
    ;; m: all the memory there is, then a trap
    (if (i32.eq (local.get $case) (i32.const 109)) (then
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $crash)))
    ;; M: a megabyte for good, then done
    (if (i32.eq (local.get $case) (i32.const 77)) (then (drop (memory.grow (i32.const 16)))))
    ;; s: a thousand and twenty-four sends of a megabyte, whatever they answer
    (if (i32.eq (local.get $case) (i32.const 115)) (then
      (local.set $p (call $alloc (i32.const 0x100000)))
      (loop $more
        (call $spend (local.get $slot) (local.get $p) (i32.const 0x100000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 1024))))))
    ;; S: one thousand and two sends of a byte, whatever they answer
    (if (i32.eq (local.get $case) (i32.const 83)) (then
      (loop $more
        (call $spend (local.get $slot) (i32.const 1024) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 1002))))))
    ;; V: a send of sixty megabytes
    (if (i32.eq (local.get $case) (i32.const 86)) (then
      (call $spend (local.get $slot) (call $alloc (i32.const 0x3c00000)) (i32.const 0x3c00000))))
    ;; 0, +, x: no outcome, one too many, 2^31 - 1 of them
    (if (i32.eq (local.get $case) (i32.const 48)) (then (i32.store (i32.const 36) (i32.const 0))))
    (if (i32.eq (local.get $case) (i32.const 43)) (then
      (memory.fill (call $alloc (i32.const 48)) (i32.const 0) (i32.const 48))
      (i32.store (i32.const 36) (i32.add (i32.load (i32.const 36)) (i32.const 1)))))
    (if (i32.eq (local.get $case) (i32.const 120)) (then (i32.store (i32.const 36) (i32.const 0x7fffffff))))
    ;; p, P: outcomes outside the memory, or not aligned
    (if (i32.eq (local.get $case) (i32.const 112)) (then (i32.store (i32.const 32) (i32.const 0xfffffff0))))
    (if (i32.eq (local.get $case) (i32.const 80)) (then (i32.store (i32.const 32) (i32.const 1025))))
    ;; v: an outcome of no known kind
    (if (i32.eq (local.get $case) (i32.const 118)) (then (i32.store8 (local.get $o) (i32.const 9))))
    ;; u: text that is no UTF-8
    (if (i32.eq (local.get $case) (i32.const 117)) (then
      (call $dead-letter (local.get $o) (i32.const 1024) (i32.const 3) (i32.const 1024) (i32.const 5))))
    ;; q: text outside the memory
    (if (i32.eq (local.get $case) (i32.const 113)) (then
      (call $dead-letter (local.get $o) (i32.const 1024) (i32.const 3) (i32.const 0x7fffffff) (i32.const 5))))
    ;; c: calls into the host without end
    (if (i32.eq (local.get $case) (i32.const 99)) (then (loop $ever (drop (call $now)) (br $ever))))
    ;; g: five thousand lines of log
    (if (i32.eq (local.get $case) (i32.const 103)) (then
      (loop $more
        (call $write (i32.const 4) (i32.const 1024) (i32.const 3) (i32.const 0) (i32.const 0))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 5000))))))
    ;; o: a slot behind the batch
    (if (i32.eq (local.get $case) (i32.const 111)) (then (call $id (i32.const 1000000) (i32.const 64))))
    ;; d, D: a code and a detail of a megabyte, of sixty megabytes
    (if (i32.eq (local.get $case) (i32.const 100)) (then
      (local.set $p (call $alloc (i32.const 0x100000)))
      (memory.fill (local.get $p) (i32.const 97) (i32.const 0x100000))
      (call $dead-letter (local.get $o) (local.get $p) (i32.const 0x100000) (local.get $p) (i32.const 0x100000))))
    (if (i32.eq (local.get $case) (i32.const 68)) (then
      (call $dead-letter (local.get $o)
        (i32.const 1024) (i32.const 3) (call $alloc (i32.const 0x3c00000)) (i32.const 0x3c00000))))
    ;; r: recursion without end
    (if (i32.eq (local.get $case) (i32.const 114)) (then (drop (call $descend (i64.const 0)))))
    ;; b: all the table there is, then a trap
    (if (i32.eq (local.get $case) (i32.const 98)) (then
      (loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
      (call $crash))))
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
