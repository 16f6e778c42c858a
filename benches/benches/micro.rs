//! All operations under criterion. Without `--bench`, as `cargo test` starts it, each runs a few times at a
//! small size and nothing is timed.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use hrotti_benches::operations::{Run, Scale, all};

fn main() {
    let timed = std::env::args().any(|argument| argument == "--bench");
    let scale = if timed { Scale::Full } else { Scale::Small };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for operations in all(scale).chunk_by(|one, next| one.group() == next.group()) {
        let Some(first) = operations.first() else { continue };
        let mut group = criterion.benchmark_group(first.group());
        for operation in operations {
            group.throughput(Throughput::Elements(operation.elements()));
            // Prepared only if the command line asks for it.
            let mut started: Option<Run> = None;
            group.bench_function(operation.name(), |bencher| {
                bencher.iter(started.get_or_insert_with(|| operation.start()));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
