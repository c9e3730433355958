# shellcheck shell=sh disable=SC2154
# (Names come from the other files.)
# paths.sh: what the steps do that are about files and directories. A part of apply.sh; revert.sh has the reverse.

# mkdir MODE OWNER GROUP DIR…, above MODE OWNER GROUP DIR…: from the top down. How those were that have come since the
# plan, with a package or another stack, is noted; those that are only above something stay like that.
make_directories() {
  mode=$1 owner=$2 group=$3
  shift 3
  for made; do
    shift
    if [ -d "$made" ]; then
      if [ "$verb" = mkdir ]; then stat -c "00%a$tab%u$tab%g$tab%n" -- "$made"; else printf -- "-$tab-$tab-$tab%s\n" "$made"; fi \
        >>"$dir/came" && sync "$dir/came" || return 1
      [ "$verb" = mkdir ] || continue
    fi
    set -- "$@" "$made"
  done
  [ $# != 0 ] || return 0
  if [ "$owner" = - ]; then install -d -m "$mode" -- "$@"; else install -d -m "$mode" -o "$owner" -g "$group" -- "$@"; fi
}

change_directory_meta() {
  chmod "$1" -- "$4" && { [ "$2" = - ] || chown "$2:$3" -- "$4"; }
}

# keep DIR PATH…: second links to what is about to be replaced; copies where the file system has no hard links. What is
# in DIR is whole.
keep() {
  kept=$1
  shift
  ln -- "$@" "$kept/" 2>/dev/null && return
  mkdir -p "$kept.new" || return 1
  for path; do
    copy "$path" "$kept.new" && mv -f -- "$kept.new/${path##*/}" "$kept/." || return 1
  done
}

# copy PATH DIR: whole, and on the disk.
copy() { cp -a -f -- "$1" "$2/" && { [ -L "$1" ] || sync "$2/${1##*/}"; }; }

# came DIR PATH…: the same for those that a package has brought since the plan.
keep_what_came() {
  kept=$1
  shift
  for path; do
    shift
    if [ -e "$path" ] || [ -L "$path" ]; then set -- "$@" "$path"; fi
  done
  [ $# = 0 ] || keep "$kept" "$@"
}
