# shellcheck shell=sh disable=SC2154,SC2034
# One command of the other end: its input, its start, its end by itself or by the client.
#
# Given: j_mark; j_bytes of input, to be kept in j_room; j_cwd or nothing; j_path; j_merge (yes: one
# stream, and nothing stays); j_tag, a pattern; j_grace and j_drain in tenths of a second; j_env and
# j_exec, which set the variables and start "$@"; the command as arguments of j_command.

# The input stands in a file without a name: nobody has to feed a command that does not read it, and
# what follows on the channel are words of the client.
j_input() {
  if [ "$j_bytes" = 0 ]; then
    exec 4</dev/null
    return
  fi
  for j_place in $j_room; do
    if [ -d "$j_place" ] && [ -w "$j_place" ]; then break; fi
  done
  j_file=$j_place/.jericho-$j_mark
  j_problem=$( (umask 077; set -C; head -c "$j_bytes" >"$j_file") 2>&1)
  if [ "$(wc -c <"$j_file")" -ne "$j_bytes" ]; then
    rm -f "$j_file"
    j_end "i $j_problem"
  fi
  exec 4<"$j_file"
  rm -f "$j_file"
}

# Tells before anything is started what cannot be started, as execvp(3) would find it.
j_check() {
  if [ -n "$j_cwd" ] && ! cd "$j_cwd" 2>/dev/null; then
    j_end "c $(ls -d "$j_cwd/." 2>&1 >/dev/null)"
  fi
  j_cwd=$PWD
  j_seen=''
  case $1 in
    */*) j_try "$1" && return ;;
    ?*)
      j_rest=$j_path:
      while [ -n "$j_rest" ]; do
        j_place=${j_rest%%:*}
        j_rest=${j_rest#*:}
        j_try "${j_place:-.}/$1" && return
      done
      ;;
  esac
  j_end "${j_seen:-n}"
}

# j_ready PROGRAM: what every command needs, whether it talks or not. The shells that look after it stay
# in no directory that somebody may want to be rid of.
j_ready() {
  j_check "$1"
  cd / || exit
  j_setsid=$(command -v setsid) || j_end "m setsid"
}

j_try() {
  if [ -f "$1" ] && [ -x "$1" ]; then return 0; fi
  if [ -e "$1" ]; then j_seen=d; fi
  return 1
}

# Becomes the command. Its own number comes first, on what j_command captures.
j_start() {
  trap - PIPE
  read -r j_self j_rest </proc/self/stat
  echo "$j_self"
  exec <&4 >&5 2>&6 3<&- 4<&- 5>&- 6>&-
  cd "$j_cwd" || exit 127
  unset PATH PWD OLDPWD SHLVL _
  j_env
  j_exec "$@"
}

# Prints PID:PARENT:GROUP:SESSION:MAIN of each process that can be the command's: not older than this
# shell and not of its session, where those are that look after the command. MAIN is 1 for the command
# itself, which such a one has started.
j_processes() {
  cat /proc/[0-9]*/stat 2>/dev/null | awk -v own=$$ -v all="$j_all" '
    {
      pid = $1
      sub(/^.*\) /, "")
      # Neither zombies nor threads of the kernel.
      if ($1 ~ /[ZXx]/ || $2 == 2 || pid == 2) next
      parent[pid] = $2; group[pid] = $3; session[pid] = $4; start[pid] = $20
    }
    END {
      for (pid in parent) if (session[pid] != own && (all || start[pid] >= start[own]))
        print pid ":" parent[pid] ":" group[pid] ":" session[pid] ":" (session[parent[pid]] == own)
    }'
}

# Prints PID:HELD of each process of the command, HELD being 1 when it holds the output; after
# `j_look main` the number of the command itself alone.
j_look() {
  j_table=$(j_processes)
  if [ -z "$j_table" ]; then return; fi
  j_environs='' j_fds=''
  for j_entry in $j_table; do
    j_self=${j_entry%%:*}
    case $1$j_entry in main*:1) echo "$j_self" ;; esac
    j_environs="$j_environs /proc/$j_self/environ"
    j_fds="$j_fds /proc/$j_self/fd"
  done
  if [ -n "$1" ]; then return; fi
  {
    printf '%s\n' "$j_table"
    # shellcheck disable=SC2086 # words of digits and slashes
    if [ -n "$j_merge" ]; then
      grep -lz -e "$j_tag" $j_environs
      if [ -n "$j_pipe" ]; then find $j_fds -lname "$j_pipe" -perm -200; fi
    fi
  } 2>/dev/null | awk -F : -v job="$j_job" '
    /^\/proc\// {
      split($0, part, "/")
      if (part[4] == "environ") ours[part[3]]; else held[part[3]]
      next
    }
    {
      parent[$1] = $2
      if ($5 || (job != "" && ($3 == job || $4 == job))) ours[$1]
    }
    END {
      for (pid in held) ours[pid]
      do {
        more = 0
        for (pid in parent) if (!(pid in ours) && parent[pid] in ours) { ours[pid]; more = 1 }
      } while (more)
      for (pid in ours) print pid ":" (pid in held)
    }'
}

