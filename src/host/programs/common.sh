# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# common.sh: what all host programs share. They run under dash, bash and busybox sh.
#
# Conventions: IFS is a newline and globbing is off, so an unquoted list of lines becomes one argument for each line.
# Data never becomes program text: it arrives in lines on standard input, or in files of a tar archive.

export LC_ALL=C QUOTING_STYLE=literal PATH="$PATH:/usr/sbin:/sbin:/usr/bin:/bin"
set -f
nl='
'
tab='	'
IFS=$nl
uid=''

# Who we are. /proc tells it without a process.
find_uid() {
  line=''
  while IFS=$tab read -r line _ uid _; do [ "$line" != Uid: ] || break; done 2>/dev/null </proc/self/status
  case $line$uid in Uid:[0-9]*) ;; *) uid=$(id -u) ;; esac
}

# Whether a hold whose file has this line still counts: until when comes first. What cannot be read counts.
in_force() {
  case ${1%%"$tab"*} in '' | *[!0-9]*) return 0 ;; esac
  [ "${1%%"$tab"*}" -gt "$(date +%s)" ]
}

# `lines`: those of a short file, none where there is no such file. The shell reads it by itself, so there is no process
# that could be killed apart from it.
read_lines() {
  lines=''
  [ -f "$1" ] || return 0
  while IFS= read -r line; do lines=$lines$line$nl; done <"$1"
}

# `instances`: the containers of a service of a Compose project, PROJECT SERVICE, each with when it was started.
instances() {
  instances=$(docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$1" \
    --filter "label=com.docker.compose.service=$2" --filter label=com.docker.compose.oneoff=False 2>/dev/null)
  # shellcheck disable=SC2086 # one argument for each line
  [ -z "$instances" ] || instances=$(docker inspect --format '{{.Id}}@{{.State.StartedAt}}' -- $instances 2>/dev/null)
}

have() { command -v "$1" >/dev/null 2>&1; }
