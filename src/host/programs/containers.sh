# shellcheck shell=sh disable=SC2013,SC2034,SC2086,SC2154
# (Lines, not words: IFS is a newline. Names come from the other files.)
# containers.sh: whether the containers of a Compose project come up, and what they said where they do not. A part of
# apply.sh.
#
# A container works where its health check says so, or where it has none and has run for a while; one that has ended
# works if it ended well. It will never work once it is unhealthy, has ended with an error for good, has been started
# again more often than it may, or has had its time.

# What is looked at: PROJECT, within how many seconds each container must work, for how many it must run, how often it
# may be started again, SERVICE,…
look_after() { of_project=$1 of_within=$2 of_steady=$3 of_restarts=$4 of_services=$5 overdue=''; }

# Each container of the project, on one line.
inspect_containers() {
  ids=$(docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$of_project" \
    --filter label=com.docker.compose.oneoff=False 2>/dev/null)
  [ -n "$ids" ] || return 0
  docker inspect --format "{{index .Config.Labels \"com.docker.compose.service\"}}$tab{{.Id}}$tab{{.State.Status}}$tab{{with index .State \"Health\"}}{{.Status}}{{else}}-{{end}}$tab{{.RestartCount}}$tab{{.State.StartedAt}}$tab{{.State.ExitCode}}$tab{{.State.OOMKilled}}" \
    -- $ids 2>/dev/null
}

# When $1 was first asked about.
first_seen() {
  case $nl$noted in
    *"$nl$1$tab"*)
      first=${noted#*"$1$tab"}
      first=${first%%"$nl"*}
      ;;
    *)
      noted=$noted$1$tab$clock$nl
      first=$clock
      ;;
  esac
}

# Judges all of them: 0 where they work, 1 where one does not yet, 2 where one never will. $why says which, $ill has the
# ids of those that never will.
judge_containers() {
  clock=$(now) why='' ill='' judged=0 met=,
  for line in $(inspect_containers); do
    IFS=$tab
    judge_container $line
    IFS=$nl
  done
  [ -n "$working" ] || judge_missing
  return "$judged"
}

# Once Compose is done, every service has a container.
judge_missing() {
  rest=$of_services,
  while [ -n "$rest" ]; do
    case $met in *",${rest%%,*},"*) ;; *) never_works "${rest%%,*}" '' "has no container" ;; esac
    rest=${rest#*,}
  done
}

# SERVICE ID STATE HEALTH RESTARTS STARTED EXIT-CODE OUT-OF-MEMORY
judge_container() {
  case ,$of_services, in *",$1,"*) ;; *) return 0 ;; esac
  restarts=$5 met=$met$1,
  case $nl$former in
    # It was there before, and the command that is at work has not come to it yet.
    *"$nl$2 $6 "*) if [ -n "$working" ]; then return 0; fi ;;
  esac
  case $nl$former in
    *"$nl$2 "*)
      before=${former#*"$2 "}
      before=${before#* }
      before=${before%%"$nl"*}
      # A start by hand begins to count anew.
      if [ "$restarts" -ge "$before" ]; then restarts=$((restarts - before)); fi
      ;;
  esac
  case $8 in true) ended="code $7, out of memory" ;; *) ended="code $7" ;; esac
  often="ends again and again: it was started again $restarts times"
  case "$3 $4" in
    # Only while it is down it says how it ended.
    'running '*)
      if [ "$restarts" -gt $((of_restarts + 1)) ]; then
        never_works "$1" "$2" "$often"
        return 0
      fi
      ;;
    *)
      if [ "$restarts" -gt "$of_restarts" ]; then
        never_works "$1" "$2" "$often, and ended with $ended"
        return 0
      fi
      ;;
  esac
  case "$3 $4" in
    'running healthy') return 0 ;;
    'running unhealthy')
      never_works "$1" "$2" "is unhealthy"
      return 0
      ;;
    'running -')
      first_seen "$2 $6"
      [ $((clock - first)) -lt "$of_steady" ] || return 0
      ;;
    'exited '* | 'dead '*)
      [ "$7" = 0 ] || never_works "$1" "$2" "has ended with $ended"
      return 0
      ;;
  esac
  [ "$judged" != 0 ] || judged=1
  first_seen "$2"
  if [ -n "$overdue" ] || [ $((clock - first)) -ge "$of_within" ]; then
    case $4 in
      -) never_works "$1" "$2" "is $3 after $of_within s" ;;
      *) never_works "$1" "$2" "is $3 and not healthy after $of_within s" ;;
    esac
  fi
}

