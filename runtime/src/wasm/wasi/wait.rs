//! `wasi:io/poll`: what a guest can wait for. Time does not pass while it waits for a clock alone; for an answer, it does.

use super::{Store, World, call};
use crate::http::{GRACE, wait_for_any};
use crate::wasm::call::Ctx;
use std::time::{Duration, Instant};
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};

pub(super) struct Pollable;
pub(super) type PollableHandle = Resource<Pollable>;

/// What a pollable stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// Nothing that has to be waited for.
    Over,
    /// A moment of the steady clock, and when so much time will really have passed, if ever.
    Until { due_ns: u64, passed: Option<Instant> },
    /// The answer to that request.
    Answer(u32),
}

impl World {
    /// A new pollable's number. The store's limit on handles is one on these, too.
    pub(super) fn subscribe(&mut self, wait: Wait) -> u32 {
        let free = self.pollables.iter().position(Option::is_none);
        let index = free.unwrap_or(self.pollables.len());
        if free.is_none() {
            self.pollables.push(None);
        }
        self.pollables[index] = Some(wait);
        index as u32
    }

    /// A new pollable that is ready at that moment of the steady clock.
    pub(super) fn subscribe_until(&mut self, due_ns: u64) -> PollableHandle {
        let left = Duration::from_nanos(due_ns.saturating_sub(self.steady_ns));
        let passed = Instant::now().checked_add(left);
        PollableHandle::new_own(self.subscribe(Wait::Until { due_ns, passed }))
    }

    fn drop_pollable(&mut self, number: u32) {
        if let Some(wait) = self.pollables.get_mut(number as usize) {
            *wait = None;
        }
    }

    /// What it stands for: one that is not there, for nothing.
    fn wait(&self, number: u32) -> Wait {
        self.pollables.get(number as usize).copied().flatten().unwrap_or(Wait::Over)
    }

    fn is_ready(&mut self, number: u32) -> bool {
        match self.wait(number) {
            Wait::Over => true,
            Wait::Until { due_ns, .. } => due_ns <= self.steady_ns,
            // One that is gone has ended with its call.
            Wait::Answer(request) => self.http.is_over(request),
        }
    }

    /// Those that are ready, by their places.
    fn ready(&mut self, all: &[PollableHandle]) -> Vec<u32> {
        // A list that came out of a guest's memory is shorter than 2^32.
        let places = all.iter().enumerate().filter(|(_, one)| self.is_ready(one.rep()));
        places.map(|(place, _)| place as u32).collect()
    }
}

/// Those that are ready, by their places; if none is, once the first of them is.
fn poll(ctx: &mut Ctx, all: &[PollableHandle]) -> Vec<u32> {
    let ready = ctx.wasi.ready(all);
    if !ready.is_empty() {
        return ready;
    }
    wait(ctx, all);
    ctx.wasi.ready(all)
}

/// None is ready: makes the first so.
fn wait(ctx: &mut Ctx, all: &[PollableHandle]) {
    let world = &mut ctx.wasi;
    let (mut due, mut requests) = (None::<(u64, Option<Instant>)>, Vec::new());
    for one in all {
        match world.wait(one.rep()) {
            Wait::Until { due_ns, passed } if due.is_none_or(|(first_ns, _)| due_ns < first_ns) => {
                due = Some((due_ns, passed));
            }
            Wait::Answer(request) => requests.push(request),
            Wait::Until { .. } | Wait::Over => {}
        }
    }
    let under_way: Vec<_> = requests.iter().filter_map(|request| world.http.pending(*request)).collect();
    if !under_way.is_empty() {
        let started = Instant::now();
        let over = ctx.reach.scope.as_ref().map_or(started, |scope| scope.until() + GRACE);
        let passed = due.and_then(|(_, passed)| passed).filter(|passed| *passed <= over);
        let came = wait_for_any(under_way, passed.unwrap_or(over));
        ctx.reach.wait(started.elapsed());
        if came {
            return;
        }
        // The call's time for requests is over.
        if passed.is_none() {
            requests.iter().for_each(|request| world.http.give_up(*request));
            return;
        }
    }
    match due {
        Some((due_ns, _)) => world.sleep_until(due_ns),
        None => requests.iter().for_each(|request| world.http.give_up(*request)),
    }
}

pub(super) fn resource(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    if name != "pollable" {
        return Ok(false);
    }
    linker.resource(name, ResourceType::host::<Pollable>(), |mut store, number| {
        store.data_mut().wasi.drop_pollable(number);
        Ok(())
    })?;
    Ok(true)
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[method]pollable.ready" => linker.func_wrap(name, |store: Store<'_>, (one,): (PollableHandle,)| {
            call(store, |ctx| Ok(ctx.wasi.is_ready(one.rep())))
        }),
        "[method]pollable.block" => linker.func_wrap(name, |store: Store<'_>, (one,): (PollableHandle,)| {
            call(store, |ctx| Ok(poll(ctx, &[one]))).map(drop)
        }),
        "poll" => linker.func_wrap(name, |store: Store<'_>, (all,): (Vec<PollableHandle>,)| {
            let ready = call(store, |ctx| Ok(poll(ctx, &all)))?;
            if ready.0.is_empty() { Err(wasmtime::format_err!("poll of nothing")) } else { Ok(ready) }
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pollable_s_number_is_used_again() {
        let mut world = World::default();
        let clock = world.subscribe_until(5);
        assert_eq!((clock.rep(), world.subscribe(Wait::Answer(3))), (0, 1));
        assert_eq!(
            (world.is_ready(0), world.is_ready(1), world.is_ready(9)),
            (false, true, true),
            "no such request, or pollable"
        );
        world.drop_pollable(0);
        world.drop_pollable(9);
        assert!(world.is_ready(0));
        assert_eq!(world.subscribe_until(u64::MAX).rep(), 0);
        world.sleep_until(5);
        assert!(!world.is_ready(0));
    }
}
