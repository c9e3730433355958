# shellcheck shell=sh disable=SC2013,SC2086,SC2154
# (Lines, not words: IFS is a newline. Names come from the other files.)
# build.sh: builds images on a host that has nothing else to do with them, from files that come along. An engine only
# gets images by it; what runs there goes on as it is. One build of a repository is at work at a time.
#
# Standard input holds lines, then `tar`, then a tar archive of the files under their paths in the repository.
#
#   state DIR, repo ID      where our records are
#   wait SECONDS            for another build
#   seconds SECONDS         for each image
#   image IMAGE TAB SERVICE TAB NAME    build SERVICE of the file SERVICE.build, as IMAGE; those that begin with it say NAME
#   discard IMAGE           a former image that need not stay
#
# Output: `| …` lines of what is said, `there IMAGE TAB ID` for each image that is there in the end, or `broken WHY`.

build() {
  state='' repo='' wait=0 seconds=3600 images='' discard=''
  while IFS= read -r line; do
    case $line in
      'state '*) state=${line#state } ;;
      'repo '*) repo=${line#repo } ;;
      'wait '*) wait=${line#wait } ;;
      'seconds '*) seconds=${line#seconds } ;;
      'image '*) images=$images${line#image }$nl ;;
      'discard '*) discard=$discard${line#discard }$nl ;;
      tar) break ;;
    esac
  done
  IFS=$nl
  umask 077
  place=$state/$repo/build
  if ! mkdir -p -- "$place"; then
    printf 'broken %s cannot be made\n' "$place"
    return 0
  fi
  exec 8>"$place/lock"
  # Whoever asked may be gone meanwhile: the build comes to its end all the same, and its files go.
  trap '' HUP PIPE
  if ! flock -w "$wait" 8; then
    printf 'broken another build is at work there\n'
    return 0
  fi
  # A build that died left its files.
  rm -rf -- "$place/files"
  build_all
  rm -rf -- "$place/files"
}

build_all() {
  umask 022
  if ! mkdir -- "$place/files" || ! unpack "$place/files" "$place/receive"; then
    said <"$place/receive"
    printf 'broken the files did not arrive whole\n'
    return 0
  fi
  for line in $images; do
    IFS=$tab
    build_image $line
    built=$?
    IFS=$nl
    [ "$built" = 0 ] || return 0
  done
  for image in $discard; do
    docker image rm -- "$image" 2>&1 | said
  done
}

# IMAGE SERVICE [NAME]
build_image() {
  IFS=$nl
  if ! docker image inspect -- "$1" >/dev/null 2>&1; then
    {
      timeout -k 5 "$seconds" docker compose -p reconcile-build --project-directory "$place/files" \
        -f "$place/files/$2.build" build "$2" 2>&1 </dev/null 8>&-
      echo "$?" >"$place/status"
    } | said
    IFS= read -r status <"$place/status"
    if [ "$status" != 0 ]; then
      case $status in 124 | 137) why="took longer than $seconds s" ;; *) why="failed with $status" ;; esac
      printf 'broken the build of %s %s\n' "$2" "$why"
      return 1
    fi
  fi
  if [ -n "${3:-}" ] && ! docker image tag "$1" "$3"; then
    printf 'broken %s cannot be called %s\n' "$1" "$3"
    return 1
  fi
  printf 'there %s\t%s\n' "$1" "$(docker image inspect --format '{{.Id}}' -- "$1")"
}

said() { while IFS= read -r words; do printf '| %s\n' "$words"; done; }
