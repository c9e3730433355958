# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# apply.sh: makes a host what a plan says. The only program that writes.
#
# Standard input holds lines, then `tar`, then a tar archive to be unpacked at the top. Among the lines are the staging
# directories, which are on the disk as `stages` before the first of them is made, so that they are always found again.
# The archive brings the new files, staged in directories `.reconcile-RUN` beside the places they are for (so that a
# rename puts them there), and the run's own folder STATE/REPO/run/RUN with the instructions:
#
#   order         the transactions, one on a line
#   extent        `stack`, or `host` where all transactions go well together or not at all
#   T/needs       transactions that must have gone well before T
#   T/paths       the paths that transaction T was planned against
#   T/stat, T/sums   what stat and sha256sum said of them
#   T/steps       what is to be done, one step on a line, fields separated by tabs
#   T/unmake      what takes back running state before the former files are in place again
#   T/undo        what brings running state back once they are
#   T/preflight, T/staged   what to have judged once packages are installed
#   T/ledger.before, T/ledger.after   the stack's ledger with all claims, and when all went well
#
# Each transaction goes through these phases, recorded in T/phase so that the next run can revert what a dead one left:
# staged, switching, then done or reverted. The file is only ever added to; its last whole line counts.
# Once everything is received the program no longer needs the link: it goes on to a whole end by itself.

# (Where a redirection fails, as on a full disk, `:` would end the whole program and `true` only fails.)

# A line for the control side, kept in a file too for when nobody listens any more. Never fails.
say() {
  printf '%s\n' "$*" >&4 2>/dev/null || :
  printf '%s\n' "$*" >>"$state/$repo/report" 2>/dev/null || :
}

# A file written whole or not at all. What may be left of a try goes with the run.
write_whole() {
  cat >"$run_dir/new" && sync "$run_dir/new" && mv -f "$run_dir/new" "$1" && sync "${1%/*}"
}

show_output() {
  for line in $(tail -c 4000 "$run_dir/output" 2>/dev/null); do say "| $line"; done
}

lock() {
  for needed in run ledger owed; do
    [ -d "$state/$repo/$needed" ] || mkdir -p "$state/$repo/$needed" || return 1
  done
  chmod 700 "$state" "$state/$repo" || return 1
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
  printf '%s\n' "$who" >"$state/$repo/lease"
  printf '%s (repository %s)\n' "$who" "$repo" >"$state/lease"
}

# ---- staging

# Staging directories are listed, on the disk, before one is made: whatever happens then, the next run finds them.
list_stages() {
  mkdir -- "$run_dir" && printf '%s' "$stages" >"$run_dir/stages" &&
    sync "$run_dir/stages" "$run_dir" "${run_dir%/*}"
}

receive() {
  if ! list_stages >"$state/$repo/receive" 2>&1; then
    say "broken the run cannot be set up"
    return 1
  fi
  umask 022
  tar -x -p -m -f - -C / >"$state/$repo/receive" 2>&1 || {
    say "broken the archive did not arrive whole"
    for line in $(tail -n 5 "$state/$repo/receive"); do say "| $line"; done
    return 1
  }
  umask 077
}

# Everything is as the plan saw it, or the transaction does not begin.
still_as_planned() {
  dir=$run_dir/$1
  IFS= read -r ledger <"$dir/ledger.path"
  if [ -f "$ledger" ]; then seen=$(sha256sum <"$ledger") && seen=${seen%% *}; else seen=none; fi
  IFS= read -r planned <"$dir/ledger.sum"
  if [ "$seen" != "$planned" ]; then say "stale the ledger of $1" && return 1; fi
  # shellcheck disable=SC2046
  if [ -s "$dir/paths" ]; then
    seen=$(stat -c '%f %u %g %n' -- $(cat "$dir/paths") 2>/dev/null)
    if [ "$seen" != "$(cat "$dir/stat")" ]; then say "stale a path of $1" && return 1; fi
  fi
  if [ -s "$dir/sums" ] && ! sha256sum -c "$dir/sums" >"$run_dir/output" 2>/dev/null; then
    for line in $(cat "$run_dir/output"); do
      case $line in *': OK') ;; *) say "stale ${line%: *}" ;; esac
    done
    return 1
  fi
}

