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
  until "check_$kind" "$@" >"$run_dir/output" 2>&1 </dev/null 4>&- 8>&- 9>&-; do
    # 2: it will not get better by waiting. Nor if what was seen to run does so no more.
    if [ $? = 2 ]; then return 1; fi
    if [ "$(now)" -ge "$limit" ]; then
      case $kind in
        http | tcp | command) tell_watched ;;
        containers) tell_overdue ;;
        reloaded) tail -n 5 /var/log/nginx/error.log ;;
      esac >>"$run_dir/output" 2>&1
      return 1
    fi
    if units_lost >"$run_dir/lost" 2>&1 || containers_lost >"$run_dir/lost" 2>&1; then
      mv -f "$run_dir/lost" "$run_dir/output"
      return 1
    fi
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
    if refused=$(timeout -s KILL 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' - "$1" "$2" 2>&1); then return 0; fi
    refused=${refused##*: }
    printf 'no connection to %s:%s: %s\n' "$1" "$2" "${refused:-no answer in 5 s}"
    return 1
  elif have nc; then
    nc -w 5 "$1" "$2"
  else
    printf 'this host has neither bash nor nc to connect with\n' && return 1
  fi
}

check_command() { (trap - TERM && exec timeout -k 5 30 "$@"); }

look_at_activity() { looked=$(systemctl show --property=Id,ActiveState,InvocationID,NRestarts -- "$@"); }

# How long they must stay so, how often systemd may start them again, and the units: they are active. That they stay is
# seen by `stay_active`: what else is to be done takes its time meanwhile.
check_active() {
  steady=$1 may_restart=$2
  shift 2
  look_at_activity "$@"
  if all_active "$looked"; then
    watched=$* active=$looked
    { sleep "$steady" 2>/dev/null || sleep $((${steady%.*} + 1)); } 4>&- 8>&- 9>&- &
    pause=$!
    return 0
  fi
  tell_units "$@"
  case $looked in *ActiveState=failed*) return 2 ;; esac
  if is_loop "$*"; then return 2; fi
  return 1
}

# What was seen active has stayed so.
check_stay() { stay_active || return 2; }

# Whether one of the units just looked at has been started again by systemd more often than it may.
is_loop() {
  counts=''
  for line in $looked; do
    case $line in NRestarts=*) counts="$counts${line#*=}$nl" ;; esac
  done
  if [ "$counted" != "$1" ]; then counted=$1 counted_first=$counts; fi
  # shellcheck disable=SC2086
  set -- $counted_first
  for count in $counts; do
    if [ $((count - ${1:-0})) -gt "$may_restart" ]; then return 0; fi
    shift
  done
  return 1
}

# Whether units that were seen to be active have failed, or go down again and again.
units_lost() {
  [ -n "$watched" ] || return 1
  # shellcheck disable=SC2086
  look_at_activity $watched
  case $looked in
    *ActiveState=failed*) ;;
    *) is_loop "$watched" || return 1 ;;
  esac
  # shellcheck disable=SC2086
  tell_units $watched
}

# How those units are that do not run, and the last lines of their journals.
tell_units() {
  for unit; do
    state_of=$(systemctl show --property=ActiveState,SubState,Result,ExecMainStatus,NRestarts -- "$unit")
    case $state_of in
      *NRestarts=[1-9]*) ;;
      *ActiveState=active*) continue ;;
    esac
    # shellcheck disable=SC2086
    printf '%s: %s\n' "$unit" "$(printf '%s ' $state_of)"
    have journalctl && timeout -k 5 10 journalctl --quiet --no-pager --output=cat --lines=15 --unit="$unit" 2>&1
  done
}

# What units said that run, and yet do not answer as they should; of many the first.
tell_watched() {
  told=0
  for unit in $watched; do
    [ "$told" -lt 3 ] || break
    told=$((told + 1))
    have journalctl || break
    printf '%s said last:\n' "$unit"
    timeout -k 5 10 journalctl --quiet --no-pager --output=cat --lines=8 --unit="$unit"
  done
}

# The units that a step could not start: $1 is its line.
tell_step() {
  case $1 in
    "nginx$tab"*) tell_units nginx.service ;;
    "run$tab"*"${tab}systemctl$tab"*"start$tab--$tab"* | "run$tab"*"${tab}systemctl${tab}reload$tab--$tab"*)
      IFS=$tab
      # shellcheck disable=SC2086
      set -- ${1#*"$tab--$tab"}
      IFS=$nl
      tell_units "$@"
      ;;
  esac
}

# What was seen active still is, a moment later and under the same invocation: a service that dies at once and is
# started again by systemd does not pass. It may try again until its time is over.
stay_active() {
  [ -n "$watched" ] || return 0
  while :; do
    wait "$pause"
    # shellcheck disable=SC2086
    look_at_activity $watched
    [ "$looked" != "$active" ] || return 0
    left=$((watched_until - $(now)))
    # shellcheck disable=SC2086
    if [ "$left" -le 0 ] || is_loop "$watched"; then
      tell_units $watched
      return 1
    fi
    # shellcheck disable=SC2086
    check "$left" active "$steady" "$may_restart" $watched || return 1
  done
}

all_active() {
  for line in $1; do
    case $line in ActiveState=active) ;; ActiveState=*) return 1 ;; esac
  done
}

# `workers`: the processes of nginx that serve requests, one on a line; none where the kernel does not say. Their parent
# outlives a reload.
workers() {
  if [ -z "$nginx_pid" ] || ! [ -d "/proc/$nginx_pid" ]; then find_nginx; fi
  children='' workers=''
  if IFS= read -r children <"/proc/$nginx_pid/task/$nginx_pid/children" || [ -n "$children" ]; then
    IFS=' '
    for pid in $children; do workers=$workers$pid$nl; done
    IFS=$nl
  fi 2>/dev/null
}

# nginx's main process: among those of its service the child of systemd itself. Where that cannot be seen, systemd says.
find_nginx() {
  nginx_pid=''
  for line in '' /unified /systemd; do
    while IFS= read -r pid; do
      IFS=' ' read -r _ comm _ ppid _ <"/proc/$pid/stat" || continue
      [ "$comm $ppid" != '(nginx) 1' ] || { nginx_pid=$pid && return; }
    done 2>/dev/null <"/sys/fs/cgroup$line/system.slice/nginx.service/cgroup.procs"
  done
  nginx_pid=$(systemctl show --property=MainPID --value nginx.service 2>/dev/null)
}

# By the signal that `systemctl reload` has sent in the end, without all that comes before it. Where there is no process
# to tell, systemd says so.
reload_nginx() {
  case $nginx_pid in '' | 0 | 1) false ;; *) kill -s HUP "$nginx_pid" ;; esac 2>/dev/null ||
    run_command 120 systemctl reload nginx.service
}

# nginx has taken its new configuration when it has started new workers for it.
check_reloaded() {
  [ "$former_workers" != "$nl" ] || return 0
  workers
  for pid in $workers; do
    case $former_workers in *"$nl$pid$nl"*) ;; *) return 0 ;; esac
  done
  return 1
}
