# shellcheck shell=sh disable=SC2013,SC2034,SC2154
# (Lines, not words: IFS is a newline. Names come from the other files.)
# receive.sh: how the files of a run, or of a build, arrive on a host. A part of apply.sh and build.sh.

# For so many seconds a link may be silent while something is to come. One that was cut is silent for hours, if need be,
# and the lock is not held as long.
patience=20

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
  unpack / "$state/$repo/receive"
  umask 077
  [ "$unpacked" != 0 ] || return 0
  say "broken the archive did not arrive whole"
  for line in $(tail -n 5 "$state/$repo/receive"); do say "| $line"; done
  return 1
}

# unpack DIR OUTPUT: what comes on standard input, as long as it comes.
unpack() {
  exec 5<&0
  # Docker takes a file of the same size and time for the same file: what comes has its own times (`-m`).
  tar -x -p -m -f - -C "$1" <&5 >"$2" 2>&1 &
  unpacking=$!
  end_when_idle "$unpacking" >/dev/null 2>&1 4>&- 5<&- 8>&- 9>&- &
  watching=$!
  exec 5<&-
  wait "$unpacking"
  unpacked=$?
  kill "$watching" 2>/dev/null
  return "$unpacked"
}

# Ends a process that has read and written nothing for a while.
end_when_idle() {
  idle=0 before=''
  while [ "$idle" -lt "$patience" ] && sleep 1; do
    now=$(cat "/proc/$1/io") || return 0
    idle=$((idle + 1))
    [ "$now" = "$before" ] || idle=0
    before=$now
  done
  kill -s KILL "$1"
}
