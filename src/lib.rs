//! reconcile: makes ordinary Linux servers match a Git repository.
//!
//! # The pipeline
//!
//! ```text
//!              repository                                              the hosts
//!                  │                                                    │     ▲
//!               source      a tree of files, its commit and signer     │     │
//!                  ▼                                                    │     │
//!                load       Config, or all problems with their places  │     │
//!                  ▼                                                    ▼     │
//!   facts, ──►  render      Desired: every resource, written out     observe │   Observation: what is there,
//!   secrets        │                                                    │     │   the ledgers, what validators say
//!                  └──────────────────►  plan  ◄────────────────────────┘     │
//!                                         │   Plan: changes, effects, checks, a digest
//!                                         ▼                                   │
//!                                       apply  ───────────────────────────────┘   the only stage that writes
//!                                         │
//!                                         ▼
//!                                       Report   how each resource ended; the ledgers are on the hosts by then
//!                                         ▼
//!                                       store      the history of runs, on this side
//! ```
//!
//! [`engine`] is this order, and the one path through it. [`plan`] is a pure function; [`host`] has the two programs
//! that run on a host, and their transport. What happens on a host is told by `src/reference/on-the-host.md`.
//!
//! # The floors
//!
//! A module uses only floors below its own, and of its own floor only what stands before it. `tests/structure.rs` holds
//! that, and names the one exception.
//!
//! ```text
//! 5  cli                                                       one file per subcommand; alone in printing
//! 4  engine, store, adopt                                      the stages in order; the history of runs; taking over what is there
//! 3  source, load, ledger, render, plan, observe, apply        the stages
//! 2  resource                                                  one file per kind
//! 1  host, sealed, provider                                    transports, programs; what is encrypted in Git; registries, Docker
//! 0  base                                                      ids, secrets, errors, digests, events, templates
//! ```
//!
//! # The words
//!
//! One word for each thing, in code, in messages and on paper.
//!
//! | word | is |
//! |---|---|
//! | stack | what belongs together, `stacks/NAME/stack.kdl`; the unit of ownership and of failure |
//! | resource | one thing that is managed, called `KIND:NAME`, such as `unit:go-api` |
//! | state | a resource in its one normal form: paths, units, packages, a project. The same for wanted and for seen |
//! | place | where a host's paths really are: as they are named, or below a root directory |
//! | observation | what a host said of itself |
//! | claim | what belongs to one resource on a host, as recorded there |
//! | ledger | the claims of one stack on one host |
//! | change | what a plan does to one resource: its action, its cause, its paths |
//! | effect | what a plan does to what runs: a deed, the changes it is for, and why |
//! | deed | one thing done to what runs, such as a restart of units |
//! | check | what must be so after a change, and within how long |
//! | transaction | all changes, effects and checks of one stack on one host: done as a whole or put back as a whole |
//! | step | one line of what a host carries out in a transaction |
//! | run | one apply, by its id; on a host, its journal |
//! | wave | hosts that are changed side by side, before the next ones |
//! | hold | the record, on a host, that a stack stays there as it is |
//! | debt | a restart or reload that is owed because the files have changed already |
//! | history | the runs that were made from here, recorded in a file of this side |
//! | refusal | why a change is not made, and what to do about it |
//! | outcome | how a resource ended: exactly one of eight words |
//!
//! # Where this is not what was designed first, and why
//!
//! * **The ledger is one plain text per stack, on the host.** A stack is what goes well or is put back as a whole, so
//!   its claims change with one rename. A person can read it, and nothing there needs a program to do so. A claim
//!   is written before the thing it is for; what is gone from the ledger is foreign, and never deleted.
//! * **Restart debt is an `InvocationID`.** What a process was started with cannot be asked of systemd. So the id under
//!   which a unit runs is written down before the switch; as long as it runs under that id, it runs with the older
//!   files, whoever died in between. A restart by anybody pays the debt. Containers need none of that:
//!   their configuration's hash is a label of theirs.
//! * **Confirmation goes through a named pipe.** The waiting program sleeps in a read with a deadline; the fresh
//!   connection writes one line. There is nothing to poll, and a pipe that is left over tells that the run it belongs
//!   to was never confirmed.
//! * **The repository's id stands in `hosts/repo.kdl`.** There was no place for it. It belongs to the hosts on which
//!   it marks what is owned, and moving the repository must not change it.
//! * **`observe` stands on `plan`.** What is worth a second look is what the planner's comparison says differs. There is
//!   one comparison, then, not two that must agree.
//! * **Processes are counted.** On a host, a process that is started costs more than all that a shell does by itself, so
//!   the programs there start few: new directories come by one rename with all that is in them, whoever looked at the
//!   host becomes who applies, and what systemd keeps in files is read from there.
//! * **Validators run while a plan is made, so `apply` does not run them again.** It compares instead what was planned
//!   against with what is there. Only where a validator is installed by the run itself does it judge during the run.
//! * **A template's text is made on this side.** Facts are asked for in an exchange of their own, and only if a template
//!   names one: else a plan without changes would cost two.

#![deny(unsafe_code)]

pub mod adopt;
pub mod apply;
pub mod base;
pub mod cli;
pub mod engine;
pub mod host;
pub mod ledger;
pub mod load;
pub mod observe;
pub mod plan;
pub mod provider;
pub mod render;
pub mod resource;
pub mod sealed;
pub mod source;
pub mod store;
