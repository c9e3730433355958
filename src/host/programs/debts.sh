# shellcheck shell=sh disable=SC2034,SC2154
# (Names come from the other files.)
# debts.sh: which units and containers run with older files than they should. A part of apply.sh and drain.sh.

# owe VERB WHY UNIT…: notes that units run with older files than they should, and which run that was: if this program
# dies before the restart, a unit still runs under the same invocation and so the debt is known. It need not outlive a
# loss of power: nothing runs with older files then. Containers are `docker:PROJECT:SERVICE`, and their invocations
# ID@TIME,….
owe() {
  what=$1 why=$2
  shift 2
  notes=''
  # One line for each unit, in their order.
  for line in $(invocations "$@"); do
    unit=$1 verb=$what && shift
    [ "$line" != InvocationID= ] || continue
    note=$state/$repo/owed/$unit
    note_older_debt "${line#*=}" || return 1
    # What is owed already may be more than is owed now.
    case $verb$older in
      "restart$unit${tab}restart$tab"* | "recreate$unit${tab}re"[sc]*) ;;
      *"$unit${tab}restart$tab"* | *"$unit${tab}recreate$tab"*) continue ;;
    esac
    if [ -s "$note" ]; then note=$dir/owed/$unit notes=$notes$note$nl; fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$unit" "$verb" "${line#*=}" "$run" "$why" >"$note" || return 1
  done
  # An older note is never half replaced.
  # shellcheck disable=SC2086
  [ -z "$notes" ] || mv -f -- $notes "$state/$repo/owed/"
}

# What was owed already to the same invocation is owed again if this transaction goes back, so it is noted first: one line
# or `-`, written at once. A reload is no restart.
note_older_debt() {
  older=-
  if [ -s "$note" ] && IFS= read -r debt <"$note"; then
    case $debt in "$unit$tab"*"$tab$1$tab"*) older=$debt ;; esac
  fi
  [ -s "$dir/owed/$unit.was" ] || printf '%s\n' "$older" >"$dir/owed/$unit.was"
}

# Nothing is owed any more for what was tried, but what had been. Where that was not noted, nothing came after it.
owe_as_before() {
  for unit; do
    older=''
    if [ -s "$dir/owed/$unit.was" ]; then IFS= read -r older <"$dir/owed/$unit.was"; fi
    if [ -z "$older" ]; then
      continue
    elif [ "$older" = - ]; then
      paid "$unit" || return 1
    else
      write_whole "$state/$repo/owed/$unit" <"$dir/owed/$unit.was" || return 1
    fi
  done
}

# Under which invocation each unit runs. systemd keeps those of services in links, for the journal: to read one takes a
# fifth of what asking systemd does. But where a unit is started again without a stop in between
# (`RestartMode=direct`), a link may be older. So only nginx's is read, which is asked for most often by far.
invocations() {
  case $1 in docker:*) started "$@" && return ;; esac
  link=/run/systemd/units/invocation:nginx.service
  if [ "$*" = nginx.service ] && [ -L "$link" ] && invoked=$(readlink -- "$link"); then
    printf '%s\n' "$invoked"
  else
    systemctl show --property=InvocationID -- "$@" 2>/dev/null
  fi
}

# The same of containers.
started() {
  for debtor; do
    debtor=${debtor#docker:}
    instances "${debtor%%:*}" "${debtor#*:}"
    invoked=''
    for instance in $instances; do invoked=$invoked,$instance; done
    printf 'InvocationID=%s\n' "${invoked#,}"
  done
}

# An empty note is none. It goes with the run: that takes no process of its own.
paid() {
  for unit; do
    if [ -f "$state/$repo/owed/$unit" ]; then true >"$state/$repo/owed/$unit" || return 1; fi
  done
}

# pays VERB UNIT…: what was reloaded, or signalled, may still be owed a restart, and what was restarted a new container.
pays() {
  with=$1
  shift
  for unit; do
    debt=''
    if [ -s "$state/$repo/owed/$unit" ]; then IFS= read -r debt <"$state/$repo/owed/$unit"; fi
    case $with$debt in
      *"$unit${tab}recreate$tab"* | "reload$unit${tab}restart$tab"*) ;;
      *) paid "$unit" || return 1 ;;
    esac
  done
}

find_paid() {
  paid=''
  set +f
  for note in "$state/$repo"/owed/*; do
    if [ -f "$note" ] && ! [ -s "$note" ]; then paid=$paid$note$nl; fi
  done
  set -f
}
