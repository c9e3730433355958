# shellcheck shell=sh disable=SC2013,SC2016,SC2034,SC2154,SC3013
# (Lines, not words: IFS is a newline. Names come from the other files. `-ef` is in dash, bash and busybox.)
# discover.sh: says what was set up on a host by hand. Reads only, and asks for nothing.
#
# Standard output gets lines of a word and what follows it; the last line is `[end]`.
#
#   file PATH           a regular file of systemd's or nginx's that somebody may have written
#   link PATH           a link among them
#   package NAME: PATH  the package that a file belongs to (as dpkg says it)
#   demand UNIT         a unit that something else starts: a timer, a socket, a path
#   project FIELDS      a Compose project: name, directory, files, env files, separated by tabs

discover() {
  set +f
  files='' units=''
  for path in /etc/systemd/system/* /etc/systemd/system/*.d/*.conf \
    /etc/nginx/sites-available/* /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*.conf; do
    # A name with a line end in it is no name that anybody has given on purpose.
    case $path in *"$nl"*) continue ;; esac
    if [ -L "$path" ]; then
      printf 'link %s\n' "$path"
    elif [ -f "$path" ]; then
      printf 'file %s\n' "$path"
      files="$files$path$nl"
      case $path in /etc/systemd/system/*/*) ;; /etc/systemd/*) units="$units${path##*/}$nl" ;; esac
    fi
  done
  set -f
  # shellcheck disable=SC2086 # one argument for each line: IFS is a newline and globbing is off
  if [ -n "$files" ] && have dpkg-query; then
    for line in $(dpkg-query -S -- $files 2>/dev/null); do printf 'package %s\n' "$line"; done
  fi
  if have systemctl; then
    for unit in $units; do
      # A pattern is no unit. Of a unit that systemd has not read, nothing is known.
      case $unit in *@.*) continue ;; esac
      [ -z "$(systemctl show --property=TriggeredBy --value -- "$unit" 2>/dev/null)" ] || printf 'demand %s\n' "$unit"
    done
  fi
  if have docker; then
    label='{{.Label "com.docker.compose.project'
    projects=$(docker ps --all --filter label=com.docker.compose.project --format \
      "$label\"}}$tab$label.working_dir\"}}$tab$label.config_files\"}}$tab$label.environment_file\"}}" 2>/dev/null)
    for line in $(printf '%s\n' "$projects" | sort -u); do printf 'project %s\n' "$line"; done
  fi
}
