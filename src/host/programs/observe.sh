# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# observe.sh: says how a host is. Reads only.
#
# Runs as root or not. Standard input holds, after the program's text, lines that say what to look at, then `look`. Standard output gets sections, each begun by a line `[name]`; the
# last one is `[end]`. Where it stays, further lines are heard in the same way; `look` alone is about the same again.
#
#   state DIR     where ledgers are: DIR/REPO/ledger/STACK; left out, it is the usual place for the user
#   repo ID       whose unfinished runs and owed restarts are wanted; with it come the ledgers of all
#   unit NAME     a systemd unit
#   package NAME  a Debian package
#   docker        all containers of Compose projects
#   images        all images of Docker, and how much room it has
#   facts         versions, addresses, memory
#   content PATH  the bytes of a file
#   paths BYTES   that many bytes of paths follow, one on a line
#   look          the end of the list
#   aside N M     where it stays: run the program in the next N bytes, with the M bytes after it as its input
#   instead N     where it stays: be the program in the next N bytes from here on
#
# A path never holds a newline or another control character: the other end has made sure of that.

# What costs nothing to find out.
basics() {
  find_uid
  found="uid $uid"
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    IFS= read -r boot </proc/sys/kernel/random/boot_id && found="$found${nl}boot $boot"
  fi
  [ ! -d /run/systemd/system ] || found="$found${nl}systemd"
  for tool in nginx docker unshare flock curl wget bash apt-get systemd-analyze tar timeout; do
    ! have "$tool" || found="$found${nl}tool $tool"
  done
  printf '[basics]\n%s\n' "$found"
}

# Every path is exactly one of: absent (a), unknown (x), or present with a line of stat (s), and after that its target
# (n) where it is a link. The digests of regular files are a section of their own.
look_at_paths() {
  # shellcheck disable=SC2086 # one argument for each line: IFS is a newline and globbing is off
  set -- $1
  stats=$(stat -c "s %f %u %g %s %U:%G %n${nl}n %N" -- "$@" 2>/dev/null)
  count=0 regular=''
  for line in $stats; do
    case $line in
      's 8'???\ *) count=$((count + 1)) regular=$regular/${line#* /}$nl ;;
      's '*) count=$((count + 1)) ;;
    esac
  done
  [ "$count" = 0 ] || printf '%s\n' "$stats"
  [ "$count" = $# ] || look_for_absent "$@"
  if [ -n "$regular" ]; then
    printf '[digests]\n'
    # shellcheck disable=SC2086
    sha256sum -- $regular 2>/dev/null
    printf '[paths]\n'
  fi
}

look_for_absent() {
  absent=''
  for path; do
    if [ -e "$path" ] || [ -L "$path" ]; then
      :
    elif reachable "$path"; then
      absent="${absent}a $path$nl"
    else
      absent="${absent}x $path$nl"
    fi
  done
  printf '%s' "$absent"
}