phase() { printf '%s\n' "$2" >>"$run_dir/$1/phase" && sync "$run_dir/$1/phase"; }

last_phase() {
  at=''
  if [ -f "$run_dir/$1/phase" ]; then
    while IFS= read -r line; do at=$line; done <"$run_dir/$1/phase"
  fi
}

# All that a revert or the end of transaction $1 will need is on the disk before anything changes.
save_plan() {
  dir=$run_dir/$1
  set -- "$run_dir/order" "$run_dir/extent" "$dir/steps" "$dir/unmake" "$dir/undo" "$dir/phase" \
    "$dir/ledger.path" "$dir/ledger.before" "$dir/ledger.after"
  if [ -f "$ledger" ]; then
    cp -- "$ledger" "$dir/ledger.was" || return 1
    set -- "$@" "$dir/ledger.was"
  fi
  sync "$@" "$dir" "$run_dir" "$state/$repo/run"
}

# A ledger that is on the disk already takes its place.
put_ledger() { mv -f -- "$run_dir/$1/$2" "$ledger" && sync "${ledger%/*}"; }

# ---- steps

# Runs one command of a step: its deadline in seconds, then its words.
run_command() {
  deadline=$1
  shift
  # We ignore TERM, and what we start would too. Who ignores it by itself is killed five seconds later.
  (trap - TERM && exec timeout -k 5 "$deadline" "$@") >"$run_dir/output" 2>&1 </dev/null 8>&- 9>&-
}

# Notes that units run with older files than they should, and which run that was: if this program dies before the
# restart, the unit still runs under the same invocation and so the debt is known.
owe() {
  unit=$1 verb=$2 why=$3
  invocation=$(systemctl show --property=InvocationID --value -- "$unit" 2>/dev/null)
  [ -n "$invocation" ] || return 0
  printf '%s\t%s\t%s\t%s\t%s\n' "$unit" "$verb" "$invocation" "$run" "$why" | write_whole "$state/$repo/owed/$unit"
}

# mkdir MODE OWNER GROUP DIR…: from the top down.
make_directories() {
  mode=$1 owner=$2 group=$3
  shift 3
  mkdir -p -- "$@" && chmod "$mode" -- "$@" && { [ "$owner" = - ] || chown "$owner:$group" -- "$@"; }
}

unmake_directories() {
  shift 3
  upwards=''
  for made; do upwards="$made$nl$upwards"; done
  # shellcheck disable=SC2086
  rmdir -- $upwards 2>/dev/null || :
}

change_directory_meta() {
  chmod "$1" -- "$4" && { [ "$2" = - ] || chown "$2:$3" -- "$4"; }
}

# keep DIR PATH…: second links to what is about to be replaced; copies where the file system has no hard links.
keep() {
  kept=$1
  shift
  mkdir -p "$kept" && { ln -- "$@" "$kept/" 2>/dev/null || cp -a -f -- "$@" "$kept/"; }
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
    keep) keep "$@" ;;
    mkdir) make_directories "$@" ;;
    meta) change_directory_meta "$@" ;;
    chown) owner=$1 && shift && chown -h -- "$owner" "$@" ;;
    sync) sync "$@" ;;
    move) into=$1 && shift 2 && mv -f -- "$@" "$into/." ;;
    remove) rm -f -- "$@" ;;
    rmdir) : ;; # in the end, see remove_emptied
    owe) owe "$@" ;;
    # What has failed too often in a row may not be started again until systemd forgets it.
    calm) systemctl reset-failed -- "$@" 2>/dev/null || : ;;
    paid) rm -f -- "$state/$repo/owed/$1" ;;
    workers) workers >"$run_dir/workers" ;;
    run) number=$1 && shift && say "step $number" && run_command "$@" ;;
    check) number=$1 && shift && say "step $number" && check "$@" ;;
    preflight) preflight_staged "$1" ;;
    *) say "| unknown step $verb" && return 1 ;;
  esac >>"$run_dir/output" 2>&1
}

