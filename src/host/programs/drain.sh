# shellcheck shell=sh disable=SC2034,SC2154
# (Names come from the other files.)
# drain.sh: takes servers out of nginx's pools for a while, and puts them back: the word `down` behind a server of an
# `upstream`. Nothing else about the files changes, so once all are back they are what they were; whoever dies in
# between leaves a file that differs from what is wanted, which the next plan shows.
#
# Lines: `drain` or `fill`, then `server SITE STACK UPSTREAM ADDRESS PATH` with tabs between, then `end`. Says of each
# server, by its number:
#   out, in    it gets no new requests now, or gets them again
#   absent     nginx there knows no such server
#   last       it is the last one that is not out, and stays in
#   silent     nothing answers there yet, and it stays out

# A file of ours: the ledger of its stack names it.
is_ours() {
  [ -f "$2" ] && ! [ -L "$2" ] && [ -f "$state/$repo/ledger/$1" ] || return 1
  while IFS= read -r line; do
    case $line in "file$tab$2$tab"* | "secret$tab$2$tab"*) return 0 ;; esac
  done <"$state/$repo/ledger/$1"
  return 1
}

# mark UPSTREAM ADDRESS PATH: writes the file with the server marked as the word says into `new`. `found` is how the
# server was (`in`, `out`, or nothing where it is not there), `others` how many beside it are in.
mark() {
  found='' others=0 inside='' line=''
  while IFS= read -r line; do
    bare=${line#"${line%%[! "$tab"]*}"}
    case $inside$bare in
      "upstream $1 {"*) inside=' ' ;;
      ' }'*) inside='' ;;
      " server $2 "*' down;'* | " server $2 down;"*)
        found=out
        [ "$word" = drain ] || line="${line% down;*};${line##* down;}"
        ;;
      " server $2 "* | " server $2;"*)
        found=in
        [ "$word" = fill ] || line="${line%%;*} down;${line#*;}"
        ;;
      ' server '*' down;'*) ;;
      ' server '*) others=$((others + 1)) ;;
    esac
    # Room may come back in between: a line that is lost is not to be missed.
    printf '%s\n' "$line" || return 1
  done <"$3" >"$new" && printf '%s' "$line" >>"$new"
}

# One server: the file is another afterwards, or `answer` is why not.
one_server() {
  answer=absent
  if ! is_ours "$2" "$5" || ! systemctl is-active --quiet nginx.service; then return 0; fi
  new=${5%/*}/.reconcile-drain
  cp -p -- "$5" "$new" && mark "$3" "$4" "$5" || return 1
  case $word$found in
    drainout | fillin) answer=$found ;;
    drainin) if [ "$others" -gt 0 ]; then answer=out; else answer=last; fi ;;
    fillout)
      host=${4%:*}
      host=${host#[}
      if check 15 tcp "${host%]}" "${4##*:}" >/dev/null; then answer=in; else answer=silent; fi
      ;;
  esac
  case $found$answer in
    inout | outin) replace "$1" "$5" ;;
    *) rm -f -- "$new" ;;
  esac
}

# replace SITE PATH: by the new file. What was there first is kept, whatever else happens to the same file; and that
# nginx must read it is written down first.
replace() {
  case $nl$changed in
    *"$nl$2$nl"*) ;;
    *)
      kept=$((kept + 1))
      cp -p -- "$2" "$run_dir/$kept" || return 1
      ;;
  esac
  [ -n "$changed" ] || owe reload "$1" nginx.service || return 1
  changed=$changed$2$nl
  sync "$new" && mv -f -- "$new" "$2" && sync "${2%/*}"
}

# nginx judges all of it before it is told.
tell_nginx() {
  [ -n "$changed" ] || return 0
  run_command 30 nginx -t || return 1
  told=yes
  workers && former_workers=$nl$workers && reload_nginx && check 10 reloaded &&
    pays reload nginx.service
}

put_all_back() {
  kept=0 back=$nl
  for path in $changed; do
    case $back in *"$nl$path$nl"*) continue ;; esac
    back=$back$path$nl
    kept=$((kept + 1))
    new=${path%/*}/.reconcile-drain
    cp -p -- "$run_dir/$kept" "$new" && sync "$new" && mv -f -- "$new" "$path" || return 1
  done
  if [ -z "$told" ]; then owe_as_before nginx.service; else reload_nginx && pays reload nginx.service; fi
}

drain() {
  exec 4>&1
  state='' repo='' run='' who='' wait=0 word='' servers=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'run '*) run=${line#run } ;;
      'who '*) who=${line#who } ;;
      'wait '*) wait=${line#wait } ;;
      drain | fill) word=$line ;;
      'server '*) servers=$servers${line#server }$nl ;;
      end) break ;;
    esac
  done
  # Who was cut off before that has said nothing.
  [ "$line" = end ] || return 0
  IFS=$nl
  umask 077
  lock || return 0
  trap '' HUP PIPE INT TERM
  run_dir=$state/$repo/drain dir=$state/$repo/drain changed='' kept=0 told='' answer='' answers='' number=0
  watched='' guarded='' nginx_pid='' former_workers=$nl
  rm -rf -- "$run_dir" && mkdir -- "$run_dir" "$run_dir/owed" && true >"$run_dir/output" || return 0
  for server in $servers; do
    number=$((number + 1)) answer=failed
    IFS=$tab
    # shellcheck disable=SC2086
    set -- $server
    IFS=$nl
    one_server "$@" 2>"$run_dir/output" || { answer=failed && break; }
    answers="${answers}server $number $answer$nl"
  done
  if [ "$answer" = failed ] || ! tell_nginx; then
    put_all_back
    printf 'failed\n'
    for line in $(tail -n 5 "$run_dir/output"); do printf '| %s\n' "$line"; done
  else
    printf '%s' "$answers"
  fi
  rm -rf -- "$run_dir"
}
