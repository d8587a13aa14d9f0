//! What a warm dispatch costs: `cargo run --release -p sim --example step_cost`.
//!
//! One request arrives and finishes, two steps, on a pool with so many instances; the median of several
//! rounds, beside what the same loop costs without the pool.

use model::Time;
use policy::keepalive::Policy;
use policy::pool::{Command, Event};
use policy::{InstanceKey, Pool, PoolConfig, RequestKey};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const REQUESTS: u64 = 200_000;

fn main() {
    println!(
        "{:<10} {:>9} {:>10} {:>16} {:>14}",
        "keep-alive", "instances", "in flight", "ns per request", "ns per step"
    );
    for keep in [Policy::Fixed, Policy::Learned] {
        for (instances, in_flight) in [(1, 0), (32, 0), (32, 16), (32, 31), (1_000, 0), (1_000, 500)] {
            let mut costs: Vec<_> = (0..ROUNDS).map(|_| cost(keep, instances, in_flight)).collect();
            costs.sort_by(f64::total_cmp);
            let (median, keep) = (costs[ROUNDS / 2], format!("{keep:?}"));
            println!("{keep:<10} {instances:>9} {in_flight:>10} {median:>16.1} {:>14.1}", median / 2.0);
        }
    }
    println!("an empty pool: {} bytes", size_of::<Pool>());
}

/// Nanoseconds per request: with `in_flight` others running, one arrives and the oldest finishes.
fn cost(keep_policy: Policy, instances: u64, in_flight: u64) -> f64 {
    let config = PoolConfig { keep_policy, spread_bound: Duration::ZERO, ..PoolConfig::default() };
    let mut pool = Pool::new(config);
    let mut commands = Vec::with_capacity(16);
    let mut running: VecDeque<(RequestKey, InstanceKey)> = VecDeque::new();
    for request in (0..instances).map(RequestKey) {
        pool.step(Time::ZERO, Event::Arrived { request }, &mut commands);
        let Some(Command::Ask { instance }) = commands.pop() else { unreachable!("asks for each at first") };
        pool.step(Time::ZERO, Event::Granted { instance }, &mut commands);
        running.push_back((request, instance));
    }
    for &(request, instance) in &running {
        commands.clear();
        pool.step(Time::from_millis(1), Event::Started { instance }, &mut commands);
        assert_eq!(commands, [Command::Dispatch { request, instance }], "in order of arrival");
    }
    let finish = |pool: &mut Pool, now, running: &mut VecDeque<(RequestKey, InstanceKey)>| {
        let (request, instance) = running.pop_front().expect("something runs");
        pool.step(now, Event::Finished { instance, request }, &mut Vec::new());
    };
    while running.len() as u64 > in_flight {
        finish(&mut pool, Time::from_millis(2), &mut running);
    }
    let begin = Instant::now();
    for request in (0..REQUESTS).map(|n| RequestKey(instances + n)) {
        let now = Time(3_000_000 + request.0 * 1_000);
        commands.clear();
        pool.step(now, Event::Arrived { request }, &mut commands);
        let Some(&Command::Dispatch { instance, .. }) = commands.last() else {
            unreachable!("an instance is idle")
        };
        running.push_back((request, instance));
        finish(&mut pool, now, &mut running);
        black_box(pool.wake_at());
    }
    begin.elapsed().as_nanos() as f64 / REQUESTS as f64
}