# ---- checks

# Seconds of a clock that nobody sets.
now() {
  if IFS=. read -r seconds _ </proc/uptime; then printf '%s\n' "$seconds"; else date +%s; fi 2>/dev/null
}

check() {
  limit=$(($(now) + $1))
  kind=$2
  shift 2
  until "check_$kind" "$@" >"$run_dir/output" 2>&1 </dev/null 8>&- 9>&-; do
    # 2: it will not get better by waiting.
    if [ $? = 2 ] || [ "$(now)" -ge "$limit" ]; then return 1; fi
    sleep 0.2 2>/dev/null || sleep 1
  done
}

# URL, host header or -
check_http() {
  if have curl; then
    if [ "$2" = - ]; then curl -sS -f -m 5 -o /dev/null -- "$1"; else curl -sS -f -m 5 -o /dev/null -H "Host: $2" -- "$1"; fi
  elif have wget; then
    if [ "$2" = - ]; then wget -q -T 5 -O /dev/null "$1"; else wget -q -T 5 -O /dev/null --header "Host: $2" "$1"; fi
  else
    printf 'this host has neither curl nor wget to ask with\n' && return 1
  fi
}

check_tcp() {
  if have bash; then
    # shellcheck disable=SC2016 # expanded by bash
    timeout -s KILL 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' - "$1" "$2"
  elif have nc; then
    nc -w 5 "$1" "$2"
  else
    printf 'this host has neither bash nor nc to connect with\n' && return 1
  fi
}

check_command() { (trap - TERM && exec timeout -k 5 30 "$@"); }

# The units are active, and a moment later still under the same invocation: a service that dies at once and is
# started again by systemd does not pass.
check_active() {
  first=$(systemctl show --property=Id,ActiveState,InvocationID -- "$@")
  if all_active "$first"; then
    sleep 0.5 2>/dev/null || sleep 1
    [ "$(systemctl show --property=Id,ActiveState,InvocationID -- "$@")" != "$first" ] || return 0
  fi
  systemctl status --no-pager --lines=10 -- "$@"
  case $first in *ActiveState=failed*) return 2 ;; esac
  return 1
}

all_active() {
  for line in $1; do
    case $line in ActiveState=active) ;; ActiveState=*) return 1 ;; esac
  done
}

# The processes of nginx that serve requests, one on a line; none where the kernel does not say.
workers() {
  pid=$(systemctl show --property=MainPID --value nginx.service 2>/dev/null)
  children=''
  if IFS= read -r children <"/proc/$pid/task/$pid/children" || [ -n "$children" ]; then
    IFS=' '
    # shellcheck disable=SC2086
    printf '%s\n' $children
    IFS=$nl
  fi 2>/dev/null
}

# nginx has taken its new configuration when it has started new workers for it.
check_reloaded() {
  [ -s "$run_dir/workers" ] || return 0
  before=$nl$(cat "$run_dir/workers")$nl
  for pid in $(workers); do
    case $before in *"$nl$pid$nl"*) ;; *) return 0 ;; esac
  done
  tail -n 5 /var/log/nginx/error.log 2>/dev/null
  return 1
}

# ---- transactions

