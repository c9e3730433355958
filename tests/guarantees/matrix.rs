//! 6, enumerated: either end dies, the link breaks or the power goes at every command or step of an apply.
//!
//! All points at every command, not only some, are tried with `RECONCILE_MATRIX=all`: see `tests/kit/seesaw.rs`. That
//! takes about an hour.

use std::time::Duration;

use crate::kit::seesaw::{Seesaw, each, points};
use crate::kit::stop::{How, Stop};
use crate::kit::{Host, finish, free, lab};

const LONG: Duration = Duration::from_mins(5);

/// Kills the program of the host at commands of one kind of apply.
fn kill_at_each(host: &Host, id: &str, confirm: &str, few: usize) {
    let mut saw = Seesaw::new(host, id, "");
    let stop = Stop::on(host);
    let args = ["apply", "--yes", "--json", "--confirm", confirm];
    let mut count = 0;
    // Both ways take as many commands; the longer one counts.
    for _ in 0..2 {
        saw.tip();
        stop.at(0, "*", How::Kill);
        saw.repo.apply_with(&["--confirm", confirm]);
        count = count.max(stop.release().0);
    }
    each(&format!("--confirm {confirm}"), points(count, few), |number| {
        saw.tip();
        stop.at(number, "*", How::Kill);
        let ran = saw.repo.run(&args);
        let (_, command) = stop.release();
        let when = format!("killed at command {number} of {count}: {command}");
        saw.reports(&ran, &when);
        saw.is_whole(&when);
        saw.repairs(&when);
        when
    });
}

#[test]
fn g06_the_host_program_is_killed_at_each_command() {
    let host = free();
    kill_at_each(&host, "g06-kill", "0", 6);
}

#[test]
fn g06_the_host_program_is_killed_at_each_command_of_a_confirmed_run() {
    let host = free();
    kill_at_each(&host, "g06-confirmed", "10", 4);
}

#[test]
fn g06_a_way_back_that_is_killed_is_gone_again() {
    let host = free();
    let mut saw = Seesaw::new(&host, "g06-twice", "");
    let stop = Stop::on(&host);
    let kill = |saw: &Seesaw, pattern: &str| {
        stop.at(1, pattern, How::Kill);
        assert_eq!(saw.repo.run(&["apply", "--yes", "--json", "--confirm", "0"]).code, 1);
        let (_, place) = stop.release();
        assert_ne!(place, "", "{pattern} was not reached");
        saw.is_whole(&place);
    };
    saw.tip();
    kill(&saw, "make_directories*");
    saw.repairs("everything was kept, and nothing replaced");
    saw.tip();
    kill(&saw, "printf *done*");
    // What it puts back at first is killed right before it is in its place.
    kill(&saw, "mv -f -- *back/*");
    saw.repairs("the way back was cut off");
}

/// What happens at the beginning of a step.
#[derive(Clone, Copy)]
enum Fault {
    ControlSideDies,
    LinkBreaks,
    PowerGoes,
}

/// Lets something happen at each step of an apply: at each line of T/steps, that is.
fn at_each_step(host: &Host, id: &str, fault: Fault, few: usize) {
    let mut saw = Seesaw::new(host, id, "");
    saw.tip();
    let stop = Stop::on(host);
    stop.at(0, "do_step*", How::Hold);
    saw.repo.apply();
    let (count, _) = stop.release();
    assert!(count > 10, "{count} steps");
    let journal_gone = format!("[ -z \"$(ls /var/lib/reconcile/{id}/run)\" ]");
    each(id, points(count, few), |number| {
        saw.tip();
        let stop = Stop::on(host);
        stop.at(number, "do_step*", How::Hold);
        // Nobody confirms: so the host goes back.
        let mut run = saw.repo.begin(&["apply", "--yes", "--json", "--confirm", "1"]);
        stop.reached();
        match fault {
            Fault::ControlSideDies => {
                run.kill().expect("it can be killed");
                finish(run, LONG);
                stop.release();
                host.until(&journal_gone);
                saw.is_back(&format!("step {number}"));
            }
            Fault::LinkBreaks => {
                lab(&["cut", &host.name]);
                stop.release();
                host.until(&journal_gone);
                lab(&["mend", &host.name]);
                let ran = finish(run, LONG);
                saw.is_back(&format!("step {number}: {ran:?}"));
                assert_eq!(ran.code, 4, "{ran:?}");
                assert_eq!(ran.outcomes().into_iter().collect::<Vec<_>>(), ["rolled-back"], "{}", ran.out);
            }
            Fault::PowerGoes => {
                lab(&["kill", &host.name]);
                lab(&["start", &host.name]);
                let ran = finish(run, LONG);
                assert_eq!(ran.code, 1, "step {number}: {ran:?}");
            }
        }
        let when = format!("step {number} of {count}");
        saw.is_whole(&when);
        saw.repairs(&when);
        when
    });
}

#[test]
fn g06_the_control_side_is_killed_at_each_step() {
    let host = free();
    at_each_step(&host, "g06-control", Fault::ControlSideDies, 4);
}

#[test]
fn g08_the_link_breaks_at_each_step() {
    let host = free();
    at_each_step(&host, "g08-link", Fault::LinkBreaks, 3);
}

#[test]
fn g06_the_power_goes_at_each_step() {
    let host = free();
    at_each_step(&host, "g06-power", Fault::PowerGoes, 3);
}
