;; Uses the engine's garbage collector and exceptions, as Kotlin, Scala and Dart do.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
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
  (type $bytes (array (mut i8)))
  (type $node (struct (field $data (ref $bytes)) (field $next (ref null $node))))
  (tag $thrown (param i32))
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
  (func $one (param $slot i32) (param $m i32) (param $o i32)
    (local $case i32) (local $i i32) (local $list (ref null $node))
    (local.set $case (i32.load8_u (i32.load offset=48 (local.get $m))))
    ;; e: throws and catches
    (if (i32.eq (local.get $case) (i32.const 101)) (then
      (local.set $i (block $caught (result i32)
        (try_table (catch $thrown $caught) (throw $thrown (i32.const 7)))
        (unreachable)))
      (if (i32.ne (local.get $i) (i32.const 7)) (then unreachable))))
    ;; k: keeps a thousand arrays of a megabyte
    (if (i32.eq (local.get $case) (i32.const 107)) (then
      (loop $more
        (local.set $list
          (struct.new $node (array.new $bytes (i32.const 1) (i32.const 0x100000)) (local.get $list)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 1000))))))
    ;; d: drops them one by one
    (if (i32.eq (local.get $case) (i32.const 100)) (then
      (loop $more
        (local.set $list
          (struct.new $node (array.new $bytes (i32.const 1) (i32.const 0x100000)) (ref.null $node)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $i) (i32.const 1000)))))))
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
