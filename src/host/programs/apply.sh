# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# apply.sh: makes a host what a plan says. The only program that writes.
#
# Standard input holds lines, then `tar`, then a tar archive to be unpacked at the top. Among the lines are the staging
# directories: `stages` is on the disk before the first of them is made. The archive brings the new files,
# staged in directories `.reconcile-RUN` beside the places they are for (so that a rename puts them there), and the
# run's own folder STATE/REPO/run/RUN with the instructions:
#
#   order         the transactions, one on a line, as long as they can be taken back
#   over          the same, for good
#   extent        `stack`, or `host` where all transactions go well together or not at all
#   stack/T       the folder of each transaction, which is `T` here
#   T/needs       transactions that must have gone well before T
#   T/paths       the paths that transaction T was planned against
#   T/stat, T/sums   what stat and sha256sum said of them, and sha256sum of the ledger
#   T/links       the symbolic links among them, each followed by its target
#   T/emptied     directories to be removed in the end, where they are empty
#   T/steps       what is to be done, one step on a line, fields separated by tabs; the first may name what is staged
#                 and must be on the disk before anything changes
#   T/unmake      what takes back running state before the former files are in place again
#   T/undo        what brings running state back once they are
#   T/unturn      where a service has turned to another place, what comes before all that once nginx's files are back
#   T/parting     what is done when nobody goes back any more: what served until then is stopped
#   T/undo.before   the part of that which is needed where no path was switched yet
#   T/preflight, T/staged   what to have judged once packages are installed
#   T/came        directories that have come since the plan, with their modes and owners
#   T/ledger      where the stack's ledger is, and its digest or `none`
#   T/ledger.before, T/ledger.after   the stack's ledger with all claims, and when all went well
#   confirmed     a named pipe, where the run is to be confirmed
#   kept          made in the end where `keep` is said: the rollout may yet take the run back (see revert.sh)
#
# A process costs more than all that a shell does by itself, so one does as much as it can. Each transaction goes
# through these phases, recorded in T/phase so that the next run can revert what a dead one left: staged, switching, then done or reverted. The file is only ever added to; its last whole line counts.
# Once everything is received the program no longer needs the link: it goes on to a whole end by itself.

# A line for the control side, kept in a file too for when nobody listens any more. Never fails.
say() {
  printf '%s\n' "$*" >&4 2>/dev/null || :
  printf '%s\n' "$*" >>"$state/$repo/report" 2>/dev/null || :
}

# A file written whole or not at all. What may be left of a try goes with the run.
write_whole() {
  cat >"$run_dir/new" && sync "$run_dir/new" && mv -f "$run_dir/new" "$1" && sync "${1%/*}"
}

# The last lines of it, whole ones: half a secret could not be told from anything else.
show_output() {
  for line in $(tail -n 60 "$run_dir/output" 2>/dev/null); do
    [ "${#line}" -lt 4000 ] || line="(a line of ${#line} characters)"
    say "| $line"
  done
}

lock() {
  locked=''
  # Nobody else may look inside, which is so for what is made here.
  if ! [ -d "$state/$repo/run" ] || ! [ -d "$state/$repo/ledger" ] || ! [ -d "$state/$repo/owed" ]; then
    [ ! -d "$state" ] || [ -f "$state/lock" ] || chmod 700 "$state" || return 1
    mkdir -p "$state/$repo/run" "$state/$repo/ledger" "$state/$repo/owed" || return 1
  fi
  # One writer for the whole host. The repository's own lock tells whether its runs are alive; older versions take no other.
  exec 8>>"$state/lock" 9>>"$state/$repo/lock" || return 1
  if ! flock -w "$wait" 8; then
    say "locked $(cat "$state/lease" 2>/dev/null)"
    return 1
  fi
  if ! flock -w "$wait" 9; then
    say "locked $(cat "$state/$repo/lease" 2>/dev/null)"
    return 1
  fi
  locked=yes
  printf '%s\n' "$who" >"$state/$repo/lease"
  printf '%s (repository %s)\n' "$who" "$repo" >"$state/lease"
}

# The lock itself goes with this process. Who looks at this host need not ask for it where nobody holds the lease.
unlock() { [ -z "$locked" ] || true >"$state/$repo/lease"; }

# ---- the switch

# Where the things of a transaction are. Older versions kept them among those of the run.
find_folder() {
  folder=$run_dir/stack/$1
  [ -d "$folder" ] || folder=$run_dir/$1
}

# Which transaction is worked on: its folder, its ledger, and the ledger's planned digest.
turn_to() {
  find_folder "$1"
  dir=$folder ledger='' ledger_sum=''
  { IFS= read -r ledger && IFS= read -r ledger_sum; } <"$dir/ledger" || ledger=''
}

