# shellcheck shell=sh disable=SC2034,SC2154
# checks.sh: whether what was changed works. A part of apply.sh.

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

look_at_activity() { looked=$(systemctl show --property=Id,ActiveState,InvocationID -- "$@"); }

# The units are active. That they stay is seen by `stay_active`: what else is to be done takes its time meanwhile.
check_active() {
  look_at_activity "$@"
  if all_active "$looked"; then
    watched=$* first=$looked
    { sleep 0.5 2>/dev/null || sleep 1; } 4>&- 8>&- 9>&- &
    pause=$!
    return 0
  fi
  systemctl status --no-pager --lines=10 -- "$@"
  case $looked in *ActiveState=failed*) return 2 ;; esac
  return 1
}

# What was seen active has stayed so.
check_stay() { stay_active || return 2; }

# What was seen active still is, a moment later and under the same invocation: a service that dies at once and is
# started again by systemd does not pass. It may try again until its time is over.
stay_active() {
  [ -n "$watched" ] || return 0
  while :; do
    wait "$pause"
    # shellcheck disable=SC2086
    look_at_activity $watched
    [ "$looked" != "$first" ] || return 0
    left=$((watched_until - $(now)))
    # shellcheck disable=SC2086
    if [ "$left" -le 0 ]; then
      systemctl status --no-pager --lines=10 -- $watched
      return 1
    fi
    # shellcheck disable=SC2086
    check "$left" active $watched || return 1
  done
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