# j_signal NAME: to every process of the command. They stand still meanwhile: none sees another end, and goes on
# or says so, before it has the signal itself.
j_signal() {
  j_those=$(j_look)
  for j_step in STOP "$1" CONT; do
    for j_entry in $j_those; do
      kill -s "$j_step" "${j_entry%:*}" 2>/dev/null
    done
  done
}

# j_gone TENTHS: waits until none is left, or another word has come. They are no children of this
# shell, so that there is nothing it could wait for but time.
j_gone() {
  j_left=$1
  j_known=$j_stop
  # Twice: a process that is made while the table is read, by one that then ends, is missed once.
  while [ -n "$(j_look)" ] || [ -n "$(j_look)" ]; do
    if [ "$j_left" = 0 ] || [ "$j_stop" != "$j_known" ]; then return 1; fi
    sleep 0.1 || sleep 1
    j_left=$((j_left - 1))
  done
}

# Finds the command itself, by which everything in its session is known from then on. It is between
# its fork and its start for a moment, where it cannot be told from this shell.
j_find() {
  for j_round in 1 2 3 4 5 6 7 8 9; do
    j_job=$(j_look main)
    if [ -n "$j_job" ] || [ -n "$(j_look)" ]; then return; fi
    sleep 0.1
  done
}

j_kill() {
  for j_round in 1 2 3 4 5 6 7 8 9; do
    j_signal KILL
    if j_gone 1; then return; fi
  done
}

# The words of the client, until the channel is closed: then nobody is left to want the command.
j_listen() {
  while IFS= read -r j_word; do
    case $j_word in
      t) j_terminate ;;
      k) kill -s USR2 $$ && j_kill ;;
    esac
  done
  j_terminate
  j_gone "$j_grace" || { kill -s USR2 $$ && j_kill; }
}

j_terminate() {
  kill -s USR1 $$
  j_find
  j_signal TERM
}

# The command has ended, by itself or on a word of the client; what it has left goes now.
j_settle() {
  if [ -z "$j_stop" ]; then
    if j_gone "$j_drain"; then return; fi
    if [ -z "$j_stop" ]; then
      j_name
      j_signal TERM
      if [ "$j_grace" -gt 5 ]; then j_grace=5; fi
      j_gone "$j_grace" || j_kill
      return
    fi
  fi
  # The client counts the grace, and its next word ends them.
  if [ "$j_stop" = 2 ] || ! j_gone 999999999; then j_kill; fi
}

# Adds what there is of the command to the report.
j_name() {
  for j_entry in $(j_look); do
    j_line=$(tr '\0\n' '  ' <"/proc/${j_entry%:*}/cmdline" | head -c 4096)
    if [ -z "$j_line" ]; then j_line="[$(cat "/proc/${j_entry%:*}/comm")]"; fi
    j_report="$j_report
l ${j_entry%:*} ${j_entry#*:} $j_line"
  done 2>/dev/null
}

j_command() {
  j_begin
  j_input
  j_ready "$1"
  trap '' PIPE
  # The first word is TERM, the second one KILL.
  trap 'j_stop=1' USR1
  trap 'j_stop=2' USR2
  j_all='' j_job='' j_stop='' j_report=''
  exec 3<&0 5>&1 6>&2
  if [ -n "$j_merge" ]; then
    # For find(1), which takes brackets for a pattern.
    j_pipe=$(readlink "/proc/$$/fd/1" | sed 's/[][]/\\&/g')
    exec 6>&1
  fi
  j_listen <&3 3<&- 4<&- 2>/dev/null &
  j_reader=$!
  # In the foreground: behind an ampersand it would be deaf for SIGINT.
  { j_job=$(j_start "$@"); j_status=$?; } 2>/dev/null
  exec 3<&- 4<&-
  if [ -n "$j_merge" ]; then
    j_settle
  elif [ -n "$j_stop" ]; then
    kill -s KILL -- "-$j_job" 2>/dev/null
  fi
  kill -s KILL "$j_reader" 2>/dev/null
  j_end "x $j_status$j_report"
}

# A command that talks to the client over its input and output, and ends when its input does.
# What does not is ended.
j_talk() {
  j_begin
  j_ready "$1"
  trap '' PIPE
  j_all='' j_merge='' j_job='' j_stop=''
  exec 3<&0 5>&1 6>&2
  # A shell says when what it has started is killed; nobody asked.
  { j_pass | j_hear "$@"; } 2>/dev/null
  exit 0
}

# What the client sends, behind the number of this shell.
j_pass() {
  read -r j_self j_rest </proc/self/stat
  echo "$j_self"
  cat <&3
  exec >/dev/null
  j_find
  j_gone "$j_grace" && return
  j_signal TERM
  j_gone "$j_grace" || j_kill
}

j_hear() {
  read -r j_reader
  exec 4<&0 </dev/null
  j_job=$(j_start "$@")
  j_status=$?
  kill -s KILL "$j_reader"
  kill -s KILL -- "-$j_job"
  exec >&5 2>&6
  j_end "x $j_status"
}

# Ends what an earlier command has left: every process with the tag.
j_reap() {
  j_begin
  j_all=yes j_merge=yes j_pipe='' j_job='' j_stop='' j_report=''
  j_name
  if [ -n "$j_report" ]; then
    j_signal TERM
    j_gone "$j_grace" || j_kill
  fi
  j_end "x 0$j_report"
}
