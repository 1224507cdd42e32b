;; A core module of a component that imports WASI 0.2, in several versions: does what the first letter of a message's value
;; asks for, with the rest of it, and sends what it got to the first output. preview2.wit has the types.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
  (import "keyrail:handler/emit@0.1.0" "send" (func $send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))
  (import "wasi:cli/stdin@0.2.12" "get-stdin" (func $get-stdin (result i32)))
  (import "wasi:cli/stdout@0.2.12" "get-stdout" (func $get-stdout (result i32)))
  (import "wasi:cli/stderr@0.2.12" "get-stderr" (func $get-stderr (result i32)))
  (import "wasi:cli/exit@0.2.12" "exit-with-code" (func $exit (param i32)))
  (import "wasi:cli/environment@0.2.12" "get-environment" (func $get-environment (param i32)))
  (import "wasi:io/streams@0.2.9" "[method]output-stream.blocking-write-and-flush" (func $print
    (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.9" "[resource-drop]output-stream" (func $close (param i32)))
  (import "wasi:io/streams@0.2.9" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))
  (import "wasi:clocks/timezone@0.2.0" "utc-offset" (func $utc-offset (param i64 i32) (result i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $steady (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
  (import "wasi:random/random@0.2.3" "get-random-bytes" (func $random (param i64 i32)))
  (import "wasi:filesystem/preopens@0.2.6" "get-directories" (func $get-directories (param i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket" (func $create-tcp-socket (param i32 i32)))
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
  (func (export "init") (result i32) (i32.const 0))
  (func $crash unreachable)
  ;; A send without key, with this value.
  (func $tell (param $slot i32) (param $p i32) (param $n i32)
    (call $send (local.get $slot) (global.get $out) (global.get $outn)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (local.get $p) (local.get $n)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 48))
    (if (i32.load8_u (i32.const 48)) (then unreachable)))
  (func $say (param $stream i32) (param $p i32) (param $n i32)
    (call $print (local.get $stream) (local.get $p) (local.get $n) (i32.const 2048))
    (if (i32.load8_u (i32.const 2048)) (then unreachable))
    (call $close (local.get $stream)))
  (func $tell-time (param $slot i32)
    (call $wall (i32.const 2048))
    (i64.store (i32.const 2064) (i64.add
      (i64.mul (i64.load (i32.const 2048)) (i64.const 1000000000)) (i64.load32_u (i32.const 2056))))
    (i64.store (i32.const 2072) (call $steady))
    (call $tell (local.get $slot) (i32.const 2064) (i32.const 16)))
  (func $one (param $slot i32) (param $m i32) (param $o i32)
    (local $case i32) (local $p i32) (local $n i32) (local $timer i32)
    (local.set $case (i32.load8_u (i32.load offset=48 (local.get $m))))
    (local.set $p (i32.add (i32.load offset=48 (local.get $m)) (i32.const 1)))
    (local.set $n (i32.sub (i32.load offset=52 (local.get $m)) (i32.const 1)))
    ;; o, e: the rest to the standard output, or error
    (if (i32.eq (local.get $case) (i32.const 111)) (then (call $say (call $get-stdout) (local.get $p) (local.get $n))))
    (if (i32.eq (local.get $case) (i32.const 101)) (then (call $say (call $get-stderr) (local.get $p) (local.get $n))))
    ;; u: the same to the standard error, and a trap
    (if (i32.eq (local.get $case) (i32.const 117)) (then
      (call $say (call $get-stderr) (local.get $p) (local.get $n)) (call $crash)))
    ;; x: the end
    (if (i32.eq (local.get $case) (i32.const 120)) (then (call $exit (i32.const 7))))
    ;; t: the time; s: after a sleep of a second
    (if (i32.eq (local.get $case) (i32.const 116)) (then (call $tell-time (local.get $slot))))
    (if (i32.eq (local.get $case) (i32.const 115)) (then
      (local.set $timer (call $after (i64.const 1000000000)))
      (call $block (local.get $timer))
      (call $drop (local.get $timer))
      (call $tell-time (local.get $slot))))
    ;; r: sixteen random bytes
    (if (i32.eq (local.get $case) (i32.const 114)) (then
      (call $random (i64.const 16) (i32.const 2048))
      (call $tell (local.get $slot) (i32.load (i32.const 2048)) (i32.load (i32.const 2052)))))
    ;; z: what nobody answers
    (if (i32.eq (local.get $case) (i32.const 122)) (then (drop (call $utc-offset (i64.const 0) (i32.const 0)))))
    ;; f: how many folders and variables there are; what becomes of a socket, and of reading: whether it failed, and how
    (if (i32.eq (local.get $case) (i32.const 102)) (then
      (call $get-directories (i32.const 2048))
      (i32.store8 (i32.const 2100) (i32.load (i32.const 2052)))
      (call $get-environment (i32.const 2048))
      (i32.store8 (i32.const 2101) (i32.load (i32.const 2052)))
      (call $create-tcp-socket (i32.const 0) (i32.const 2048))
      (i32.store8 (i32.const 2102) (i32.load8_u (i32.const 2048)))
      (i32.store8 (i32.const 2103) (i32.load8_u (i32.const 2052)))
      (call $read (call $get-stdin) (i64.const 10) (i32.const 2048))
      (i32.store8 (i32.const 2104) (i32.load8_u (i32.const 2048)))
      (i32.store8 (i32.const 2105) (i32.load8_u (i32.const 2052)))
      (call $tell (local.get $slot) (i32.const 2100) (i32.const 6)))))
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
