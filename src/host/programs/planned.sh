# shellcheck shell=sh disable=SC2013,SC2034,SC2154
# (Lines, not words: IFS is a newline. Names come from the other files.)
# planned.sh: whether a host still is as its plan saw it. A part of apply.sh.

# Everything is as the plan saw it, or the transaction does not begin.
still_as_planned() {
  # Somebody may have held it since.
  if is_held "$1"; then say "stale the hold of $1" && return 1; fi
  if [ "$ledger_sum" = none ] && [ -f "$ledger" ]; then say "stale the ledger of $1" && return 1; fi
  if ! as_planned <"$dir/sums"; then
    if [ "$moved" = "$ledger" ]; then moved="the ledger of $1"; fi
    say "stale $moved"
    return 1
  fi
}

# Whether all paths are as the plan saw them, and the files as the digests on standard input say. `moved` is one that is
# not. With an argument, paths may have come since.
as_planned() {
  # shellcheck disable=SC2046
  if [ -s "$dir/paths" ]; then
    planned=''
    [ ! -s "$dir/stat" ] || planned=$(cat "$dir/stat")
    seen=$(stat -c '%f %u %g %n' -- $(cat "$dir/paths") 2>/dev/null)
    if [ "$seen" != "$planned" ]; then
      missing_in "$seen" "$planned" || return 1
      [ $# != 0 ] || missing_in "$planned" "$seen" || return 1
    fi
  fi
  if [ -s "$dir/links" ]; then
    while IFS= read -r moved && IFS= read -r target; do
      [ "$(readlink -- "$moved")" = "$target" ] || return 1
    done <"$dir/links"
  fi
  [ -s "$dir/sums" ] || return 0
  for line in $(sha256sum -c 2>/dev/null); do
    case $line in *': OK') ;; *) moved=${line%: *} && return 1 ;; esac
  done
}

# Whether a list has all lines of another, as `stat` wrote them. `moved` is the path of one that it has not.
missing_in() {
  for line in $2; do
    case $nl$1$nl in *"$nl$line$nl"*) ;; *) moved=${line#* * * } && return 1 ;; esac
  done
}

# unmoved [LATER]: the same right before the switch, where commands took their time since, or did who knows what.
unmoved() {
  # Our claims have taken the place of the former ledger, which has the first line.
  if [ "$ledger_sum" = none ]; then cat "$dir/sums"; else sed 1d "$dir/sums"; fi >"$run_dir/sums" || return 1
  as_planned "$@" <"$run_dir/sums" || { printf '%s is no longer as it was planned\n' "$moved" && return 1; }
}