never_works() { judged=2 why="$why$1 $3$nl" ill="$ill$2$nl"; }

# What is wrong, and the last lines of those that do not work; of many the first.
tell_containers() {
  printf '%s' "$why"
  told=0
  for id in $ill; do
    [ "$told" -lt 3 ] || break
    told=$((told + 1))
    docker inspect --format '{{.Name}} said last:' -- "$id" | cut -c 2-
    timeout -k 5 20 docker logs --tail 15 -- "$id" 2>&1
    said=$(docker inspect --format '{{with index .State "Health"}}{{range .Log}}exit {{.ExitCode}}: {{.Output}}{{"\n"}}{{end}}{{end}}' -- "$id" |
      grep . | tail -n 2)
    [ -z "$said" ] || printf 'its health check said last:\n%s\n' "$said"
  done
}

# watch SECONDS PROJECT WITHIN STEADY RESTARTS SERVICES COMMAND…: runs a command that starts containers, and ends it as
# soon as one of them will never work: Compose itself may wait for long.
watch() {
  deadline=$1
  look_after "$2" "$3" "$4" "$5" "$6"
  shift 6
  working=yes
  for line in $(inspect_containers); do
    IFS=$tab
    note_former $line
    IFS=$nl
  done
  rm -f -- "$run_dir/status" "$run_dir/pid"
  (
    (trap - TERM && exec sh -c 'echo "$$" >"$0"; exec timeout -k 5 "$@"' "$run_dir/pid" "$deadline" "$@") >"$run_dir/output" 2>&1
    echo "$?" >"$run_dir/status"
  ) </dev/null 4>&- 8>&- 9>&- &
  at_work=$!
  until [ -s "$run_dir/status" ]; do
    sleep 0.2 2>/dev/null || sleep 1
    judge_containers
    if [ "$judged" = 2 ]; then
      kill "$(cat "$run_dir/pid")" 2>/dev/null
      wait "$at_work"
      true >"$run_dir/output"
      tell_containers
      return 1
    fi
  done
  wait "$at_work"
  IFS= read -r status <"$run_dir/status"
  if [ "$status" != 0 ]; then
    # Compose has given up: whatever was started again is a reason.
    of_restarts=0
    judge_containers
    tell_containers
    return 1
  fi
  working=''
}

note_former() { former="$former$2 $6 $5$nl"; }

# What was seen to work is looked at again while other checks are made.
check_containers() {
  working=''
  look_after "$@"
  judge_containers
  case $judged in
    0) guarded="$guarded$1$tab$2$tab$3$tab$4$tab$5$nl" ;;
    1) ;;
    2) tell_containers ;;
  esac
  return "$judged"
}

# What does not work yet never will: on a busy host, a look may take longer than all the time there is.
tell_overdue() {
  overdue=yes
  judge_containers
  tell_containers
}

# rest stop|pause ID…: of these containers those that run come to rest, as they were.
rest() {
  verb=$1
  shift
  running=$(docker ps --quiet --no-trunc --filter status=running --filter status=restarting) || return 1
  for id; do
    shift
    case $nl$running$nl in *"$nl$id$nl"*) set -- "$@" "$id" ;; esac
  done
  [ $# = 0 ] || run_command 120 docker "$verb" "$@"
}

# Whether containers that worked will never do so again.
containers_lost() {
  for line in $guarded; do
    IFS=$tab
    look_after $line
    IFS=$nl
    judge_containers
    if [ "$judged" = 2 ]; then
      tell_containers
      return 0
    fi
  done
  return 1
}
