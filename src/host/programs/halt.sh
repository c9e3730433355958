# shellcheck shell=sh
# halt.sh: tells a run that it is to begin no further transaction. It need not have begun yet.

halt() {
  state='' repo='' run=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'run '*) run=${line#run } ;;
    esac
  done
  umask 077
  mkdir -p "$state/$repo" && printf '%s\n' "$run" >>"$state/$repo/halted"
}
