;; WASI preview 1 for core modules, with nothing behind it; wit-component puts it between the module and the host. It is
;; kept as preview1.wasm beside it, and a test holds that to this text.
;;
;; IMPORTANT: the clock and chance call nothing. Go collects garbage while the host asks it for memory, looks at the
;; clock then, and a component must not call out of there. So the host says both before each call, by `begin`.
;; There is room for i64 globals only: of others wit-component would make a stack.
(module
  (import "env" "memory" (memory 0))
  (import "keyrail:adapter/host@0.1.0" "write" (func $write (param i32 i32 i32)))
  (import "keyrail:adapter/host@0.1.0" "now-ms" (func $now-ms (result i64)))
  (import "keyrail:adapter/host@0.1.0" "exit" (func $exit (param i32)))

  ;; Nanoseconds since the Unix epoch; 0 before anything is known. Sleeping moves it on.
  (global $wall (mut i64) (i64.const 0))
  ;; The same, and never back.
  (global $steady (mut i64) (i64.const 0))
  ;; What the next random number follows from. Before the first call it is the same for all.
  (global $chance (mut i64) (i64.const 0))

  (func (export "keyrail:adapter/call@0.1.0#begin") (param $now-ms i64) (param $seed i64)
    (call $set-clock (local.get $now-ms))
    (global.set $chance (local.get $seed)))

  (func $set-clock (param $ms i64)
    (global.set $wall (i64.mul (local.get $ms) (i64.const 1000000)))
    (if (i64.gt_s (global.get $wall) (global.get $steady)) (then (global.set $steady (global.get $wall)))))

  ;; While it is instantiated nobody has said the time yet.
  (func $look-at-clock
    (if (i64.eqz (global.get $wall)) (then (call $set-clock (call $now-ms)))))

  ;; Nothing waits here: a sleep moves the clocks on, at most by 36 years.
  (func $sleep (param $ns i64)
    (if (i64.gt_u (local.get $ns) (i64.const 0x1000000000000000))
      (then (local.set $ns (i64.const 0x1000000000000000))))
    (global.set $wall (i64.add (global.get $wall) (local.get $ns)))
    (global.set $steady (i64.add (global.get $steady) (local.get $ns))))

  ;; splitmix64, as the host has it.
  (func $random (result i64)
    (local $z i64)
    (global.set $chance (i64.add (global.get $chance) (i64.const 0x9e3779b97f4a7c15)))
    (local.set $z (global.get $chance))
    (local.set $z (i64.mul
      (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 30))) (i64.const 0xbf58476d1ce4e5b9)))
    (local.set $z (i64.mul
      (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 27))) (i64.const 0x94d049bb133111eb)))
    (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 31))))

  ;; Errors by their numbers: 8 badf, 28 inval, 52 nosys, 57 notsock, 58 notsup, 70 spipe.

  ;; badf, unless it is one of the three that are open.
  (func $standard (param $fd i32) (result i32)
    (select (i32.const 0) (i32.const 8) (i32.lt_u (local.get $fd) (i32.const 3))))
  ;; What a pipe can't do.
  (func $of-pipe (param $fd i32) (result i32)
    (select (i32.const 70) (i32.const 8) (i32.lt_u (local.get $fd) (i32.const 3))))
  (func $of-socket (param $fd i32) (result i32)
    (select (i32.const 57) (i32.const 8) (i32.lt_u (local.get $fd) (i32.const 3))))

  ;; No arguments, no environment.
  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (func $nothing-to-get (param i32 i32) (result i32) (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (export "args_get" (func $nothing-to-get))
  (export "environ_get" (func $nothing-to-get))

  (func (export "clock_res_get") (param $clock i32) (param $to i32) (result i32)
    (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
    (i64.store (local.get $to) (i64.const 1000000))
    (i32.const 0))
  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $to i32) (result i32)
    (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
    (call $look-at-clock)
    (i64.store (local.get $to) (select (global.get $steady) (global.get $wall) (local.get $clock)))
    (i32.const 0))

  (func (export "random_get") (param $to i32) (param $n i32) (result i32)
    (local $i i32) (local $bits i64)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (if (i32.eqz (i32.and (local.get $i) (i32.const 7))) (then (local.set $bits (call $random))))
      (i64.store8 (i32.add (local.get $to) (local.get $i)) (local.get $bits))
      (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.const 0))

  (func (export "sched_yield") (result i32) (i32.const 0))
  (func (export "proc_exit") (param $code i32) (call $exit (local.get $code)) (unreachable))
  (func (export "proc_raise") (param i32) (result i32) (i32.const 52))

  ;; What is written to 1 and 2 goes to the host, which makes lines of it.
  (func (export "fd_write") (param $fd i32) (param $iov i32) (param $n i32) (param $to i32) (result i32)
    (local $sum i32) (local $bytes i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (local.set $bytes (i32.load offset=4 (local.get $iov)))
      (if (local.get $bytes) (then
        (call $write (local.get $fd) (i32.load (local.get $iov)) (local.get $bytes))))
      (local.set $sum (i32.add (local.get $sum) (local.get $bytes)))
      (local.set $iov (i32.add (local.get $iov) (i32.const 8)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
    (i32.store (local.get $to) (local.get $sum))
    (i32.const 0))
  ;; 0 is at its end.
  (func (export "fd_read") (param $fd i32) (param $iov i32) (param $n i32) (param $to i32) (result i32)
    (if (local.get $fd) (then (return (i32.const 8))))
    (i32.store (local.get $to) (i32.const 0))
    (i32.const 0))

  ;; The three are terminals to the guest, so that it writes line by line.
  (func (export "fd_fdstat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.ge_u (local.get $fd) (i32.const 3)) (then (return (i32.const 8))))
    (i64.store (local.get $to) (i64.const 2))
    (i64.store offset=8 (local.get $to) (select (i64.const 64) (i64.const 2) (local.get $fd)))
    (i64.store offset=16 (local.get $to) (i64.const 0))
    (i32.const 0))
  (func (export "fd_filestat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.ge_u (local.get $fd) (i32.const 3)) (then (return (i32.const 8))))
    (i64.store (local.get $to) (i64.const 0))
    (i64.store offset=8 (local.get $to) (i64.const 0))
    (i64.store offset=16 (local.get $to) (i64.const 2))
    (i64.store offset=24 (local.get $to) (i64.const 1))
    (i64.store offset=32 (local.get $to) (i64.const 0))
    (i64.store offset=40 (local.get $to) (i64.const 0))
    (i64.store offset=48 (local.get $to) (i64.const 0))
    (i64.store offset=56 (local.get $to) (i64.const 0))
    (i32.const 0))
  (func (export "fd_close") (param i32) (result i32) (call $standard (local.get 0)))
  (func (export "fd_sync") (param i32) (result i32) (call $standard (local.get 0)))
  (func (export "fd_datasync") (param i32) (result i32) (call $standard (local.get 0)))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (call $standard (local.get 0)))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (call $standard (local.get 0)))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (call $of-pipe (local.get 0)))
  (func (export "fd_tell") (param i32 i32) (result i32) (call $of-pipe (local.get 0)))

  ;; No folder is given, so there is none that a path could begin at.
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (call $of-socket (local.get 0)))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (call $of-socket (local.get 0)))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (call $of-socket (local.get 0)))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (call $of-socket (local.get 0)))

  ;; How long a subscription waits, in nanoseconds. One for a file does not.
  (func $wait (param $subscription i32) (result i64)
    (local $timeout i64) (local $now i64)
    (if (i32.load8_u offset=8 (local.get $subscription)) (then (return (i64.const 0))))
    (local.set $timeout (i64.load offset=24 (local.get $subscription)))
    (if (i32.eqz (i32.and (i32.load16_u offset=40 (local.get $subscription)) (i32.const 1)))
      (then (return (local.get $timeout))))
    (local.set $now (select (global.get $steady) (global.get $wall) (i32.load offset=16 (local.get $subscription))))
    (if (i64.le_u (local.get $timeout) (local.get $now)) (then (return (i64.const 0))))
    (i64.sub (local.get $timeout) (local.get $now)))

  ;; Tells of those that wait shortest, and lets that time have passed. Of a file: 0 is at its end, 1 and 2 take whatever
  ;; comes, and no other is open.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $n i32) (param $to i32) (result i32)
    (local $i i32) (local $at i32) (local $least i64) (local $tag i32) (local $fd i32) (local $told i32)
    (if (i32.eqz (local.get $n)) (then (return (i32.const 28))))
    (call $look-at-clock)
    (local.set $least (i64.const -1))
    (loop $next
      (local.set $at (i32.add (local.get $in) (i32.mul (local.get $i) (i32.const 48))))
      (if (i64.lt_u (call $wait (local.get $at)) (local.get $least))
        (then (local.set $least (call $wait (local.get $at)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
    (local.set $i (i32.const 0))
    (loop $next
      (local.set $at (i32.add (local.get $in) (i32.mul (local.get $i) (i32.const 48))))
      (if (i64.le_u (call $wait (local.get $at)) (local.get $least)) (then
        (local.set $tag (i32.load8_u offset=8 (local.get $at)))
        (local.set $fd (i32.load offset=16 (local.get $at)))
        (i64.store (local.get $out) (i64.load (local.get $at)))
        (i64.store offset=8 (local.get $out) (i64.const 0))
        (i32.store8 offset=10 (local.get $out) (local.get $tag))
        (i64.store offset=16 (local.get $out) (i64.const 0))
        (i64.store offset=24 (local.get $out) (i64.const 0))
        (if (i32.eq (local.get $tag) (i32.const 1)) (then
          (if (local.get $fd)
            (then (i32.store16 offset=8 (local.get $out) (i32.const 8)))
            (else (i32.store16 offset=24 (local.get $out) (i32.const 1))))))
        (if (i32.eq (local.get $tag) (i32.const 2)) (then
          (if (i32.le_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1))
            (then (i64.store offset=16 (local.get $out) (i64.const 65536)))
            (else (i32.store16 offset=8 (local.get $out) (i32.const 8))))))
        (local.set $out (i32.add (local.get $out) (i32.const 32)))
        (local.set $told (i32.add (local.get $told) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
    (call $sleep (local.get $least))
    (i32.store (local.get $to) (local.get $told))
    (i32.const 0))
)