is_held() { [ -f "$state/$repo/hold/$1" ] && IFS= read -r line <"$state/$repo/hold/$1" && in_force "$line"; }

last_phase() {
  at=''
  find_folder "$1"
  if [ -f "$folder/phase" ]; then
    while IFS= read -r line; do at=$line; done <"$folder/phase"
  fi
}

# Begins the switch: what is staged, and all that a way back will need, is on the disk before the journal says so, and
# before anything changes. The ledger need not be there yet: who finds this phase takes everything back, the ledger too.
begin_switch() {
  set -- "$run_dir/order" "$run_dir/extent" "$dir/steps" "$dir/unmake" "$dir/undo" "$dir/ledger" \
    "$dir/ledger.before" "$dir/ledger.after"
  if [ "$ledger_sum" != none ]; then
    # A ledger is only ever replaced, so a second link keeps it.
    ln -- "$ledger" "$dir/ledger.was" 2>/dev/null || cp -- "$ledger" "$dir/ledger.was" || return 1
    set -- "$@" "$dir/ledger.was"
  fi
  printf 'switching\n' >>"$dir/phase" || return 1
  # What comes at the end of the run must be known then.
  for kept in "$dir/parting" "$dir/emptied" "$dir/unturn" "$run_dir/over"; do
    [ ! -s "$kept" ] || set -- "$@" "$kept"
  done
  set -- "$@" "$dir" "${dir%/*}" "$run_dir" "$state/$repo/run" "$dir/phase"
  for step in $steps; do break; done
  case $step in
    "durable$tab"*)
      IFS=$tab
      # shellcheck disable=SC2086
      set -- ${step#*"$tab"} "$@"
      IFS=$nl
      ;;
  esac
  sync "$@" && mv -f -- "$dir/ledger.before" "$ledger"
}

# All went well, if that can be written down. A stack that owns nothing any more has no ledger.
end_switch() {
  if ! printf 'done\n' >>"$dir/phase"; then
    say "failed the journal could not be written: is the disk full?"
    revert "$1"
    return 1
  fi 2>"$run_dir/output"
  # What is still to go is ours until then.
  if [ -s "$dir/parting" ]; then sync "$dir/phase"; else close_ledger && sync "$dir/phase" "${ledger%/*}"; fi
  outcome "$1" applied
}

close_ledger() {
  if [ -s "$dir/ledger.after" ]; then mv -f -- "$dir/ledger.after" "$ledger"; else rm -f -- "$ledger"; fi
}

# The end of transactions that went well, once nobody goes back any more. A run that dies here leaves it to the next
# one. What cannot be stopped stays claimed, so that the next plan shows it.
part() {
  for name in $ended; do
    last_phase "$name"
    if [ "$at" != "done" ] || ! [ -s "$folder/parting" ]; then continue; fi
    turn_to "$name"
    say "parting $name"
    for step in $(cat "$dir/parting"); do
      true >"$run_dir/output"
      do_step "$step" && continue
      say "failed $step"
      show_output
      outcome "$name" failed
      continue 2
    done
    close_ledger && sync "${ledger%/*}" && rm -f -- "$dir/parting"
  done
}

# ---- steps

# Runs one command of a step: its deadline in seconds, then its words. What it leaves running holds nothing of ours: the
# control side hears until everybody has closed its ear.
run_command() {
  deadline=$1
  shift
  # We ignore TERM, and what we start would too. Who ignores it by itself is killed five seconds later.
  (trap - TERM && exec timeout -k 5 "$deadline" "$@") >"$run_dir/output" 2>&1 </dev/null 4>&- 8>&- 9>&-
}

# One line of T/steps.
do_step() {
  IFS=$tab
  # shellcheck disable=SC2086
  set -- $1
  IFS=$nl
  verb=$1
  shift
  case $verb in
    durable | within) ;;
    keep) keep "$@" ;;
    came) keep_what_came "$@" ;;
    mkdir | above) make_directories "$@" ;;
    meta) change_directory_meta "$@" ;;
    chown) owner=$1 && shift && chown -h -- "$owner" "$@" ;;
    chmod) mode=$1 && shift && chmod -- "$mode" "$@" ;;
    sync) sync "$@" ;;
    move) into=$1 && shift 2 && mv -f -- "$@" "$into/." ;;
    # tree STAGED DIR DIR…: a new directory, and those in it. `within` names what else is.
    tree) if [ -d "$1" ]; then mv -- "$1" "${2%/*}/."; else [ -d "$2" ]; fi ;;
    remove) rm -f -- "$@" ;;
    owe) owe "$@" ;;
    # What has failed too often in a row may not be started again until systemd forgets it.
    calm) systemctl reset-failed -- "$@" 2>/dev/null || : ;;
    rest) rest "$@" ;;
    paid) paid "$@" ;;
    reloaded) pays reload "$@" ;;
    restarted) pays restart "$@" ;;
    workers) workers && former_workers=$nl$workers ;;
    nginx) say "step $1" && reload_nginx ;;
    turn) true >"$dir/turned" && sync "$dir/turned" "$dir" ;;
    run) number=$1 && shift && say "step $number" && run_command "$@" ;;
    watch) number=$1 && shift && say "step $number" && watch "$@" ;;
    check)
      number=$1 && shift && say "step $number" && check "$@" || return 1
      if [ "$2" = active ]; then watched_step=$step watched_until=$limit; fi
      ;;
    preflight) preflight_staged "$1" ;;
    unmoved) say "step $1" && shift && unmoved "$@" ;;
    *) say "| unknown step $verb" && return 1 ;;
  esac >>"$run_dir/output" 2>&1
}