transaction() {
  say "transaction $1"
  needs=''
  [ ! -s "$run_dir/$1/needs" ] || needs=$(cat "$run_dir/$1/needs")
  for needed in $needs; do
    last_phase "$needed"
    if [ "$at" != "done" ]; then
      outcome "$1" "blocked"
      return 1
    fi
  done
  if ! still_as_planned "$1"; then
    outcome "$1" stale
    return 1
  fi
  IFS= read -r ledger <"$run_dir/$1/ledger.path"
  if ! { save_plan "$1" && phase "$1" switching && put_ledger "$1" ledger.before; } 2>"$run_dir/output"; then
    say "failed the journal could not be written: is the disk full?"
    show_output
    outcome "$1" rolled-back
    return 1
  fi
  for step in $(cat "$run_dir/$1/steps"); do
    true >"$run_dir/output"
    if ! do_step "$step"; then
      say "failed $step"
      show_output
      revert "$1"
      return 1
    fi
  done
  if ! phase "$1" "done"; then
    say "failed the journal could not be written: is the disk full?"
    revert "$1"
    return 1
  fi
  # A stack that owns nothing any more has no ledger.
  if [ -s "$run_dir/$1/ledger.after" ]; then put_ledger "$1" ledger.after; else rm -f -- "$ledger"; fi
  outcome "$1" applied
}

outcome() { say "outcome $1 $2"; }

# Brings back what a transaction changed: files first, then running state.
revert() {
  say "reverting $1"
  reverted=rolled-back back=yes
  # What was started may never have come up: that it cannot be stopped is no failure of the way back.
  for step in $(cat "$run_dir/$1/unmake"); do do_step "$step" || :; done
  backwards=''
  for step in $(cat "$run_dir/$1/steps"); do backwards="$step$nl$backwards"; done
  for step in $backwards; do
    if ! undo_step "$step" >"$run_dir/output" 2>&1; then
      # What is kept is all there is of the former files: it stays with the journal, and the next run tries again.
      back=''
      show_output
    fi
  done
  for step in $(cat "$run_dir/$1/undo"); do
    true >"$run_dir/output"
    if ! do_step "$step"; then
      reverted=failed
      show_output
    fi
  done
  if [ "$reverted$back" = rolled-backyes ] && ! settle_debts "$1"; then back=''; fi
  if [ -n "$back" ]; then phase "$1" reverted; else reverted=failed stuck=yes; fi
  outcome "$1" "$reverted"
}

# Once everything is back as it was, nothing is owed for what was tried, and the claims are the former ones.
settle_debts() {
  IFS= read -r ledger <"$run_dir/$1/ledger.path"
  if [ -f "$run_dir/$1/ledger.was" ]; then
    write_whole "$ledger" <"$run_dir/$1/ledger.was"
  else
    rm -f -- "$ledger"
  fi || return 1
  for step in $(cat "$run_dir/$1/steps"); do
    case $step in
      owe"$tab"*)
        step=${step#owe"$tab"}
        rm -f -- "$state/$repo/owed/${step%%"$tab"*}"
        ;;
    esac
  done
}

# The reverse of one line of T/steps, harmless where the step was never done.
undo_step() {
  IFS=$tab
  # shellcheck disable=SC2086
  set -- $1
  IFS=$nl
  verb=$1
  shift
  case $verb in
    keep) put_back "$@" ;;
    mkdir) unmake_directories "$@" ;;
    meta) [ "$5" = - ] || change_directory_meta "$5" "$6" "$7" "$4" ;;
    move) take_away "$@" ;;
  esac
}

