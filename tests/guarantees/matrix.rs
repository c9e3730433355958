//! 6, enumerated: either end dies, the link breaks or the power goes at every command or step of an apply.
//!
//! All points at every command, not only some, are tried with `RECONCILE_MATRIX=all`: see `tests/kit/seesaw.rs`.

use std::time::Duration;

use crate::kit::seesaw::{Seesaw, each, lanes, points};
use crate::kit::stop::{How, Stop};
use crate::kit::{Host, finish, free, lab};

const LONG: Duration = Duration::from_mins(5);

/// Kills a program of the host at commands of one kind of apply. `stop` has it counted, and the numbers go from 1 to the
/// most that was counted.
fn kill_at_each(id: &str, confirm: &str, stop: fn(&Host) -> Stop<'_>, few: usize) {
    let hosts = lanes();
    let mut saws: Vec<Seesaw> = hosts.iter().map(|host| Seesaw::new(host, id, "")).collect();
    let args = ["apply", "--yes", "--json", "--confirm", confirm];
    let mut count = 0;
    // Both ways take as many commands; the longer one counts.
    for _ in 0..2 {
        saws[0].tip();
        let stop = stop(&hosts[0]);
        stop.at(0, "*", How::Kill);
        saws[0].repo.run(&args);
        count = count.max(stop.release().0);
        saws[0].repairs(0, "nothing was killed");
    }
    each(&format!("{id} --confirm {confirm}"), &mut saws, points(count, few), |saw, number| {
        saw.tip();
        let stop = stop(saw.host);
        stop.at(number, "*", How::Kill);
        let ran = saw.repo.run(&args);
        let (_, command) = stop.release();
        let when = format!("killed at command {number} of {count}: {command}");
        saw.reports(&ran, &when);
        saw.is_whole(&when);
        saw.repairs(number, &when);
        when
    });
}

#[test]
fn g06_the_host_program_is_killed_at_each_command() {
    kill_at_each("g06-kill", "0", |host| Stop::on(host), 6);
}

#[test]
fn g06_the_host_program_is_killed_at_each_command_of_a_confirmed_run() {
    kill_at_each("g06-confirmed", "10", |host| Stop::on(host), 4);
}

#[test]
fn g08_the_host_program_is_killed_at_each_command_when_nobody_confirms() {
    fn unconfirmed(host: &Host) -> Stop<'_> {
        let stop = Stop::from(host, "revert_run");
        stop.unconfirmed();
        stop
    }
    kill_at_each("g08-back", "1", unconfirmed, 3);
}

#[test]
fn g08_a_confirmation_that_is_killed_is_sent_again() {
    let host = free();
    let mut saw = Seesaw::new(&host, "g08-confirm", "");
    let confirmed = |saw: &mut Seesaw, number: usize| {
        saw.tip();
        let stop = Stop::from(&host, "confirm");
        stop.at(number, "*", How::Kill);
        let ran = saw.repo.run(&["apply", "--yes", "--json", "--confirm", "10"]);
        assert_eq!(ran.code, 0, "killed at command {number}: {ran:?}");
        stop.release()
    };
    let (count, _) = confirmed(&mut saw, 0);
    each("g08-confirm", &mut [saw], points(count, 3), |saw, number| {
        let (_, command) = confirmed(saw, number);
        let when = format!("killed at command {number} of {count}: {command}");
        saw.repairs(number, &when);
        when
    });
}

#[test]
fn g06_a_way_back_that_is_killed_is_gone_again() {
    let host = free();
    let mut saw = Seesaw::new(&host, "g06-twice", "");
    let stop = Stop::on(&host);
    let kill = |saw: &mut Seesaw, pattern: &str| {
        stop.at(1, pattern, How::Kill);
        assert_eq!(saw.repo.run(&["apply", "--yes", "--json", "--confirm", "0"]).code, 1);
        let (_, place) = stop.release();
        assert_ne!(place, "", "{pattern} was not reached");
        saw.is_whole(&place);
    };
    saw.tip();
    kill(&mut saw, "make_directories*");
    saw.repairs(0, "everything was kept, and nothing replaced");
    saw.tip();
    kill(&mut saw, "printf *done*");
    // What it puts back at first is killed right before it is in its place.
    kill(&mut saw, "mv -f -- *back/*");
    saw.repairs(1, "the way back was cut off");
}

/// What happens at the beginning of a step.
#[derive(Clone, Copy)]
enum Fault {
    ControlSideDies,
    LinkBreaks,
    PowerGoes,
}

/// Lets something happen at each step of an apply: at each line of T/steps, that is.
fn at_each_step(id: &str, fault: Fault, few: usize) {
    let hosts = lanes();
    let mut saws: Vec<Seesaw> = hosts.iter().map(|host| Seesaw::new(host, id, "")).collect();
    saws[0].tip();
    let stop = Stop::on(&hosts[0]);
    stop.at(0, "do_step*", How::Hold);
    saws[0].repo.apply();
    let (count, _) = stop.release();
    assert!(count > 10, "{count} steps");
    let journal_gone = format!("[ -z \"$(ls /var/lib/reconcile/{id}/run)\" ]");
    each(id, &mut saws, points(count, few), |saw, number| {
        let host = saw.host;
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
                saw.reports(&ran, &format!("step {number}"));
            }
        }
        let when = format!("step {number} of {count}");
        saw.is_whole(&when);
        saw.repairs(number, &when);
        when
    });
}

#[test]
fn g06_the_control_side_is_killed_at_each_step() {
    at_each_step("g06-control", Fault::ControlSideDies, 4);
}

#[test]
fn g08_the_link_breaks_at_each_step() {
    at_each_step("g08-link", Fault::LinkBreaks, 3);
}

#[test]
fn g06_the_power_goes_at_each_step() {
    at_each_step("g06-power", Fault::PowerGoes, 3);
}
