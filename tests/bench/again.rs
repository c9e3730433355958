//! Plans a repository several times in one process, over kept connections. Prints the seconds that each plan took; for
//! no times at all, those that it took to connect to all hosts, one after the other.
#![allow(missing_docs, clippy::print_stdout)]

#[path = "../shared/planner.rs"]
mod planner;

use camino::Utf8PathBuf;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let (Some(repo), Some(times)) = (words.next(), words.next()) else {
        return println!("again REPO TIMES");
    };
    let planner = planner::Planner::new(&Utf8PathBuf::from(repo));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let times: usize = times.parse().expect("a number");
    if times == 0 {
        let begun = std::time::Instant::now();
        runtime.block_on(planner.connect());
        println!("{:.4}", begun.elapsed().as_secs_f64());
    }
    for _ in 0..times {
        let planned = runtime.block_on(planner.plan());
        assert!(planned.plan.is_empty(), "there is something to do");
        println!("{:.4}", planned.elapsed.as_secs_f64());
    }
}