# keep DIR PATH…: the kept files go back to their places, inode and all. The kept links stay, so that this can be done
# again after it was cut off.
put_back() {
  kept=$1
  shift
  for path; do
    old=$kept/${path##*/}
    [ -e "$old" ] || [ -L "$old" ] || continue
    if [ -L "$old" ]; then
      # Not moved yet. (`mv` takes two links to one symbolic link for a mistake, and `-ef` would follow it.)
      if [ -L "$path" ] && [ "$(readlink -- "$old")" = "$(readlink -- "$path")" ]; then continue; fi
    elif [ "$old" -ef "$path" ]; then
      continue
    fi
    mkdir -p "$kept/back" && rm -f -- "$kept/back/${path##*/}" || return 1
    ln -- "$old" "$kept/back/" 2>/dev/null || cp -a -f -- "$old" "$kept/back/" || return 1
    mv -f -- "$kept/back/${path##*/}" "${path%/*}/." || return 1
    rm -f -- "$kept/back/${path##*/}"
  done
}

# move DIR KEPT STAGED…: what was put where nothing had been goes away. What had been there is left to `keep`.
take_away() {
  into=$1 kept=$2
  shift 2
  for staged; do
    name=${staged##*/}
    if [ -e "$staged" ] || [ -L "$staged" ] || [ -e "$kept/$name" ] || [ -L "$kept/$name" ]; then continue; fi
    rm -f -- "$into/$name" || return 1
  done
}

# ---- the run

# Transactions of runs that died: reverted, unless they were done and needed neither a confirmation nor each other.
# Those of a run that had come to its end are in `over`, and stay.
recover() {
  set +f
  for dir in "$state/$repo"/run/*; do
    [ -d "$dir" ] || continue
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
  for name in $(cat "$run_dir/order" 2>/dev/null); do backwards_names="$name$nl$backwards_names"; done
  printf '%s' "$backwards_names"
}

# The end of a run: its transactions stay as they are now, and nothing is kept any more.
clean_up() {
  if [ -f "$run_dir/order" ]; then mv -f -- "$run_dir/order" "$run_dir/over" && sync "$run_dir" || return 1; fi
  # The list of stages was there first. It goes last, and only once all in it is gone: the next run finishes what was
  # cut off. It is read without a process that could be killed by itself.
  stages=''
  if [ -f "$run_dir/stages" ]; then
    while IFS= read -r stage; do stages=$stages$stage$nl; done <"$run_dir/stages"
  fi
  # shellcheck disable=SC2086
  rm -rf -- $stages || return 1
  remove_emptied
  rm -rf -- "$run_dir"
}

# What nobody wants any more of the directories goes away where it is empty. That shows only now: until here a
# transaction could still go back.
remove_emptied() {
  for name in $(cat "$run_dir/over" 2>/dev/null); do
    last_phase "$name"
    [ "$at" = "done" ] || continue
    for step in $(cat "$run_dir/$name/steps"); do
      case $step in rmdir"$tab"*) printf '%s\n' "${step#rmdir"$tab"}" ;; esac
    done
  done | tr '\t' '\n' | sort -ru | while IFS= read -r emptied; do
    rmdir -- "$emptied" 2>/dev/null || :
  done
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
    [ "$at" != "done" ] || revert "$name"
  done
}

apply() {
  exec 4>&1
  state='' repo='' run='' who='' wait=0 confirm=0 stages='' stuck=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'run '*) run=${line#run } ;;
      'who '*) who=${line#who } ;;
      'wait '*) wait=${line#wait } ;;
      'confirm '*) confirm=${line#confirm } ;;
      'stage '*) stages=$stages${line#stage }$nl ;;
      recover | tar) break ;;
    esac
  done
  IFS=$nl
  umask 077
  lock || return 0
  if [ "$line" = recover ]; then
    trap '' HUP PIPE INT TERM
    recover
    say end
    return 0
  fi
  run_dir=$state/$repo/run/$run
  true >"$state/$repo/report"
  receive || { clean_up; return 0; }
  # From here on a lost link changes nothing.
  trap '' HUP PIPE INT TERM
  if [ "$confirm" != 0 ] && ! mkfifo "$run_dir/confirmed"; then
    say "broken the run cannot be set up"
    clean_up
    return 0
  fi
  order=$(cat "$run_dir/order")
  for name in $order; do printf 'staged\n' >"$run_dir/$name/phase"; done
  find_extent
  for name in $order; do
    transaction "$name" && continue
    [ "$extent" = host ] || continue
    give_up "$name"
    break
  done
  if await_confirmation; then rm -f -- "$run_dir/confirmed"; else revert_run; fi
  [ -n "$stuck" ] || clean_up
  say end
}
