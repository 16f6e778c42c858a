//! Repeats one operation so many times, for a profiler or a counter of instructions.

use std::process::ExitCode;

use hrotti_benches::operations::{Scale, all};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = args.as_slice() else {
        println!("usage: repeat GROUP/NAME TIMES\n");
        all(Scale::Full).iter().for_each(|operation| println!("{operation:?}"));
        return ExitCode::FAILURE;
    };
    let operation = all(Scale::Full).into_iter().find(|one| format!("{one:?}") == *name);
    let (Some(operation), Ok(times)) = (operation, times.parse::<u64>()) else {
        println!("no such operation, or not a number: {name:?} {times:?}");
        return ExitCode::FAILURE;
    };
    let mut run = operation.start();
    for _ in 0..times {
        std::hint::black_box(run());
    }
    println!("{}", times * operation.elements());
    ExitCode::SUCCESS
}
