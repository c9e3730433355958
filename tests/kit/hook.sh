# shellcheck shell=bash
# Read by bash in front of a host program, while a test wants to stop it (see stop.rs). Counts the simple commands that
# match a pattern, in all its subshells, from the call of a certain function on, and does at one of them what the test
# asks for. The folder holds: from, those functions; on, the pattern; at, the number; how, kill or hold; count and where,
# how far it came; and unconfirmed, where no word of a confirmation may get through.
hook=/run/reconcile-hook
hook_counts=''
read -r hook_from <$hook/from
read -r hook_on <$hook/on
read -r hook_at <$hook/at
read -r hook_how <$hook/how
hook_command() {
  [ "$1" != confirm ] || [ ! -e $hook/unconfirmed ] || kill -9 0
  case " $hook_from " in *" $1 "*) hook_counts=yes ;; esac
  [ -n "$hook_counts" ] || return 0
  # shellcheck disable=SC2254 # a pattern
  case $1 in $hook_on) ;; *) return 0 ;; esac
  # A function's call is told of twice: before it, and before the first command in it.
  case $1 in "${FUNCNAME[1]}" | "${FUNCNAME[1]} "*) return 0 ;; esac
  local count
  read -r count <$hook/count
  count=$((count + 1))
  printf '%s\n' "$count" >$hook/count
  [ "$count" = "$hook_at" ] || return 0
  printf '%s\n' "$1" >$hook/where
  case $hook_how in
    kill) kill -9 0 ;;
    hold) while [ -e $hook/at ]; do /bin/sleep 0.02; done ;;
  esac
}
set -o posix -o functrace
trap 'hook_command "$BASH_COMMAND"' DEBUG
