//! The rules of provisioned instances, checked: never more are asked for than are wanted, none is let go that is wanted,
//! and those that are missing are tried again, ever more seldom but never later than a bound.

use crate::pooling::{Broken, Stage, ensure};
use model::Time;
use policy::pool::{Event, Provisioned, Trouble};
use policy::{InstanceKey, Pool};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest time between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A pool's provisioned instances as seen from outside.
#[derive(Default)]
pub(crate) struct Providing {
    pub(crate) wanted: u32,
    instances: BTreeSet<InstanceKey>,
    /// The one that is asked for, until the answer.
    asked: Option<InstanceKey>,
    /// When anything last happened that may be a reason to wait.
    tried: Time,
}

impl Providing {
    /// Whether this is one of them.
    pub(crate) fn has(&self, instance: InstanceKey) -> bool {
        self.instances.contains(&instance)
    }

    /// An event that the pool is about to get; whether it is about one of these. `stage`: what an instance was doing.
    pub(crate) fn event(
        &mut self,
        now: Time,
        event: &Event,
        stage: impl Fn(&InstanceKey) -> Option<Stage>,
    ) -> bool {
        let about = match *event {
            Event::Provision { instances } => {
                (self.wanted, self.tried) = (instances, now);
                return false;
            }
            Event::Retired => {
                self.wanted = 0;
                return false;
            }
            Event::Granted { instance }
            | Event::Denied { instance }
            | Event::Started { instance }
            | Event::StartFailed { instance }
            | Event::Lost { instance } => instance,
            _ => return false,
        };
        if !self.has(about) {
            return false;
        }
        self.asked.take_if(|asked| *asked == about);
        let ends = match event {
            Event::Denied { .. } => stage(&about) == Some(Stage::Asked),
            Event::StartFailed { .. } => matches!(stage(&about), Some(Stage::Starting(_))),
            Event::Lost { .. } => !matches!(stage(&about), Some(Stage::Asked) | None),
            _ => false,
        };
        if ends {
            self.instances.remove(&about);
        }
        self.tried = now;
        true
    }

    pub(crate) fn check_ask(&mut self, now: Time, instance: InstanceKey) -> Result<(), Broken> {
        ensure!(self.asked.is_none(), "{instance} is asked for beside {:?}", self.asked);
        let have = self.instances.len();
        ensure!(have < self.wanted as usize, "{instance} is provided beside {have} of {}", self.wanted);
        self.instances.insert(instance);
        (self.asked, self.tried) = (Some(instance), now);
        Ok(())
    }

    /// One is taken back or stopped.
    pub(crate) fn check_withheld(&mut self, instance: InstanceKey) -> Result<(), Broken> {
        let have = self.instances.len();
        ensure!(have > self.wanted as usize, "{instance} is let go of {have}, {} are wanted", self.wanted);
        self.instances.remove(&instance);
        self.asked.take_if(|asked| *asked == instance);
        Ok(())
    }

    /// What the pool says of them.
    pub(crate) fn check(
        &self,
        pool: &Pool,
        stage: impl Fn(&InstanceKey) -> Option<Stage>,
    ) -> Result<(), Broken> {
        let count = |wanted: &dyn Fn(Stage) -> bool| {
            self.instances.iter().filter(|instance| stage(instance).is_some_and(wanted)).count() as u32
        };
        let Provisioned { wanted, allocated, available, .. } = pool.provisioned();
        let ready = count(&|stage| matches!(stage, Stage::Ready(_)));
        let starting = count(&|stage| matches!(stage, Stage::Starting(_)));
        let claimed = (wanted, allocated, available);
        let counted = (self.wanted, ready + starting, ready);
        ensure!(claimed == counted, "the pool counts {claimed:?} provisioned, there are {counted:?}");
        Ok(())
    }

    /// After a step; `idle` of them run nothing.
    pub(crate) fn check_surplus(&self, idle: usize) -> Result<(), Broken> {
        let surplus = self.instances.len().saturating_sub(self.wanted as usize);
        ensure!(surplus == 0 || idle == 0, "{surplus} more than wanted, and {idle} are idle");
        Ok(())
    }

    /// At any time: those that are missing were tried not too long ago.
    pub(crate) fn check_time(&self, now: Time, late: Duration) -> Result<(), Broken> {
        let missing = self.instances.len() < self.wanted as usize && self.asked.is_none();
        let waited = now.since(self.tried);
        ensure!(!missing || waited < MAX_PAUSE + late, "one is missing, and not tried for {waited:?}");
        Ok(())
    }

    /// At the end, when nothing has gone wrong for long: all are there, or the machine has no room for another.
    pub(crate) fn check_complete(&self, pool: &Pool, has_room: bool) -> Result<(), Broken> {
        let provisioned = pool.provisioned();
        let is_there = provisioned.available == self.wanted;
        let lacks_room = !has_room && provisioned.trouble == Some(Trouble::Room);
        ensure!(is_there || lacks_room, "not there again: {provisioned:?}, has room: {has_room}");
        Ok(())
    }
}
