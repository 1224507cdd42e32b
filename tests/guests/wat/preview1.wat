;; A module of WASI preview 1: does what the first letter of a message's value asks for, with the rest of it, and sends what it
;; got to the first output. Like Go it looks at the clock while the host asks it for memory.
;; A message is 64 bytes: 12 partition, 16 offset, 32/36/40 key, 44/48/52 value, 56 attempt. An outcome is 48 bytes:
;; 0 case, 8/12 code, 16/20 detail, 24/32 delay, 40 outage. Below 4096 lie answers and texts; from there on, memory is
;; given out in a row and taken back after each batch.
(module
  (import "keyrail:handler/emit@0.1.0" "send" (func $send
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i64 i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (global $base (mut i32) (i32.const 4096))
  ;; 1024 and 1035: what it says while it starts, and in open
  (data (i32.const 1024) "it starts\0ait opens, ")
  ;; 1100: a sleep of one second, its number 42
  (data (i32.const 1100) "\2a\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\ca\9a\3b\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  ;; 1148: whether 1 can be written to, its number 43
  (data (i32.const 1148) "\2b\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
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
    (if (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 2000)) (then unreachable))
    (if (i64.eqz (i64.load (i32.const 2000))) (then unreachable))
    (local.set $p (call $alloc (local.get $n)))
    (if (local.get $old) (then (memory.copy (local.get $p) (local.get $old) (local.get $oldn))))
    (local.get $p))
  (global $out (mut i32) (i32.const 0))
  (global $outn (mut i32) (i32.const 0))
  (func $say (param $fd i32) (param $p i32) (param $n i32)
    (i32.store (i32.const 2048) (local.get $p))
    (i32.store (i32.const 2052) (local.get $n))
    (if (call $fd_write (local.get $fd) (i32.const 2048) (i32.const 1) (i32.const 2056)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 2056)) (local.get $n)) (then unreachable)))
  (func (export "_initialize")
    (call $say (i32.const 1) (i32.const 1024) (i32.const 10))
    (if (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 1200)) (then unreachable))
    (if (call $random_get (i32.const 1208) (i32.const 8)) (then unreachable)))
  ;; Keeps the first output's name for the sends. A handler of two letters fails.
  (func $open (export "keyrail:handler/guest@0.1.0#open")
    (param $handler i32) (param $n i32) (param i32 i32) (param $outputs i32) (param $count i32) (param i32 i32 i32) (result i32)
    (if (local.get $count) (then
      (global.set $out (i32.load (local.get $outputs)))
      (global.set $outn (i32.load offset=4 (local.get $outputs)))))
    (global.set $base (global.get $top))
    (if (i32.eq (local.get $n) (i32.const 2)) (then
      (call $say (i32.const 2) (i32.const 1034) (i32.const 8))
      (unreachable)))
    (call $say (i32.const 1) (i32.const 1034) (i32.const 10))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))
  (func $crash unreachable)
  ;; A send without key, with this value.
  (func $tell (param $slot i32) (param $p i32) (param $n i32)
    (call $send (local.get $slot) (global.get $out) (global.get $outn)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (local.get $p) (local.get $n)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 48))
    (if (i32.load8_u (i32.const 48)) (then unreachable)))
  (func $tell-time (param $slot i32)
    (if (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 2064)) (then unreachable))
    (if (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 2072)) (then unreachable))
    (call $tell (local.get $slot) (i32.const 2064) (i32.const 16)))
  (func $one (param $slot i32) (param $m i32) (param $o i32)
    (local $case i32) (local $p i32) (local $n i32)
    (local.set $case (i32.load8_u (i32.load offset=48 (local.get $m))))
    (local.set $p (i32.add (i32.load offset=48 (local.get $m)) (i32.const 1)))
    (local.set $n (i32.sub (i32.load offset=52 (local.get $m)) (i32.const 1)))
    ;; o, e: the rest to the standard output, or error
    (if (i32.eq (local.get $case) (i32.const 111)) (then (call $say (i32.const 1) (local.get $p) (local.get $n))))
    (if (i32.eq (local.get $case) (i32.const 101)) (then (call $say (i32.const 2) (local.get $p) (local.get $n))))
    ;; u: the same to the standard error, and a trap
    (if (i32.eq (local.get $case) (i32.const 117)) (then
      (call $say (i32.const 2) (local.get $p) (local.get $n)) (call $crash)))
    ;; x: the end
    (if (i32.eq (local.get $case) (i32.const 120)) (then (call $proc_exit (i32.const 7))))
    ;; t: the time; s: after a sleep of a second; w: after a wait for what is ready
    (if (i32.eq (local.get $case) (i32.const 116)) (then (call $tell-time (local.get $slot))))
    (if (i32.eq (local.get $case) (i32.const 115)) (then
      (if (call $poll_oneoff (i32.const 1100) (i32.const 2100) (i32.const 1) (i32.const 2096)) (then unreachable))
      (call $tell (local.get $slot) (i32.const 2096) (i32.const 36))
      (call $tell-time (local.get $slot))))
    (if (i32.eq (local.get $case) (i32.const 119)) (then
      (if (call $poll_oneoff (i32.const 1100) (i32.const 2100) (i32.const 2) (i32.const 2096)) (then unreachable))
      (call $tell (local.get $slot) (i32.const 2096) (i32.const 36))
      (call $tell-time (local.get $slot))))
    ;; r: sixteen random bytes
    (if (i32.eq (local.get $case) (i32.const 114)) (then
      (if (call $random_get (i32.const 2064) (i32.const 16)) (then unreachable))
      (call $tell (local.get $slot) (i32.const 2064) (i32.const 16))))
    ;; i: the clock and chance at the start
    (if (i32.eq (local.get $case) (i32.const 105)) (then
      (call $tell (local.get $slot) (i32.const 1200) (i32.const 16))))
    ;; f: what becomes of files: four errors and a count
    (if (i32.eq (local.get $case) (i32.const 102)) (then
      (i32.store8 (i32.const 2064) (call $path_open (i32.const 3) (i32.const 0) (local.get $p) (local.get $n) (i32.const 0)
        (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 2080)))
      (i32.store8 (i32.const 2065) (call $fd_prestat_get (i32.const 3) (i32.const 2080)))
      (i32.store8 (i32.const 2066) (call $fd_write (i32.const 3) (i32.const 2048) (i32.const 0) (i32.const 2080)))
      (i32.store (i32.const 2080) (i32.const 99))
      (i32.store8 (i32.const 2067) (call $fd_read (i32.const 0) (i32.const 2048) (i32.const 0) (i32.const 2080)))
      (i32.store8 (i32.const 2068) (i32.load (i32.const 2080)))
      (i32.store (i32.const 2080) (i32.const 99))
      (if (call $environ_sizes_get (i32.const 2080) (i32.const 2084)) (then unreachable))
      (i32.store8 (i32.const 2069) (i32.load (i32.const 2080)))
      (call $tell (local.get $slot) (i32.const 2064) (i32.const 6)))))
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