# Whether the absence of a path can be believed: the nearest directory above it lets us look inside.
reachable() {
  above=${1%/*}
  while [ -n "$above" ] && [ ! -d "$above" ]; do above=${above%/*}; done
  [ -x "${above:-/}" ]
}

look_at_content() {
  for path in $1; do
    printf 'content %s\n' "$path"
    base64 <"$path" 2>/dev/null
    printf '.\n'
  done
}

look_at_units() {
  printf '[units]\n'
  asked='' resting=''
  find_places
  for unit in $1; do
    if may_rest "$unit"; then
      # name.servic[e]
      asked=$asked${unit%?}[${unit#"${unit%?}"}]$nl resting=$resting$unit$nl
    else
      asked=$asked$unit$nl
    fi
  done
  shown=$(show_units "$asked") && for unit in $resting; do rests "$unit"; done
  # While systemd reads its files for somebody else, it says for a moment that it should.
  for pause in 0.3 0.7 1; do
    case $shown in *NeedDaemonReload=yes*) ;; *) break ;; esac
    sleep "$pause" 2>/dev/null || sleep 1
    shown=$(show_units "$asked")
  done
  printf '%s\n' "$shown"
}

# Whether systemd may not have a unit in memory: its only file is a plain one of /etc, or it has none, and no link
# enables it. Asked for it by name, systemd would read its files and forget them again, 3 ms for each unit. A pattern
# finds what is in memory only, and what is not is inactive.
may_rest() {
  case $1 in *[!A-Za-z0-9._-]*) return 1 ;; esac
  [ ! -L "/etc/systemd/system/$1" ] || return 1
  for place in $places; do
    if [ -e "$place$1" ] || [ -L "$place$1" ]; then return 1; fi
  done
}

# Where such a file or link would be: where systemd finds units besides /etc/systemd/system (systemd.unit(5)), and what
# the links of others lie in.
find_places() {
  set +f
  # Mostly one directory by two names.
  places='' usr=/usr/lib/systemd/system/
  ! [ /lib/systemd/system/ -ef "$usr" ] || usr=''
  for place in /etc/systemd/system.control/ /etc/systemd/system.attached/ /run/systemd/system.control/ \
    /run/systemd/system.attached/ /run/systemd/transient/ /run/systemd/generator/ /run/systemd/generator.early/ \
    /run/systemd/generator.late/ /run/systemd/system/ /usr/local/lib/systemd/system/ /lib/systemd/system/ \
    "$usr" /etc/systemd/system/*/ /run/systemd/system/*/; do
    [ ! -d "$place" ] || places=$places$place$nl
  done
  set -f
}

# What holds of such a unit unless systemd says otherwise after it.
rests() {
  printf 'Rests=yes\nNames=%s\nActiveState=inactive\nSubState=dead\n' "$1"
  if [ -f "/etc/systemd/system/$1" ]; then
    printf 'LoadState=loaded\nFragmentPath=/etc/systemd/system/%s\n\n' "$1"
  else
    printf 'LoadState=not-found\n\n'
  fi
}

show_units() {
  # shellcheck disable=SC2086
  systemctl show --all --no-pager \
    --property=Names,LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,NeedDaemonReload,InvocationID,Type \
    -- $1 2>&1
}

look_at_packages() {
  printf '[packages]\n'
  # shellcheck disable=SC2016,SC2086 # the braces are dpkg's
  dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' -- $1 2>/dev/null
}

look_at_containers() {
  printf '[containers]\n'
  if ! have docker; then
    printf 'none docker is not installed\n'
    return
  fi
  label='{{.Label "com.docker.compose'
  docker ps --all --no-trunc --filter label=com.docker.compose.project --format \
    "c {{.ID}}$tab$label.project\"}}$tab$label.service\"}}$tab$label.config-hash\"}}$tab$label.oneoff\"}}$tab$label.version\"}}$tab{{.State}}$tab{{.Status}}$tab{{.Image}}" \
    2>&1
}

# Each image's digests, layers, tags, id and size, the newest first; what machine the Engine is for, and the room it has left, in KiB.
look_at_images() {
  have docker || return 0
  engine=$(docker info --format '{{.OSType}}/{{.Architecture}} {{.DockerRootDir}}' 2>/dev/null)
  case $engine in ?*/?*\ /*) ;; *) return 0 ;; esac
  printf '[images]\nplatform %s\n' "${engine%% *}"
  df -Pk -- "${engine#* }" 2>/dev/null | sed -n '$s/^.* \([0-9][0-9]*\)  *[0-9]*% .*$/free \1/p'
  ids=$(docker image ls --quiet --no-trunc 2>/dev/null)
  # shellcheck disable=SC2086 # one argument for each line
  [ -z "$ids" ] || docker image inspect --format \
    "i {{json .RepoDigests}}$tab{{json .RootFS.Layers}}$tab{{json .RepoTags}}$tab{{.Id}}$tab{{.Size}}" -- $ids 2>/dev/null
}

# Where our records are: with the system's for root, with the user's own otherwise.
find_state() {
  if [ -z "$state" ]; then
    if [ "$uid" = 0 ]; then state=/var/lib/reconcile; else state=${XDG_STATE_HOME:-$HOME/.local/state}/reconcile; fi
  fi
  printf 'state %s\n' "$state"
}

# Ledgers of all repositories, and what runs of this one left behind.
look_at_ledgers() {
  printf '[ledgers]\n'
  set +f
  set --
  for file in "$state"/*/ledger/*; do [ ! -f "$file" ] || set -- "$@" "$file"; done
  # One process for all, which says before each whose it is.
  [ $# = 0 ] || tail -v -n +1 -- "$@"
  printf '[left]\n'
  # A run whose lock is held is at work, not dead. Looking takes the lock for a moment, shared and for reading. Where the
  # last one has said that it is over, there is nothing to look for.
  if [ -s "$state/$repo/lease" ] && [ -f "$state/$repo/lock" ] && have flock && ! flock -s -n 8 8<"$state/$repo/lock"; then
    IFS= read -r line <"$state/$repo/lease" && printf 'busy %s\n' "$line"
  else
    for file in "$state/$repo"/run/*; do
      # One that is kept has come to its end, and only waits for that of its rollout.
      [ ! -d "$file" ] || [ -f "$file/kept" ] || printf 'run %s\n' "${file##*/}"
    done
  fi
  owed=''
  for file in "$state/$repo"/owed/*; do
    [ ! -f "$file" ] || { IFS= read -r line <"$file" && owed=$owed$line$nl; }
  done
  for file in "$state/$repo"/hold/*; do
    if [ -f "$file" ] && IFS= read -r line <"$file" && in_force "$line"; then
      printf 'hold %s\t%s\n' "${file##*/}" "$line"
    fi
  done
  set -f
  for line in $owed; do
    case $line in docker:*) still_owes "$line" || continue ;; esac
    printf 'owed %s\n' "$line"
  done
}

