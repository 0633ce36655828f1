# Runs a command with tegrastats beside it, for dfmobile/devices/tegrastats_monitor.py, which sends it as
# `sh -c SCRIPT sh LOG INTERVAL_MS MAX_LINES TEGRASTATS PREFIX COMMAND...` without these comments.
# POSIX sh, for dash with the coreutils of Ubuntu 18.04. Writes LOG, and while it runs LOG.pipe and LOG.ready. The command
# starts when the first line of tegrastats is there, or after two seconds and an interval without. Lines of LOG:
#   dfmobile-tegrastats 1 INTERVAL_MS
#   start UPTIME            seconds since boot, just before the command starts
#   s UPTIME HERTZ LINE     when a line of tegrastats came, the GPU's clock then (- where no file says it), the line
#   end UPTIME CODE         just after it ended
#   full                    MAX_LINES were written; later ones are left out
# Exit code, stdin, stdout and stderr are the command's own. tegrastats ends with it; should this shell be killed
# alone, the loop that reads tegrastats sees that at its next line and ends it.
log=$1 interval=$2 most=$3 tool=$4 prefix=$5
shift 5
pipe=$log.pipe ready=$log.ready
now() {
  read -r uptime _ </proc/uptime
}
clock=
for folder in "$prefix"/sys/class/devfreq/*; do
  case ${folder##*/} in
    gpu | gpu-gpc-0 | *.gpu | *.gm20b | *.gp10b | *.gv11b | *.ga10b | *.gb10b)
      [ ! -r "$folder/cur_freq" ] || clock=$folder/cur_freq
      ;;
  esac
done
watch() {
  count=0
  while IFS= read -r line; do
    if ! kill -0 $$ 2>/dev/null; then
      kill "$meter" 2>/dev/null
      rm -f "$pipe" "$ready"
      exit
    fi
    count=$((count + 1))
    [ "$count" -le "$most" ] || continue
    now
    hertz=-
    [ -z "$clock" ] || read -r hertz 2>/dev/null <"$clock" || hertz=-
    printf 's %s %s %s\n' "$uptime" "${hertz:--}" "$line"
    [ "$count" -ne 1 ] || : >"$ready"
    [ "$count" -ne "$most" ] || echo full
  done
  : >"$ready"
}
# tegrastats has nothing to save. What it started itself ends at its next line, for which there is no reader.
# shellcheck disable=SC2329 # the traps call it
stop() {
  trap '' HUP INT TERM
  for process in $watcher $meter; do
    kill -9 "$process" 2>/dev/null
    wait "$process" 2>/dev/null
  done
  meter='' watcher=''
  exec 9>&-
  rm -f "$pipe" "$ready"
}
meter='' watcher=''
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
echo "dfmobile-tegrastats 1 $interval" >"$log" || exit 125
rm -f "$pipe" "$ready"
mkfifo "$pipe" || exit 125
exec 9<>"$pipe" # so that nobody waits for the other side to open it
"$tool" --interval "$interval" >"$pipe" 2>&1 </dev/null 9>&- &
meter=$!
watch <"$pipe" >>"$log" 2>/dev/null 9>&- &
watcher=$!
left=$((40 + interval / 50))
while [ ! -e "$ready" ] && [ "$left" -gt 0 ]; do
  sleep 0.05
  left=$((left - 1))
done
rm -f "$ready"
now
echo "start $uptime" >>"$log"
"$@" 9>&-
code=$?
now
echo "end $uptime $code" >>"$log"
exit "$code"
