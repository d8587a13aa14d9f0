//! The shell: feeds events to the state machines, has them checked and carries out their commands.

use super::{End, Happening, Message, World};
use crate::pooling::{Broken, ensure};
use crate::report::clock;
use model::Time;
use policy::budget::{self, PoolKey};
use policy::pool::{Command, Event, Reason};
use policy::{InstanceKey, RequestKey};
use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

/// A pool that waits this long for memory is never refused any because of starts that take long.
const PATIENT: Duration = Duration::from_secs(5);

/// No exchange of messages in one instant is longer; one that is goes round in circles.
const MAX_EXCHANGE: u64 = 10_000;

/// Steps of the log that a failure shows.
const LOG_LINES: usize = 80;

impl World<'_> {
    pub(super) fn tell_pool(&mut self, key: PoolKey, event: Event) -> Result<(), Broken> {
        let oldest_idle = matches!(event, Event::Reclaim { .. }).then(|| self.oldest_idle());
        let Some(member) = self.members.get_mut(&key) else {
            self.answer_for_dropped(key, event);
            return Ok(());
        };
        self.report.steps += 1;
        let mut commands = Vec::new();
        let own_oldest = member.account.idle().map(|idle| idle.1).min();
        member.account.event(self.now, &event);
        member.pool.step(self.now, event.clone(), &mut commands);
        (self.now, key, &event, &commands).hash(&mut self.digest);
        log(&mut self.log, || format!("{} {key} {event:?} -> {commands:?}", clock(self.now)));
        for command in &commands {
            member.account.command(self.now, command)?;
            let reclaimed = matches!(command, Command::Reclaimed { instance: Some(_), .. });
            if reclaimed && self.scenario.message_delay.is_zero() {
                ensure!(oldest_idle == Some(own_oldest), "{key} is reclaimed and another is idle for longer");
            }
        }
        member.account.check(self.now, &member.pool)?;
        for command in commands {
            self.carry_out(key, command)?;
        }
        self.arm(key);
        Ok(())
    }

    /// The budget must hear back even from a pool that is gone.
    fn answer_for_dropped(&mut self, pool: PoolKey, event: Event) {
        match event {
            Event::Reclaim { .. } => {
                let nothing = budget::Event::Reclaimed { pool, instance: None, oldest: None };
                self.message(Message::ToBudget(nothing));
            }
            Event::Granted { instance } => {
                self.message(Message::ToBudget(budget::Event::Released { pool, instance }));
            }
            _ => {}
        }
    }

    pub(super) fn carry_out(&mut self, pool: PoolKey, command: Command) -> Result<(), Broken> {
        match command {
            Command::Ask { instance } => {
                let plan = self.plan(self.members[&pool].function);
                let (limit, descriptors) = (plan.limit, 3 + plan.pool.instance_concurrency);
                self.message(Message::ToBudget(budget::Event::Ask { pool, instance, limit, descriptors }));
            }
            Command::AskAhead { instance } | Command::AskProvisioned { instance } => {
                let firm = matches!(command, Command::AskProvisioned { .. });
                let plan = self.plan(self.members[&pool].function);
                let (limit, descriptors) = (plan.limit, 3 + plan.pool.instance_concurrency);
                let ask = budget::Event::AskAhead { pool, instance, limit, descriptors, firm };
                self.message(Message::ToBudget(ask));
            }
            Command::Release { instance } => {
                self.message(Message::ToBudget(budget::Event::Released { pool, instance }));
            }
            Command::Start { instance } => self.start(pool, instance),
            Command::Dispatch { request, instance } => self.dispatch(pool, request, instance)?,
            Command::Refuse { request, reason } => {
                let config = &self.members[&pool].account.config;
                if reason == Reason::Memory && config.max_wait >= PATIENT {
                    self.ledger.check_refusal(self.now, config.max_wait)?;
                }
                self.end(request, End::Refused)?;
            }
            Command::Fail { request, .. } => self.end(request, End::Failed)?,
            Command::Stop { instance } => {
                let delay = self.random.exponential(Duration::from_millis(2));
                self.later(delay, Happening::StopEnds { pool, instance });
            }
            Command::Freeze { .. } => self.report.frozen += 1,
            Command::PageOut { instance } => {
                self.report.paged_out += 1;
                let delay = self.random.exponential(Duration::from_millis(2));
                self.later(delay, Happening::PageOutEnds { pool, instance });
            }
            Command::Thaw { instance } => self.thaw(pool, instance),
            Command::Reclaimed { instance, oldest } => {
                self.report.reclaims += u64::from(instance.is_some());
                self.message(Message::ToBudget(budget::Event::Reclaimed { pool, instance, oldest }));
            }
        }
        Ok(())
    }

    pub(super) fn dispatch(
        &mut self,
        pool: PoolKey,
        request: RequestKey,
        instance: InstanceKey,
    ) -> Result<(), Broken> {
        let (faults, member) = (self.faults(), &self.members[&pool]);
        if member.stuck.contains(&instance) {
            self.later(Duration::ZERO, Happening::ThawFails { pool, instance, request });
            return Ok(());
        }
        let is_provisioned = member.account.providing.has(instance);
        self.report.on_provided += u64::from(is_provisioned);
        // Nobody pays for the start of a provisioned one.
        let init = member.inits.get(&instance).copied().filter(|_| !is_provisioned);
        let plan = self.plan(member.function);
        let Some(live) = self.requests.get_mut(&request).filter(|live| live.pool == pool) else {
            return Err(format!("{request} is dispatched after its end"));
        };
        (live.dispatched, live.init) = (Some(self.now), init);
        self.report.waits.push(self.now.since(live.arrived));
        let span = plan.spread.draw(plan.service, &mut self.random);
        let crash = self.random.chance(faults.crash);
        self.after(span, plan.service_work, Happening::RequestEnds { pool, instance, request, crash });
        if let Some(member) = self.members.get_mut(&pool) {
            member.unused.remove(&instance);
        }
        Ok(())
    }

    /// Sets a pool's timer, or drops a retired pool that is empty.
    pub(super) fn arm(&mut self, key: PoolKey) {
        let slop = Duration::from_nanos(self.random.below(self.scenario.timer_slop.as_nanos() as u64));
        let Some(member) = self.members.get_mut(&key) else { return };
        if member.account.retired && member.pool.is_empty() {
            self.report.started_ahead += member.account.started_ahead;
            self.report.used_ahead += member.account.used_ahead;
            self.members.remove(&key);
            self.message(Message::ToBudget(budget::Event::Dropped { pool: key }));
            return;
        }
        if let Some(at) = member.pool.wake_at().filter(|&at| member.timer.is_none_or(|timer| at < timer)) {
            member.timer = Some(at);
            self.at(at + slop, Happening::PoolTimer { pool: key, due: at });
        }
    }

    pub(super) fn pool_timer(&mut self, key: PoolKey, due: Time) -> Result<(), Broken> {
        let member = self.members.get_mut(&key).filter(|member| member.timer == Some(due));
        let Some(member) = member else { return Ok(()) };
        member.timer = None;
        if member.pool.wake_at().is_some_and(|at| at <= self.now) {
            return self.tell_pool(key, Event::Wake);
        }
        self.arm(key);
        Ok(())
    }

    pub(super) fn tell_budget(&mut self, event: budget::Event) -> Result<(), Broken> {
        self.report.steps += 1;
        let mut commands = Vec::new();
        self.ledger.event(&event);
        self.budget.step(self.now, event.clone(), &mut commands);
        (self.now, &event, &commands).hash(&mut self.digest);
        log(&mut self.log, || format!("{} budget {event:?} -> {commands:?}", clock(self.now)));
        let mut granted = false;
        for command in &commands {
            self.ledger.command(self.now, command)?;
            granted |= matches!(command, budget::Command::Grant { .. });
        }
        self.report.peak_mib = self.report.peak_mib.max(u64::from(self.budget.stats().charged.0));
        self.ledger.check(self.now, &self.budget, granted)?;
        for command in commands {
            self.message(match command {
                budget::Command::Grant { pool, instance } => {
                    Message::ToPool(pool, Event::Granted { instance })
                }
                budget::Command::Deny { pool, instance } => Message::ToPool(pool, Event::Denied { instance }),
                budget::Command::GiveUp => continue,
                budget::Command::Reclaim { pool, unused_since } => {
                    Message::ToPool(pool, Event::Reclaim { unused_since })
                }
            });
        }
        self.arm_budget();
        Ok(())
    }

    pub(super) fn oldest_idle(&self) -> Option<Time> {
        self.members.values().flat_map(|member| member.account.idle()).map(|idle| idle.1).min()
    }

    pub(super) fn arm_budget(&mut self) {
        let slop = Duration::from_nanos(self.random.below(self.scenario.timer_slop.as_nanos() as u64));
        if let Some(at) = self.budget.wake_at().filter(|&at| self.budget_timer.is_none_or(|timer| at < timer))
        {
            self.budget_timer = Some(at);
            self.at(at + slop, Happening::BudgetTimer { due: at });
        }
    }

    /// Whether half a core had nothing to do since this was last asked, no longer than half a second ago.
    fn has_spare_time(&mut self) -> bool {
        let Some(processors) = &mut self.processors else { return true };
        let idle = (self.now, processors.idle(self.now));
        let last = std::mem::replace(&mut self.idle, idle);
        let span = self.now.since(last.0).as_nanos() as u64;
        (1..500_000_000).contains(&span) && (idle.1 - last.1) * 2 > span
    }

    pub(super) fn budget_timer(&mut self, due: Time) -> Result<(), Broken> {
        if self.budget_timer != Some(due) {
            return Ok(());
        }
        self.budget_timer = None;
        if self.budget.wake_at().is_some_and(|at| at <= self.now) {
            let spare = self.has_spare_time();
            return self.tell_budget(budget::Event::Wake { spare });
        }
        self.arm_budget();
        Ok(())
    }

    /// Sends a message between a pool and the budget, at once or a little later, in order or not.
    pub(super) fn message(&mut self, message: Message) {
        if self.scenario.message_delay.is_zero() {
            self.outbox.push_back(message);
            return;
        }
        let delay = Duration::from_nanos(self.random.below(self.scenario.message_delay.as_nanos() as u64));
        let direction = usize::from(matches!(message, Message::ToPool(..)));
        let mut at = self.now + delay;
        if !self.scenario.reorder {
            at = at.max(self.channel[direction]);
            self.channel[direction] = at;
        }
        self.at(at, Happening::Message(Box::new(message)));
    }

    pub(super) fn deliver(&mut self) -> Result<(), Broken> {
        let started = self.report.steps;
        while let Some(message) = self.outbox.pop_front() {
            ensure!(self.report.steps - started < MAX_EXCHANGE, "pools and budget talk without end");
            match message {
                Message::ToPool(pool, event) => self.tell_pool(pool, event)?,
                Message::ToBudget(event) => self.tell_budget(event)?,
            }
        }
        Ok(())
    }
}

fn log(log: &mut Option<VecDeque<String>>, line: impl FnOnce() -> String) {
    let Some(log) = log else { return };
    if log.len() == LOG_LINES {
        log.pop_front();
    }
    log.push_back(line());
}