# Whether a container that owes something, `docker:PROJECT:SERVICE` in the first field of $1, still is one of those in its
# third: ID@TIME,…
still_owes() {
  of=${1%%"$tab"*} of=${of#docker:} was=${1#*"$tab"*"$tab"}
  instances "${of%%:*}" "${of#*:}"
  for instance in $instances; do
    case ,${was%%"$tab"*}, in *",$instance,"*) return 0 ;; esac
  done
  return 1
}

look_at_facts() {
  printf '[facts]\n'
  uname -srm
  nproc 2>/dev/null | sed 's/^/cpus /'
  if have hostname; then printf 'hostname %s\n' "$(hostname)"; fi
  for line in $(cat /etc/os-release 2>/dev/null); do printf 'os %s\n' "$line"; done
  for line in $(cat /proc/meminfo 2>/dev/null); do
    case $line in MemTotal:*) printf 'memory %s\n' "${line#MemTotal:}" && break ;; esac
  done
  if have ip; then for line in $(ip -o addr show scope global 2>/dev/null); do printf 'address %s\n' "$line"; done; fi
  if have systemctl; then printf 'systemd %s\n' "$(systemctl --version 2>/dev/null | head -n 1)"; fi
  if have nginx; then printf 'nginx %s\n' "$(nginx -v 2>&1)"; fi
  if have docker; then
    printf 'docker %s\n' "$(docker --version 2>/dev/null)"
    printf 'compose %s\n' "$(docker compose version --short 2>/dev/null)"
  fi
  printf 'time %s\n' "$(date +%s)"
}

# What to look at, from `line` on. Paths stay in the batches they come in: each is few enough for one command.
read_questions() {
  state='' repo='' units='' packages='' contents='' docker='' images='' facts='' batches=0
  while :; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'unit '*) units="$units${line#unit }$nl" ;;
      'package '*) packages="$packages${line#package }$nl" ;;
      'content '*) contents="$contents${line#content }$nl" ;;
      'paths '*)
        batches=$((batches + 1)) batch=$(dd bs="${line#paths }" count=1 iflag=fullblock 2>/dev/null)
        # The text that is evaluated holds a name, never a path.
        eval "batch_$batches=\$batch"
        ;;
      docker) docker=yes ;;
      images) images=yes ;;
      facts) facts=yes ;;
      look) return 0 ;;
    esac
    IFS= read -r line || return 1
  done
}

look() {
  basics
  find_state
  printf '[paths]\n'
  number=0
  while [ "$number" -lt "$batches" ]; do
    number=$((number + 1))
    eval "batch=\$batch_$number"
    look_at_paths "$batch"
  done
  if [ -n "$contents" ]; then printf '[contents]\n' && look_at_content "$contents"; fi
  if [ -n "$repo" ]; then look_at_ledgers; fi
  if [ -n "$units" ] && have systemctl; then look_at_units "$units"; fi
  if [ -n "$packages" ]; then look_at_packages "$packages"; fi
  if [ -n "$docker" ]; then look_at_containers; fi
  if [ -n "$images" ]; then look_at_images; fi
  if [ -n "$facts" ]; then look_at_facts; fi
}

observe() { IFS= read -r line && read_questions && look; }

# Answers until the other end goes away. It keeps no directory in use, and does not trust what the shell remembers of
# where commands are. Who is here already is also who starts another program, at less cost than a further session.
stay() {
  cd /
  while IFS= read -r line; do
    case $line in
      'aside '*) aside "${line#aside }" || exit ;;
      'instead '*)
        program=$(dd bs="${line#instead }" count=1 iflag=fullblock 2>/dev/null)
        eval "$program" && main
        exit
        ;;
      look) look && printf '[end]\n' ;;
      *) read_questions && look && printf '[end]\n' ;;
    esac
    hash -r
  done
}

# aside PROGRAM INPUT, the bytes of each: a program that does not stay. What it leaves of its input is no question, and
# where it dies there is no answer.
aside() {
  program=$(dd bs="${1% *}" count=1 iflag=fullblock 2>/dev/null)
  head -c "${1#* }" | {
    (eval "$program" && work)
    worked=$?
    if IFS= read -r line; then cat >/dev/null; fi
    exit "$worked"
  } && printf '[end]\n'
}