# ---- transactions

transaction() {
  say "transaction $1"
  # Where all stacks of the host go together, they are one thing, which is finished once it was begun.
  if { [ "$extent" = stack ] || [ -z "$begun" ]; } && is_halted; then
    halted=yes
    outcome "$1" skipped
    return 1
  fi
  begun=yes
  turn_to "$1"
  watched='' guarded='' counted='' former='' noted='' working=''
  if [ -s "$dir/needs" ]; then
    for needed in $(cat "$dir/needs"); do
      last_phase "$needed"
      if [ "$at" != "done" ]; then
        outcome "$1" "blocked"
        return 1
      fi
    done
  fi
  if ! still_as_planned "$1"; then
    outcome "$1" stale
    return 1
  fi
  steps=$(cat "$dir/steps")
  if ! begin_switch 2>"$run_dir/output"; then
    say "failed the journal could not be written: is the disk full?"
    show_output
    # Nothing is to be taken back of it, whatever comes.
    last_phase "$1"
    [ "$at" != switching ] || printf 'reverted\n' >>"$dir/phase" 2>/dev/null || stuck=yes
    outcome "$1" rolled-back
    return 1
  fi
  for step in $steps; do
    true >"$run_dir/output"
    if ! do_step "$step"; then
      fail_at "$1" "$step"
      return 1
    fi
  done
  # Nothing needs the last one, so what it started may settle while the confirmation is on its way.
  if [ "$confirm" != 0 ] && [ "$1" = "$last" ]; then settling=$1; else settle "$1"; fi
}

# The end of a transaction whose steps are done.
settle() {
  turn_to "$1"
  true >"$run_dir/output"
  if stay_active >>"$run_dir/output" 2>&1; then end_switch "$1"; else fail_at "$1" "$watched_step" && return 1; fi
}

# Transaction $1 cannot go on after step $2.
fail_at() {
  say "failed $2"
  tell_step "$2" >>"$run_dir/output" 2>&1
  show_output
  revert "$1" "$2"
}

# Whether the control side wants no further transaction to begin.
is_halted() {
  [ -f "$state/$repo/halted" ] || return 1
  while IFS= read -r line; do
    [ "$line" != "$run" ] || return 0
  done <"$state/$repo/halted"
  return 1
}

outcome() { say "outcome $1 $2"; }

# ---- the run

# Transactions of runs that died: reverted, unless they were done and needed neither a confirmation nor each other.
# Of a run that had come to its end, `order` names none: they stay.
recover() {
  set +f
  for dir in "$state/$repo"/run/*; do
    if ! [ -d "$dir" ] || [ -f "$dir/kept" ]; then continue; fi
    run_dir=$dir run=${dir##*/}
    set -f
    say "recovering $run"
    unconfirmed=''
    find_extent
    if [ -p "$run_dir/confirmed" ] || [ "$extent" = host ]; then unconfirmed=yes; fi
    for name in $(backwards_order); do
      last_phase "$name"
      case $at$unconfirmed in switching* | doneyes) revert "$name" ;; esac
    done
    [ -n "$stuck" ] || clean_up
    stuck=''
    set +f
  done
  set -f
}

backwards_order() {
  backwards_names=''
  read_lines "$run_dir/order"
  for name in $lines; do backwards_names="$name$nl$backwards_names"; done
  printf '%s' "$backwards_names"
}

