;; Misbehaves in `open`, or when it is asked for memory afterwards, as the first letter of the handler's name says.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
  (import "keyrail:handler/context@0.1.0" "random" (func $random (param i32) (result i64)))
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
  (global $mode (mut i32) (i32.const 0))
  (data (i32.const 1024) "no \1b[31mcurrency\nset")
  (func $realloc (export "cabi_realloc") (param $old i32) (param $oldn i32) (param $align i32) (param $n i32) (result i32)
    ;; w: memory that is not there
    (if (i32.eq (global.get $mode) (i32.const 119)) (then (return (i32.const 0xfffffff8))))
    ;; u: memory that is not aligned
    (if (i32.eq (global.get $mode) (i32.const 117)) (then (return (i32.const 4097))))
    ;; e: no end
    (if (i32.eq (global.get $mode) (i32.const 101)) (then (loop $ever (br $ever))))
    (call $alloc (local.get $n)))
  (func $crash unreachable)
  (func $open (export "keyrail:handler/guest@0.1.0#open")
    (param $handler i32) (param i32) (param i32 i32) (param i32 i32) (param i32 i32 i32) (result i32)
    (global.set $mode (i32.load8_u (local.get $handler)))
    ;; r: refuses
    (if (i32.eq (global.get $mode) (i32.const 114)) (then
      (i32.store8 (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 20))
      (return (i32.const 16))))
    ;; t: a trap
    (if (i32.eq (global.get $mode) (i32.const 116)) (then (call $crash)))
    ;; l: no end
    (if (i32.eq (global.get $mode) (i32.const 108)) (then (loop $ever (br $ever))))
    ;; s: asks about a slot, and there is none
    (if (i32.eq (global.get $mode) (i32.const 115)) (then (drop (call $random (i32.const 0)))))
    ;; m: all the memory there is, then a trap
    (if (i32.eq (global.get $mode) (i32.const 109)) (then
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $crash)))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))
  (func $one (param $slot i32) (param $m i32) (param $o i32))
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
)
