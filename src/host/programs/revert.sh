# shellcheck shell=sh disable=SC2013,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# revert.sh: how a transaction is taken back, by the run itself or by the next one. A part of apply.sh.

# revert T [STEP]: brings back what a transaction changed, files first, then running state. Where it is known at which
# step it failed, nothing after that was begun.
revert() {
  say "reverting $1"
  turn_to "$1"
  reverted=rolled-back back=yes undo=undo
  # Whole lines: of one that is torn, a path could be another one.
  read_lines "$dir/steps"
  steps=$lines
  [ ! -f "$dir/turned" ] || unturn
  reached='' backwards=''
  for step in $steps; do
    [ -n "$reached" ] || backwards="$step$nl$backwards"
    [ "$step" != "${2-}" ] || reached=yes
    case $reached$step in yesunmoved"$tab"*) undo=undo.before ;; esac
  done
  find_replaced
  # What was started may never have come up: that it cannot be stopped is no failure of the way back.
  if [ "$undo" = undo ]; then
    for step in $(cat "$dir/unmake"); do do_step "$step" || :; done
  fi
  undo_steps
  bring_back "$dir/$undo"
  if [ "$reverted$back" = rolled-backyes ] && ! settle_debts; then back=''; fi
  if [ -n "$back" ] && ! { sync_back && printf 'reverted\n' >>"$dir/phase" && sync "$dir/phase"; } 2>"$run_dir/output"; then
    back=''
    show_output
  fi
  [ -n "$back" ] || { reverted=failed stuck=yes; }
  outcome "$1" "$reverted"
}

# What has taken over requests gives them back before it is stopped. All of this can be done again.
unturn() {
  backwards=''
  for step in $steps; do
    if [ "$step" = turn ]; then backwards=''; else backwards="$step$nl$backwards"; fi
  done
  find_replaced
  undo_steps
  bring_back "$dir/unturn"
}

# The steps in a file, all of them. What one that fails was to pay for is owed still.
bring_back() {
  unpaid=''
  for step in $(cat "$1"); do
    case $unpaid$step in yespaid"$tab"* | yesreloaded"$tab"* | yesrestarted"$tab"*) continue ;; esac
    unpaid=''
    true >"$run_dir/output"
    do_step "$step" && continue
    # Where the disk is full, what is brought back needs no note.
    case $step in owe"$tab"*) continue ;; esac
    unpaid=yes reverted=failed
    show_output
  done
}

# The steps that keep what is replaced.
find_replaced() {
  replaced=''
  for step in $steps; do
    case $step in keep"$tab"* | came"$tab"*) replaced=$replaced$step$tab$nl ;; esac
  done
}

# The steps in `backwards`. What is kept is all there is of the former files: where one cannot be put back, it stays
# with the journal, and the next run tries again. What is no longer kept will not come by trying.
undo_steps() {
  for step in $backwards; do
    lost=''
    if ! undo_step "$step" >"$run_dir/output" 2>&1; then
      back=''
      show_output
    elif [ -n "$lost" ]; then
      reverted=failed
      show_output
    fi
  done
}

# What went back is on the disk before the journal says so: the directories that the steps would have there, or what is
# above them where they are gone again.
sync_back() {
  for step in $steps; do
    case $step in sync"$tab"*) ;; *) continue ;; esac
    there=''
    IFS=$tab
    for path in ${step#*"$tab"}; do
      case $path in */.reconcile-"$run"/*) continue ;; esac
      until [ -d "$path/" ]; do path=${path%/*}; done
      there=$there${path:-/}$nl
    done
    IFS=$nl
    # Where one cannot be opened, everything goes to the disk.
    # shellcheck disable=SC2086
    [ -z "$there" ] || sync $there || sync || return 1
  done
}

# Once everything is back as it was, nothing is owed for what was tried, and the claims are the former ones.
settle_debts() {
  [ -n "$ledger" ] || return 0
  if [ -f "$dir/ledger.was" ]; then
    write_whole "$ledger" <"$dir/ledger.was"
  elif [ "$ledger_sum" = none ]; then
    rm -f -- "$ledger"
  fi || return 1
  # What comes before all else was the whole way: nothing had been written down yet but by others.
  [ "$undo" = undo ] || return 0
  for step in $steps; do
    case $step in
      owe"$tab"*)
        IFS=$tab
        # shellcheck disable=SC2086
        set -- $step
        IFS=$nl
        shift 3
        owe_as_before "$@" || return 1
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
    keep | came) put_back "$@" ;;
    mkdir | above) unmake_directories "$@" ;;
    meta) [ "$5" = - ] || change_directory_meta "$5" "$6" "$7" "$4" ;;
    move) take_away "$@" ;;
    tree | within) empty_tree "$verb" "$@" ;;
  esac
}

# mkdir MODE OWNER GROUP DIR…: what was made goes, where it is empty. What had been there stays, as it was.
unmake_directories() {
  shift 3
  ours='' former=$nl
  if [ -f "$dir/came" ]; then
    while IFS=$tab read -r mode owner group made; do
      former=$former$made$nl
      if [ "$mode" = - ] || ! [ -d "$made" ]; then continue; fi
      change_directory_meta "$mode" "$owner" "$group" "$made" || return 1
    done <"$dir/came"
  fi
  for made; do
    case $former in *"$nl$made$nl"*) ;; *) ours=$ours$made$nl ;; esac
  done
  # shellcheck disable=SC2086
  remove_upwards $ours
}

# keep DIR PATH…: the kept files go back to their places, inode and all. The kept links stay, so that this can be done
# again after it was cut off.
put_back() {
  kept=$1
  shift
  for path; do
    old=$kept/${path##*/}
    if ! [ -e "$old" ] && ! [ -L "$old" ]; then
      if [ "$verb" = keep ] && ! [ -e "$path" ] && ! [ -L "$path" ]; then no_longer_kept "$path"; fi
      continue
    fi
    if [ -L "$old" ]; then
      # Not moved yet. (`mv` takes two links to one symbolic link for a mistake, and `-ef` would follow it.)
      if [ -L "$path" ] && [ "$(readlink -- "$old")" = "$(readlink -- "$path")" ]; then continue; fi
    elif [ "$old" -ef "$path" ]; then
      continue
    fi
    mkdir -p "$kept.back" && rm -f -- "$kept.back/${path##*/}" || return 1
    ln -- "$old" "$kept.back/" 2>/dev/null || copy "$old" "$kept.back" || return 1
    mv -f -- "$kept.back/${path##*/}" "${path%/*}/." || return 1
    rm -f -- "$kept.back/${path##*/}"
  done
}

