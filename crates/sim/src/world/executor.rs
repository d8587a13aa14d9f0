//! The executor and the misfortunes: how long things take and what goes wrong.

use super::{End, Happening, Live, Message, World};
use crate::pooling::{Broken, Stage};
use crate::scenario::{draw_freezing, draw_pool};
use model::MiB;
use policy::budget::{self, BudgetConfig, PoolKey};
use policy::pool::Event;
use policy::{InstanceKey, PoolConfig, RequestKey};
use std::time::Duration;

/// How often an instance's memory is observed.
const OBSERVED_EVERY: Duration = Duration::from_millis(200);

/// Requests that arrive again have names from here on.
const AGAIN: u64 = 1 << 32;

impl World<'_> {
    pub(super) fn start(&mut self, pool: PoolKey, instance: InstanceKey) {
        self.report.starts += 1;
        let (faults, function) = (self.faults(), self.members[&pool].function);
        self.report.provided += u64::from(self.members[&pool].account.providing.has(instance));
        let plan = self.plan(function);
        let mut span = plan.spread.draw(plan.start, &mut self.random);
        if self.random.chance(faults.slow_start) {
            span *= 20;
        }
        let ok = !self.random.chance(faults.failed_start);
        self.after(span, plan.start_work, Happening::StartEnds { pool, instance, ok });
        if let Some(member) = self.members.get_mut(&pool) {
            member.memory.insert(instance, (MiB(1), self.now));
            member.unused.insert(instance);
        }
    }

    pub(super) fn start_ends(
        &mut self,
        pool: PoolKey,
        instance: InstanceKey,
        ok: bool,
    ) -> Result<(), Broken> {
        let Some(member) = self.members.get_mut(&pool) else { return Ok(()) };
        if !ok {
            self.bury(pool, instance);
            return self.tell_pool(pool, Event::StartFailed { instance });
        }
        let Some((memory, since)) = member.memory.get_mut(&instance) else { return Ok(()) };
        *memory = self.scenario.functions[member.function].memory;
        member.inits.insert(instance, self.now.since(*since));
        self.tell_pool(pool, Event::Started { instance })?;
        if let Some(member) = self.members.get_mut(&pool) {
            member.inits.remove(&instance);
        }
        self.observe(pool, instance);
        Ok(())
    }

    pub(super) fn request_ends(
        &mut self,
        pool: PoolKey,
        instance: InstanceKey,
        request: RequestKey,
        crash: bool,
    ) -> Result<(), Broken> {
        let Some(member) = self.members.get(&pool) else { return Ok(()) };
        let runs = member.account.instances.get(&instance).is_some_and(|i| i.running.contains_key(&request));
        if !runs {
            // Word of a request whose instance is gone already; the pool must not be confused by it.
            return self.tell_pool(pool, Event::Finished { instance, request });
        }
        if crash {
            return self.lose(pool, instance);
        }
        self.end(request, End::Finished)?;
        self.tell_pool(pool, Event::Finished { instance, request })
    }

    /// An instance is gone, and all that it ran.
    pub(super) fn lose(&mut self, pool: PoolKey, instance: InstanceKey) -> Result<(), Broken> {
        let Some(member) = self.members.get(&pool) else { return Ok(()) };
        let Some(lost) = member.account.instances.get(&instance) else { return Ok(()) };
        // What was to be run by one that could not be thawed goes elsewhere.
        let ran = if member.stuck.contains(&instance) {
            Vec::new()
        } else {
            lost.running.keys().copied().collect()
        };
        for request in ran {
            self.end(request, End::Crashed)?;
        }
        self.bury(pool, instance);
        self.tell_pool(pool, Event::Lost { instance })
    }

    pub(super) fn bury(&mut self, pool: PoolKey, instance: InstanceKey) {
        let Some(member) = self.members.get_mut(&pool) else { return };
        self.report.unused += u64::from(member.unused.remove(&instance));
        member.paged_out.remove(&instance);
        member.stuck.remove(&instance);
        if let Some((_, since)) = member.memory.remove(&instance) {
            self.report.instance_time += self.now.since(since);
        }
    }

    /// Samples what an instance uses; it grows a little each time.
    pub(super) fn observe(&mut self, pool: PoolKey, instance: InstanceKey) {
        let Some(member) = self.members.get_mut(&pool) else { return };
        let plan = &self.scenario.functions[member.function];
        let Some((memory, _)) = member.memory.get_mut(&instance) else { return };
        let used = *memory;
        if member.paged_out.contains_key(&instance) {
            self.message(Message::ToBudget(budget::Event::PagedOut { pool, instance, used }));
            self.later(OBSERVED_EVERY, Happening::Observe { pool, instance });
            return;
        }
        memory.0 = (memory.0 + memory.0 / 8).min(plan.memory.0 * 2).min(plan.limit.0);
        // A provisioned one may be there for hours: once it has stopped growing there is nothing to see.
        let is_grown = *memory == used && member.account.providing.has(instance);
        self.message(Message::ToBudget(budget::Event::Observed { pool, instance, used }));
        if !is_grown {
            self.later(OBSERVED_EVERY, Happening::Observe { pool, instance });
        }
    }

    /// Almost nothing is left of an instance's memory, if it is still to be paged out.
    pub(super) fn page_out_ends(&mut self, pool: PoolKey, instance: InstanceKey) {
        let Some(member) = self.members.get_mut(&pool) else { return };
        let wanted = member.account.instances.get(&instance).is_some_and(|instance| instance.paged_out);
        let Some((memory, _)) = member.memory.get_mut(&instance).filter(|_| wanted) else { return };
        let used = MiB(1).min(*memory);
        member.paged_out.entry(instance).or_insert(std::mem::replace(memory, used));
        self.message(Message::ToBudget(budget::Event::PagedOut { pool, instance, used }));
    }

    /// The memory of a frozen instance is its own again, unless it can not be thawed.
    pub(super) fn thaw(&mut self, pool: PoolKey, instance: InstanceKey) {
        let fails = self.random.chance(self.faults().failed_thaw);
        let Some(member) = self.members.get_mut(&pool) else { return };
        if fails {
            self.report.thaws_failed += 1;
            member.stuck.insert(instance);
            return;
        }
        self.report.thawed += 1;
        if let Some(used) = member.paged_out.remove(&instance)
            && let Some((memory, _)) = member.memory.get_mut(&instance)
        {
            *memory = used;
            self.message(Message::ToBudget(budget::Event::Thawed { pool, instance }));
        }
    }

    /// The request arrives again, under another name, as one that never ran.
    pub(super) fn thaw_fails(
        &mut self,
        pool: PoolKey,
        instance: InstanceKey,
        request: RequestKey,
    ) -> Result<(), Broken> {
        self.lose(pool, instance)?;
        let Some(live) = self.requests.remove(&request) else {
            return Err(format!("{request} has ended, and its instance could not be thawed"));
        };
        self.again += 1;
        let (request, pool) = (RequestKey(AGAIN + self.again), self.current[live.function]);
        self.requests.insert(request, Live { pool, ..live });
        self.tell_pool(pool, Event::Arrived { request })
    }

    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        self.faults_left -= 1;
        if self.is_calm() || self.faults_left == 0 {
            let config = self.scenario.budget.clone();
            return self.tell_budget(budget::Event::Reconfigured(config));
        }
        let function = self.random.below(self.current.len() as u64) as usize;
        let pool = self.current[function];
        match self.random.below(6) {
            0 => self.kill(pool, |stage| matches!(stage, Stage::Starting(_)))?,
            1 => self.kill(pool, |stage| matches!(stage, Stage::Ready(_)))?,
            2 => {
                let PoolConfig { keep_policy, keep_bin, .. } = self.plan(function).pool;
                let mut config = PoolConfig { keep_policy, keep_bin, ..draw_pool(&mut self.random) };
                draw_freezing(&mut config, &mut self.random);
                self.tell_pool(pool, Event::Reconfigured(config))?;
            }
            3 => {
                let config = self.members[&pool].account.config.clone();
                self.current[function] = self.add_pool(function, config);
                self.tell_pool(pool, Event::Retired)?;
                let instances = self.wanted[function];
                if instances > 0 {
                    self.tell_pool(self.current[function], Event::Provision { instances })?;
                }
            }
            4 => {
                let reserved =
                    self.random.pick(&[None, None, None, None, Some(0), Some(2), Some(400), Some(2_000)]);
                self.flights.reserve(&mut self.concurrency, function, reserved)?;
            }
            _ => {
                let limit = MiB(1 + self.random.below(u64::from(self.scenario.budget.limit.0) * 2) as u32);
                let config = BudgetConfig { limit, ..self.scenario.budget.clone() };
                self.tell_budget(budget::Event::Reconfigured(config))?;
            }
        }
        let delay = self.random.exponential(self.scenario.faults.interval);
        self.later(delay, Happening::Fault);
        Ok(())
    }

    /// Wants another number of provisioned instances, now and then, until everything has been sent: then the planned one.
    pub(super) fn provide(&mut self, function: usize) -> Result<(), Broken> {
        let most = self.plan(function).provisioned;
        if self.provides_left == 0 {
            return Ok(());
        }
        self.provides_left -= 1;
        let is_calm = self.is_calm() || self.provides_left == 0; // the last change is to the planned number
        let instances = match is_calm || self.wanted[function] == 0 {
            true => most,
            false => self.random.below(u64::from(most) + 1) as u32,
        };
        self.wanted[function] = instances;
        self.tell_pool(self.current[function], Event::Provision { instances })?;
        if !is_calm {
            let delay = self.random.exponential(Duration::from_millis(500));
            self.later(delay, Happening::Provide { function });
        }
        Ok(())
    }

    /// Kills an instance in such a stage, if there is one.
    pub(super) fn kill(&mut self, pool: PoolKey, wanted: impl Fn(Stage) -> bool) -> Result<(), Broken> {
        let instances = &self.members[&pool].account.instances;
        let candidates: Vec<_> =
            instances.iter().filter(|(_, i)| wanted(i.stage)).map(|(&key, _)| key).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let instance = self.random.pick(&candidates);
        if matches!(instances[&instance].stage, Stage::Starting(_)) {
            self.bury(pool, instance);
            return self.tell_pool(pool, Event::StartFailed { instance });
        }
        self.lose(pool, instance)
    }
}
