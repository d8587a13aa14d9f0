//! Writes made-up functions in the layout of the Azure Functions trace 2019:
//! `cargo run --release -p sim --example sample -- FOLDER FUNCTIONS HOURS SEED`.
//!
//! crates/sim/tests/sample is what it wrote for 24 functions, 6 hours and seed 5.

use model::Time;
use sim::replay::{Invocation, Profile};
use sim::trace::{Assumed, Shape, Sink, Synthetic, Trace};
use std::fmt::Write;

/// A function of which nothing but this was published.
struct Function {
    memory_mib: f64,
    minutes: Vec<u32>,
    durations_ms: Vec<f64>,
}

#[derive(Default)]
struct Tables {
    minutes: usize,
    functions: Vec<Function>,
}

impl Sink for Tables {
    fn open(&mut self, profile: Profile) -> usize {
        let minutes = vec![0; self.minutes];
        self.functions.push(Function { memory_mib: profile.memory_mib, minutes, durations_ms: vec![] });
        self.functions.len() - 1
    }

    fn invoke(&mut self, function: usize, invocation: Invocation) {
        let function = &mut self.functions[function];
        function.minutes[(invocation.at.0 / 60_000_000_000) as usize] += 1;
        function.durations_ms.push(invocation.takes.as_secs_f64() * 1e3);
    }

    fn close(&mut self, _: usize, _: Time) {}
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, functions, hours, seed] = &arguments[..] else { panic!("FOLDER FUNCTIONS HOURS SEED") };
    let number = |text: &String| text.parse::<u32>().expect("a whole number");
    let hours = number(hours);
    let mut tables = Tables { minutes: hours as usize * 60, ..Tables::default() };
    let seed = u64::from(number(seed));
    let synthetic = Synthetic { functions: number(functions), hours, seed, shape: Shape::Paper };
    Trace::Synthetic(synthetic).play(&Assumed::default(), &mut tables).expect("made up");

    let columns: Vec<String> = (1..=tables.minutes).map(|minute| minute.to_string()).collect();
    let mut invocations = format!("HashOwner,HashApp,HashFunction,Trigger,{}\n", columns.join(","));
    let shares = [0, 1, 25, 50, 75, 99, 100];
    let mut durations = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum".to_string();
    shares.iter().for_each(|share| write!(durations, ",percentile_Average_{share}").expect("written"));
    durations.push('\n');
    let mut memory = "HashOwner,HashApp,HashFunction,SampleCount,AverageAllocatedMb\n".to_string();
    for (number, function) in
        tables.functions.iter_mut().enumerate().filter(|(_, f)| !f.durations_ms.is_empty())
    {
        let key = format!("owner{number},app{number},function{number}");
        let counts: Vec<String> = function.minutes.iter().map(u32::to_string).collect();
        writeln!(invocations, "{key},others,{}", counts.join(",")).expect("written");
        function.durations_ms.sort_by(f64::total_cmp);
        let (times, count) = (&function.durations_ms, function.durations_ms.len());
        let average = times.iter().sum::<f64>() / count as f64;
        write!(durations, "{key},{average:.0},{count},{:.1},{:.1}", times[0], times[count - 1])
            .expect("written");
        for share in shares {
            write!(durations, ",{:.1}", times[(count - 1) * share / 100]).expect("written");
        }
        durations.push('\n');
        writeln!(memory, "{key},{count},{:.2}", function.memory_mib).expect("written");
    }
    for (name, text) in [("invocations", invocations), ("durations", durations), ("memory", memory)] {
        std::fs::write(format!("{folder}/{name}.csv"), text).expect("written");
    }
}