# move DIR KEPT STAGED…: what was put where nothing had been goes away. What had been there is left to `keep`; where that
# has nothing any more, as when somebody has cleared it away, what lies there is all there is.
take_away() {
  into=${1%/} kept=$2 kept_here=''
  shift 2
  for line in $replaced; do
    case $line in
      "keep$tab$kept$tab"*) kept_here=$kept_here${line#keep"$tab$kept"} ;;
      # What had come by then is kept, too, if that was got to: that shows in the directory itself.
      "came$tab$kept$tab"*) [ -d "$kept" ] || kept_here=$kept_here${line#came"$tab$kept"} ;;
    esac
  done
  for staged; do
    name=${staged##*/}
    if [ -e "$staged" ] || [ -L "$staged" ] || [ -e "$kept/$name" ] || [ -L "$kept/$name" ]; then continue; fi
    case $kept_here in
      *"$tab$into/$name$tab"*) if [ -e "$into/$name" ] || [ -L "$into/$name" ]; then no_longer_kept "$into/$name"; fi ;;
      *) rm -f -- "$into/$name" || return 1 ;;
    esac
  done
}

no_longer_kept() {
  printf '%s stays as it is: its former version is no longer in %s\n' "$1" "$kept"
  lost=yes
}

# What came with a new directory goes, and then the directories, where nobody else has put anything into them.
empty_tree() {
  [ ! -d "$2" ] || return 0
  if [ "$1" = within ]; then
    shift 3
    rm -f -- "$@"
  else
    shift 3
    remove_upwards "$@"
  fi
}

# The deepest first, as far as they are empty.
remove_upwards() {
  upwards=''
  for made; do upwards="$made$nl$upwards"; done
  # shellcheck disable=SC2086
  [ -z "$upwards" ] || rmdir -- $upwards 2>/dev/null || :
}

# ---- whole runs

# A run that went well stays as if it had not come to its end: its journal and the former files are kept until the
# control side says `forget`, or `back`. If it never does, the run stays done, and the next one clears it away.
keep_run() {
  for name in $(backwards_order); do
    last_phase "$name"
    if [ "$at" = "done" ]; then
      true >"$run_dir/kept" && sync "$run_dir/kept" "$run_dir"
      return
    fi
  done
  return 1
}

# Takes back a run that was kept. Once `kept` is gone it is one that died: whatever happens then, the next run goes on.
back() {
  run_dir=$state/$repo/run/$run
  if ! [ -f "$run_dir/kept" ]; then
    say "broken what was kept is gone: another run has been here since, or the disk was full"
    return 0
  fi
  for name in $(backwards_order); do
    last_phase "$name"
    [ "$at" = "done" ] || continue
    if is_held "$name"; then outcome "$name" stale && continue; fi
    if ! { printf 'switching\n' >>"$folder/phase" && sync "$folder/phase"; } 2>/dev/null; then
      # All of it stays as it is, and kept.
      for begun in $(backwards_order); do
        last_phase "$begun"
        [ "$at" != switching ] || printf 'done\n' >>"$folder/phase" 2>/dev/null || :
      done
      outcome "$name" failed
      stuck=yes
      return 0
    fi
  done
  rm -f -- "$run_dir/kept" && sync "$run_dir"
  for name in $(backwards_order); do
    last_phase "$name"
    [ "$at" != switching ] || revert "$name"
  done
  [ -n "$stuck" ] || clean_up
}

# The rollout of a run is over, and the run stays.
forget() {
  run_dir=$state/$repo/run/$run
  if [ -f "$run_dir/kept" ]; then clean_up; fi
}

# The same for all runs, before another one begins. Its plan was made with what was still to go then: that is claimed, so
# it is for that plan, or the next one. The stages of this run are still to be made.
forget_all() {
  ours=$stages parts=no
  set +f
  for kept in "$state/$repo"/run/*/kept; do
    set -f
    [ -f "$kept" ] || continue
    run_dir=${kept%/*}
    clean_up
  done
  set -f
  stages=$ours parts=yes
}