# The end of a run: its transactions stay as they are now, and nothing is kept any more. It has come once `order` is
# empty. What comes after, the next run does if it is cut off.
clean_up() {
  # Older versions had no `over` until then.
  read_lines "$run_dir/order" && ended=$lines
  if [ -n "$ended" ]; then true >"$run_dir/order" && sync "$run_dir/order" || return 1; fi
  read_lines "$run_dir/over"
  [ -z "$lines" ] || ended=$lines
  [ "$parts" = no ] || part
  read_lines "$run_dir/stages" && stages=$lines
  find_paid
  find_emptied
  # The list of stages was there first. It goes last, and only once all in it is gone: the next run finishes what was
  # cut off.
  # shellcheck disable=SC2086
  if [ -n "$emptied" ]; then
    rm -rf -- $stages && remove_emptied && rm -rf -- $paid "$run_dir"
  elif ! rm -rf -- $stages $paid "$run_dir"; then
    mkdir -p "$run_dir" && printf '%s' "$stages" >"$run_dir/stages"
    false
  fi || return 1
  # What another run left says nothing about this one.
  if [ "${run_dir##*/}" = "$run" ] && [ -f "$state/$repo/halted" ]; then rm -f -- "$state/$repo/halted"; fi
}

# What nobody wants any more of the directories goes away where it is empty, the deepest first. That shows only now:
# until here a transaction could still go back.
find_emptied() {
  emptied=''
  for name in $ended; do
    last_phase "$name"
    if [ "$at" = "done" ] && [ -s "$folder/emptied" ]; then emptied=$emptied$folder/emptied$nl; fi
  done
}

remove_emptied() {
  # shellcheck disable=SC2086
  for directory in $(sort -ru -- $emptied); do rmdir -- "$directory" 2>/dev/null || :; done
}

# Waits until the control side has proven, over a new connection, that it still reaches this host: then it writes to a
# named pipe. Both ends open that for reading and writing, so neither waits for the other to open it.
await_confirmation() {
  [ "$confirm" != 0 ] || return 0
  exec 3<>"$run_dir/confirmed" || return 1
  say "confirm $confirm"
  # Our own TERM is ignored, and so would dd's be.
  timeout -s KILL "$confirm" dd bs=1 count=1 <&3 >"$run_dir/output" 2>&1
  confirmed=$?
  exec 3>&-
  return "$confirmed"
}

# Whether all transactions go well together or not at all: `host` in the file. Runs of older versions did not say.
find_extent() {
  extent=stack
  if [ -f "$run_dir/extent" ]; then IFS= read -r extent <"$run_dir/extent"; fi
}

# Where everything goes together, what was done before $1 failed goes back too, and nothing further is begun.
give_up() {
  for name in $(backwards_order); do
    last_phase "$name"
    case $at in
      "done") revert "$name" ;;
      staged) [ "$name" = "$1" ] || outcome "$name" blocked ;;
    esac
  done
}

revert_run() {
  say "unconfirmed"
  for name in $(backwards_order); do
    last_phase "$name"
    case $at in "done" | switching) revert "$name" ;; esac
  done
}

apply() {
  exec 4>&1
  state='' repo='' run='' who='' wait=0 confirm=0 keep='' stages='' stuck='' parts=yes nginx_pid='' former_workers=$nl
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'run '*) run=${line#run } ;;
      'who '*) who=${line#who } ;;
      'wait '*) wait=${line#wait } ;;
      'confirm '*) confirm=${line#confirm } ;;
      'stage '*) stages=$stages${line#stage }$nl ;;
      keep) keep=yes ;;
      recover | back | forget | tar) break ;;
    esac
  done
  # Who was cut off before that has said nothing.
  case $line in recover | back | forget | tar) ;; *) return 0 ;; esac
  IFS=$nl
  umask 077
  lock || return 0
  case $line in
    recover | back | forget)
      trap '' HUP PIPE INT TERM
      "$line"
      say end
      return 0
      ;;
  esac
  # What is done now is nothing that an earlier run could be taken back from.
  forget_all
  run_dir=$state/$repo/run/$run
  true >"$state/$repo/report"
  receive || { clean_up; return 0; }
  # From here on a lost link changes nothing.
  trap '' HUP PIPE INT TERM
  # Without the pipe it would be a file, which answers at once.
  if [ "$confirm" != 0 ] && ! [ -p "$run_dir/confirmed" ]; then
    say "broken no named pipe could be made"
    clean_up
    return 0
  fi
  settling='' begun='' halted=''
  find_extent
  read_lines "$run_dir/order"
  for last in $lines; do :; done
  for name in $lines; do
    transaction "$name" && continue
    if [ "$extent" = stack ] || [ -n "$halted" ]; then continue; fi
    give_up "$name"
    break
  done
  if await_confirmation; then
    if [ -n "$settling" ] && ! settle "$settling" && [ "$extent" = host ]; then give_up "$settling"; fi
    # Where the end of the run is written down right away, that says as much.
    if [ -n "$stuck$keep" ]; then rm -f -- "$run_dir/confirmed"; fi
  else
    revert_run
  fi
  [ -n "$stuck" ] || { [ -n "$keep" ] && keep_run; } || clean_up
  say end
}
