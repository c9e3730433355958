# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# preflight.sh: has the host's own validators judge a candidate tree before anything is switched.
#
# In a private mount namespace the candidate files are laid over the live tree, so nginx, systemd and Compose see the
# tree as it would be, at its true paths, and nothing outside the namespace changes: the candidate lives in a tmpfs that
# only the namespace has, everything else is read-only there.
#
# Standard input holds lines, then `tar`, then a tar archive with the candidate files under their full paths.
#
#   over DIR              lay candidate files over this existing directory
#   remove PATH           a path that would be gone
#   nginx                 check the nginx configuration
#   unit NAME             check a unit
#   compose PROJECT TAB DIR TAB FILE [TAB FILE]… TAB -- [TAB PROFILE]…
#   former VERSION TAB …  the same project as it lies there, whose containers a Compose of this version has made
#
# Output: `[preflight]`, `composer VERSION` where Compose has a say (empty if there is none), then for each check a line `check WHAT`, its output as `| …` lines, and `exit STATUS`.

preflight_read() {
  over='' remove='' verify='' compose='' former='' nginx=''
  while IFS= read -r line; do
    case $line in
      'over '*) over="$over${line#over }$nl" ;;
      'remove '*) remove="$remove${line#remove }$nl" ;;
      'unit '*) verify="$verify${line#unit }$nl" ;;
      'compose '*) compose="$compose${line#compose }$nl" ;;
      'former '*) former="$former${line#former }$nl" ;;
      nginx) nginx=yes ;;
      tar) break ;;
    esac
  done
  IFS=$nl
}

# Runs in the namespace. $1 fills a directory with the candidate files, and with what it takes to lay them over others:
# a directory for each of those that are laid over, and as many in `.work`.
preflight_mount() {
  scratch=''
  for dir in /mnt /media /srv /tmp; do
    if [ -d "$dir" ]; then scratch=$dir && break; fi
  done
  mount -t tmpfs -o mode=0700 tmpfs "$scratch" || return 1
  # Whoever judges is root, and sees as much whatever the modes of these are.
  umask 022
  # shellcheck disable=SC2086 # one argument for each line
  "$1" "$scratch" && lay_over $over $written || return 1
  mount -o remount,bind,ro / 2>/dev/null
  # shellcheck disable=SC2086 # one argument for each line
  [ -z "$remove" ] || rm -rf -- $remove
}

# One process mounts them all, as long as each name means itself in the list it reads.
lay_over() {
  number=0
  for dir; do
    [ -d "$dir" ] || continue
    number=$((number + 1)) layers=lowerdir=$dir,upperdir=$scratch$dir,workdir=$scratch/.work/$number
    case $dir in
      *[!A-Za-z0-9/._-]*) mount -t overlay -o "$layers" candidate "$dir" || return 1 ;;
      *) printf 'candidate %s overlay %s\n' "$dir" "$layers" ;;
    esac
  done >"$scratch/.overlays"
  mount -a -T "$scratch/.overlays"
}

preflight_report() {
  printf 'check %s\n' "$1"
  shift
  output=$("$@" 2>&1 </dev/null)
  status=$?
  for line in $output; do printf '| %s\n' "$line"; done
  printf 'exit %s\n' "$status"
}

preflight_checks() {
  [ -z "$nginx" ] || preflight_report nginx timeout 60 nginx -t
  [ -z "$verify" ] || preflight_report units preflight_units
  for line in $compose; do
    preflight_compose compose "$line"
  done
}

# Only what is wrong with these units counts, not with those they name; older versions of systemd cannot be told so.
preflight_units() {
  # shellcheck disable=SC2086
  said=$(timeout 120 systemd-analyze verify --man=no --recursive-errors=no $verify 2>&1)
  judged=$?
  # shellcheck disable=SC2086
  case $said in
    *"unrecognized option '--recursive-errors"*) timeout 120 systemd-analyze verify --man=no $verify ;;
    *) printf '%s\n' "$said" && return "$judged" ;;
  esac
}

