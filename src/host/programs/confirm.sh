# shellcheck shell=sh
# confirm.sh: tells a waiting run, over a connection made after its changes, that its host can still be reached.

confirm() {
  state='' repo='' run=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'run '*) run=${line#run } ;;
    esac
  done
  pipe=$state/$repo/run/$run/confirmed
  [ -p "$pipe" ] && printf 'yes\n' 1<>"$pipe"
}
