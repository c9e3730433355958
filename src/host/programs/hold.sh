# shellcheck shell=sh disable=SC2034,SC2154
# (Names come from the other files.)
# hold.sh: holds a stack back on this host, or releases it: one file, STATE/REPO/hold/STACK, written under the host's
# lock. `record` is its line, until, since, who and why, separated by tabs; without it the stack is released.

hold() {
  exec 4>&1
  state='' repo='' who='' wait=0 stack='' record=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'who '*) who=${line#who } ;;
      'wait '*) wait=${line#wait } ;;
      'stack '*) stack=${line#stack } ;;
      'record '*) record=${line#record } ;;
      end) break ;;
    esac
  done
  # Who was cut off before that has said nothing.
  [ "$line" = end ] || return 0
  umask 077
  lock || return 0
  holds=$state/$repo/hold
  if [ -z "$record" ] && ! [ -e "$holds/$stack" ]; then
    printf 'free\n'
  elif [ -z "$record" ]; then
    rm -f -- "$holds/$stack" && printf 'released\n'
  elif mkdir -p -- "$holds" && printf '%s\n' "$record" >"$state/$repo/hold.new" && sync "$state/$repo/hold.new" &&
    mv -f -- "$state/$repo/hold.new" "$holds/$stack" && sync "$holds"; then
    printf 'held\n'
  fi
}