# One call both validates the project and says which hash each service would be started with.
preflight_compose() {
  what=$1
  IFS=$tab
  # shellcheck disable=SC2086
  set -- $2
  IFS=$nl
  project=$1 directory=$2
  shift 2
  files='' profiles=''
  while [ "$1" != -- ]; do files="$files-f$nl$1$nl" && shift; done
  shift
  for profile; do profiles="$profiles--profile$nl$profile$nl"; done
  preflight_report "$what $project" compose_hashes
}

# Asked about the files, Compose leaves out what `env_file` says; asked about its own answer, in which every reference is
# resolved, it hashes just what `up` does (docker/compose#14001). The services are named, as they are for `up`: so what
# they may do without (`required: false`) and what is not asked for is left out of both.
compose_hashes() {
  # shellcheck disable=SC2086
  set -- docker compose -p "$project" --project-directory "$directory" $profiles
  # shellcheck disable=SC2086
  services=$(timeout 60 "$@" $files config --services) || return
  # shellcheck disable=SC2086
  resolved=$(timeout 60 "$@" $files config $services) && printf '%s\n' "$resolved" | timeout 60 "$@" -f - config --hash '*'
}

# The archive brings the directories too.
fill_from_archive() { tar -x -p -f - -C "$1"; }

# The candidate files are staged already: $staged has lines STAGING-DIRECTORY TAB DIRECTORY.
fill_from_stages() {
  number=0 made=''
  for dir in $over $written; do number=$((number + 1)) && made=$made$1$dir$nl$1/.work/$number$nl; done
  # shellcheck disable=SC2086
  mkdir -p $made || return 1
  for line in $staged; do
    mkdir -p "$1${line#*"$tab"}" && cp -a "${line%%"$tab"*}/." "$1${line#*"$tab"}/" || return 1
  done
}

# Judges what $1 brings, in a namespace of its own. The functions travel as text: a namespace needs a new process.
preflight_in_namespace() {
  if ! have unshare || ! have tar || ! have timeout; then
    printf 'cannot this host lacks unshare, tar or timeout\n'
  elif find_uid && [ "$uid" != 0 ]; then
    printf 'cannot only root can have a private mount namespace\n'
  else
    # Validators write logs, pid files and caches: those go to an overlay too.
    written=/run$nl/var/log$nl/var/lib/nginx
    export over written remove verify compose nginx staged
    # shellcheck disable=SC2154 # the program's own text, from the line that started it
    unshare -m --propagation private sh -c "$program"'
      if preflight_mount "$1"; then preflight_checks; else printf "cannot the candidate could not be mounted\n"; fi
      exit 0' sh "$1" 2>/dev/null || printf 'cannot this host allows no private mount namespace\n'
  fi
}

# What Compose there is. Another one than that of the containers may make other hashes of the same files: then it is
# asked about those that lie there, too.
preflight_composer() {
  composer=$(timeout 60 docker compose version --short 2>/dev/null) || composer=''
  composer=${composer#v}
  printf 'composer %s\n' "$composer"
  [ -n "$composer" ] || compose='' former=''
  for line in $former; do
    [ "${line%%"$tab"*}" = "${composer%%[-+]*}" ] || preflight_compose former "${line#*"$tab"}"
  done
}

preflight() {
  printf '[preflight]\n'
  preflight_read
  [ -z "$compose" ] || preflight_composer
  preflight_in_namespace fill_from_archive
}

# For a transaction that installs packages first: its candidate could not be judged when it was planned.
preflight_staged() {
  preflight_read <"$1/preflight"
  staged=$(cat "$1/staged")
  verdict=$(preflight_in_namespace fill_from_stages)
  for line in $verdict; do
    case $line in
      'exit 0' | 'check '* | 'cannot '*) ;;
      'exit '*) return 1 ;;
      *) printf '%s\n' "${line#| }" ;;
    esac
  done
}
