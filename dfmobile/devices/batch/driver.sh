#!/bin/sh
# Runs a list of programs on a device by itself, so that a run outlives the cable.
#
# POSIX sh: Android's mksh with toybox, dash, busybox. One file does all that the host asks for, so that each
# request is one small command: start, poll, unpack, have, reset, forget, stop, runs. The host is
# dfmobile/devices/batch/; it makes every file that is sourced here.
#
# Starting a process costs milliseconds on a phone: files are read with `read` and written with `echo` (mksh has no
# `printf` of its own, so nothing with a backslash is written), and an item costs its own processes, one cksum, and
# one mv where the shell has no `rename`.
#
# Below the base folder:
#   store/SHA256              files that several runs need, this script among them
#   lock/owner                one job a device at a time
#   runs/RUN/settings         variables, made by the host; list: one item id a line; owner: who started it; plan: which
#   runs/RUN/files/SHA256     the items' files; items/ID/: item.sh, links to files; .ready, written last
#   runs/RUN/results/ID.log   stdout and stderr; ID.rec: conditions; ID.done: lengths and checksums, renamed last
#   runs/RUN/pid, current, state, seen

# shellcheck disable=SC2094 # variables and files share names

set -u
self=$0
proc=/proc

say_error() {
    echo "error $1"
    exit 3
}

# Into $up: centiseconds since boot. Shells with 32-bit numbers wrap: only differences are used.
read_uptime() {
    read -r up_text _ <$proc/uptime || up_text=0.00
    up_s=${up_text%.*}
    up_cs=${up_text#*.}
    up=$((up_s * 100 + 1${up_cs} - 100))
}

# Into $boot: names this boot of the device.
read_boot() {
    boot=unknown
    { read -r boot <"$root/proc/sys/kernel/random/boot_id"; } 2>/dev/null || boot=unknown
    case $boot in '' | *[!0-9A-Za-z-]*) boot=unknown ;; esac
}

# Into $started: when process $1 started, in clock ticks since boot, so that a number used again is told apart.
read_start() {
    started=
    { read -r stat_line <"$proc/$1/stat"; } 2>/dev/null || return 1
    # After the name, which may hold anything, field 22 is the 20th.
    # shellcheck disable=SC2086 # to be split
    set -- ${stat_line##*) }
    [ $# -ge 20 ] || return 1
    # A zombie has ended.
    [ "$1" != Z ] || return 1
    shift 19
    started=$1
}

# Is process $1, started at $2 in boot $3, still there?
lives() {
    [ "$3" = "$boot" ] || return 1
    case $1 in '' | *[!0-9]*) return 1 ;; esac
    read_start "$1" || return 1
    [ "$started" = "$2" ]
}

# Is the driver of run folder $1 there? Its number into $driver.
driver_lives() {
    driver=
    pid_start=
    pid_boot=
    { read -r driver pid_start pid_boot <"$1/pid"; } 2>/dev/null || return 1
    lives "$driver" "$pid_start" "$pid_boot"
}

# Into $pause_s: $1 centiseconds as sleep takes it.
pause_of() {
    pause_s=$(($1 % 100))
    [ "$pause_s" -ge 10 ] || pause_s=0$pause_s
    pause_s=$(($1 / 100)).$pause_s
}

# Wait $1 centiseconds.
nap() {
    pause_of "$1"
    # Old toolboxes know whole seconds only.
    sleep "$pause_s" 2>/dev/null || sleep 1
}

is_number() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# Rename $1 to $2. mksh has it built in.
move() {
    mv -f "$1" "$2"
}
if [ -n "${KSH_VERSION:-}" ]; then
    # shellcheck disable=SC3044 # only where it is known
    move() {
        rename "$1" "$2" 2>/dev/null || mv -f "$1" "$2"
    }
fi

# --- lock -------------------------------------------------------------------------------------------------------

# Is the lock held by a driver that lives? Fills holder_*.
lock_is_held() {
    holder_pid=
    holder_start=
    holder_boot=
    holder_run=
    holder_up=
    holder_name=
    lock_tries=0
    while ! { read -r holder_pid holder_start holder_boot holder_run holder_up holder_name <"$base/lock/owner"; } \
        2>/dev/null; do
        [ -d "$base/lock" ] || return 1
        # It is written right after the folder is made: absent for two seconds, its maker is dead.
        lock_tries=$((lock_tries + 1))
        [ "$lock_tries" -lt 20 ] || return 1
        nap 10
    done
    lives "$holder_pid" "$holder_start" "$holder_boot"
}

take_lock() {
    take_tries=0
    while ! mkdir "$base/lock" 2>/dev/null; do
        [ -d "$base/lock" ] || give_up "cannot make $base/lock"
        if lock_is_held; then
            read_uptime
            age=unknown
            ! is_number "$holder_up" || age=$(((up - holder_up) / 100))
            answer "locked $holder_pid $holder_run $age $holder_name"
            exit 0
        fi
        take_tries=$((take_tries + 1))
        [ "$take_tries" -lt 100 ] || give_up "cannot take $base/lock"
        # Stale. Only one at a time may remove it, after another look: its holder may have changed since.
        if mkdir "$base/lock.break.$boot" 2>/dev/null; then
            lock_is_held || rm -rf "$base/lock"
            rmdir "$base/lock.break.$boot"
        else
            nap 10
        fi
    done
    read_uptime
    if ! echo "$$ $my_start $boot $run_id $up $owner" >"$base/lock/owner"; then
        rm -rf "$base/lock"
        give_up "cannot write $base/lock/owner"
    fi
    have_lock=1
}

drop_lock() {
    [ -z "$have_lock" ] || rm -rf "$base/lock"
    have_lock=
}

# --- the driver -------------------------------------------------------------------------------------------------

# Tell the launcher, which waits for this.
answer() {
    echo "$1" >"answer.$nonce.part" && move "answer.$nonce.part" "answer.$nonce"
}

give_up() {
    echo "failed $1" >state
    answer "error $1"
    drop_lock
    exit 3
}

# Which cores and thermal zones there are, as lists of words.
find_sensors() {
    cpus=
    zones=
    batteries=
    set +f
    for path in "$root"/sys/devices/system/cpu/cpu[0-9]*; do
        [ -r "$path/cpufreq/scaling_cur_freq" ] && cpus="$cpus ${path##*/cpu}"
    done
    for path in "$root"/sys/class/thermal/thermal_zone*; do
        [ -r "$path/temp" ] || continue
        number=${path##*/thermal_zone}
        type=
        { read -r type <"$path/type"; } 2>/dev/null
        case $type in '' | *[!!-~]* | *\\*) type=zone$number ;; esac
        [ -z "$zone_types" ] || case " $zone_types " in *" $type "*) ;; *) continue ;; esac
        zones="$zones $number:$type"
    done
    for path in "$root"/sys/class/power_supply/*; do
        [ -r "$path/status" ] && batteries="$batteries ${path##*/}"
    done
    set -f
    if [ -n "$cool_types" ]; then
        cool_zones=
        all=
        set +f
        for path in "$root"/sys/class/thermal/thermal_zone*; do
            type=
            { read -r type <"$path/type"; } 2>/dev/null || continue
            { read -r value <"$path/temp"; } 2>/dev/null || continue
            all="$all $type"
            case " $cool_types " in *" $type "*) cool_zones="$cool_zones ${path##*/thermal_zone}" ;; esac
        done
        set -f
        [ -n "$cool_zones" ] || give_up "no thermal zone called $cool_types can be read; there are:${all:- none}"
    fi
}

# Print what the device reads now; $1: before or after.
snapshot() {
    read_uptime
    echo "$1 uptime $up_text"
    for number in $cpus; do
        read -r value <"$root/sys/devices/system/cpu/cpu$number/cpufreq/scaling_cur_freq" || continue
        case $value in '' | *[!0-9]*) continue ;; esac
        echo "$1 cpu $number $value"
    done 2>/dev/null
    for zone in $zones; do
        read -r value <"$root/sys/class/thermal/thermal_zone${zone%%:*}/temp" || continue
        case $value in '' | *[!0-9-]*) continue ;; esac
        echo "$1 zone ${zone%%:*} $value ${zone#*:}"
    done 2>/dev/null
    for name in $batteries; do
        read -r value <"$root/sys/class/power_supply/$name/status" || continue
        case $value in *[!A-Za-z\ ]*) continue ;; esac
        echo "$1 charger $name $value"
    done 2>/dev/null
}

# Wait until the zones are cool; say how long it took.
cool_down() {
    read_uptime
    cool_since=$up
    reached=1
    while :; do
        hottest=-1000000
        for number in $cool_zones; do
            read -r value <"$root/sys/class/thermal/thermal_zone$number/temp" || continue
            case $value in '' | *[!0-9-]*) continue ;; esac
            [ "$value" -le "$hottest" ] || hottest=$value
        done 2>/dev/null
        read_uptime
        [ "$hottest" -gt "$cool_limit" ] || break
        if [ $((up - cool_since)) -ge "$cool_longest" ]; then
            reached=0
            break
        fi
        nap 50
    done
    echo "before cool $((up - cool_since)) $reached $hottest"
}

# Stops an item whose time is up. Runs beside the driver; sleeps at most $watch_cs, which no timeout is below, so a
# deadline is never overslept and many short items cost nothing.
watch() {
    pause=$watch_cs
    while :; do
        pause_of "$pause"
        sleep "$pause_s" &
        sleeper=$!
        trap 'kill -KILL $sleeper 2>/dev/null; exit 0' TERM
        wait $sleeper
        item=
        group=
        { read -r item group item_start deadline <current; } 2>/dev/null
        pause=$watch_cs
        # In a subshell $$ is still the driver's number.
        if ! lives $$ "$my_start" "$boot"; then
            [ -z "$group" ] || stop_item "$group" "$item_start"
            exit 0
        fi
        [ -n "$group" ] || continue
        read_uptime
        left=$((deadline - up))
        if [ "$left" -le 0 ]; then
            : >"results/$item.timeout"
            stop_item "$group" "$item_start"
        elif [ "$left" -lt "$pause" ]; then
            pause=$left
        fi
    done
}

# Stop the process group $1 whose leader started at $2: asked first.
stop_item() {
    lives "$1" "$2" "$boot" || return 0
    kill -TERM "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null
    stop_tries=0
    while lives "$1" "$2" "$boot" && [ "$stop_tries" -lt 10 ]; do
        nap 10
        stop_tries=$((stop_tries + 1))
    done
    kill -KILL "-$1" 2>/dev/null
    ! lives "$1" "$2" "$boot" || kill -KILL "$1" 2>/dev/null
}

# An item that a dead driver of this boot left running.
stop_orphan() {
    item=
    group=
    { read -r item group item_start deadline <current; } 2>/dev/null
    [ -z "$group" ] || stop_item "$group" "$item_start"
    : >current
}

end_driver() {
    trap '' TERM
    [ -z "${watcher:-}" ] || kill -TERM "$watcher" 2>/dev/null
    stop_orphan
    echo "$1" >state
    drop_lock
    exit "$2"
}

# The host lost, or the storage full: stop here, all results so far are whole.
cannot_write() {
    end_driver "failed cannot write to $base" 3
}

# Wait for an item, or with push_first for all of them. 1: it did not come.
await() {
    await_pause=2
    while ! [ -f "$1" ]; do
        [ ! -f stop ] || return 1
        seen=
        { read -r seen <seen; } 2>/dev/null
        read_uptime
        # The host leaves a mark with all that it does.
        if is_number "$seen" && [ $((up - seen)) -ge "$ready_wait_cs" ]; then
            return 1
        fi
        nap $await_pause
        [ $await_pause -ge 20 ] || await_pause=$((await_pause + 2))
    done
}

run_item() {
    id=$1
    digest=
    timeout_cs=
    { read -r digest timeout_cs <"items/$id/.ready"; } 2>/dev/null
    is_number "$timeout_cs" || timeout_cs=60000
    tries=0
    { read -r tries <"results/$id.tries"; } 2>/dev/null || tries=0
    is_number "$tries" || tries=0
    tries=$((tries + 1))
    echo "$tries" >"results/$id.tries" || cannot_write
    {
        echo "record 1 $id $digest
clock $clock_s $clock_up
attempt $tries
profile $profile_state
screen $screen"
        [ -z "$cool_types" ] || cool_down
        snapshot before
        echo ready
    } >"results/$id.rec" || cannot_write
    code=125
    timed_out=0
    if [ "$tries" -gt "$max_attempts" ]; then
        echo gave_up >>"results/$id.rec" || cannot_write
        : >"results/$id.log" || cannot_write
    else
        [ ! -f "results/$id.timeout" ] || rm -f "results/$id.timeout"
        read_uptime
        # item.sh is: exec $launch 'program' 'argument' …
        (
            cd "items/$id" || exit 126
            ulimit -f "$log_blocks" 2>/dev/null
            # shellcheck disable=SC1091 # made by the host
            . ./item.sh
        ) </dev/null >"results/$id.log" 2>&1 3<&- &
        group=$!
        read_start $group || started=0
        echo "$id $group $started $((up + timeout_cs))" >current || {
            kill -KILL "-$group" 2>/dev/null || kill -KILL $group 2>/dev/null
            cannot_write
        }
        wait $group
        code=$?
        # What it left behind; empty where all is well.
        kill -KILL "-$group" 2>/dev/null
        : >current
        if [ -f "results/$id.timeout" ]; then
            timed_out=1
            code=124
        fi
    fi
    {
        snapshot after
        echo "exit $code $timed_out
end"
    } >>"results/$id.rec" || cannot_write
    # shellcheck disable=SC2046 # to be split: checksum, length, name; twice
    set -- $(cksum "results/$id.log" "results/$id.rec")
    [ $# -eq 6 ] || cannot_write
    echo "done $id $digest $code $2 $1 $5 $4 end" >"results/$id.part" ||
        cannot_write
    move "results/$id.part" "results/$id.done" || cannot_write
}

# Once for the driver; the items inherit it. What came of it is recorded with each item.
apply_profile() {
    profile_state='none'
    [ -n "$task_profile" ] || return 0
    if command -v settaskprofile >/dev/null 2>&1; then
        settaskprofile $$ "$task_profile" >/dev/null 2>&1
        profile_state="$task_profile exit $?"
    else
        profile_state="$task_profile absent"
    fi
}

# Awake or not, from Android's own words; only once, dumpsys takes long.
read_screen() {
    screen=unknown
    command -v dumpsys >/dev/null 2>&1 || return 0
    dumpsys power 2>/dev/null >screen.txt
    while read -r line; do
        case $line in
        mWakefulness=*)
            screen=${line#mWakefulness=}
            break
            ;;
        esac
    done <screen.txt
    case $screen in '' | *[!A-Za-z]*) screen=unknown ;; esac
    rm -f screen.txt
}

work() {
    set -f
    have_lock=
    watcher=
    cd "$run" || exit 3
    launch=
    mask=
    task_profile=
    zone_types=
    cool_types=
    cool_limit=0
    cool_longest=0
    spin_ms=0
    push_first=0
    log_blocks=16384
    max_attempts=3
    watch_cs=100
    ready_wait_cs=60000
    # shellcheck disable=SC1091 # made by the host
    . ./settings
    owner=unknown
    { read -r owner <owner; } 2>/dev/null
    read_boot
    read_start $$ || give_up "$proc is not readable"
    my_start=$started
    take_lock
    trap 'end_driver stopped 0' TERM
    rm -f stop
    # A dead driver of this boot may have left its item running.
    stop_orphan
    echo "$$ $my_start $boot" >pid.part || give_up "cannot write to $base"
    move pid.part pid
    clock_s=$(date +%s)
    read_uptime
    clock_up=$up_text
    echo "$up" >seen
    find_sensors
    read_screen
    apply_profile
    if setsid true 2>/dev/null; then
        launch=setsid
    else
        trap '' HUP
    fi
    if [ -n "$mask" ]; then
        taskset "$mask" true >/dev/null 2>&1 || give_up "taskset $mask: this device has no such cores, or no taskset"
        launch="$launch taskset $mask"
    fi
    [ "$spin_ms" -eq 0 ] || launch="$launch sh ../../../../store/${self##*/} spin $spin_ms"
    watch &
    watcher=$!
    echo running >state || give_up "cannot write to $base"
    answer "started $$"
    if [ "$push_first" -eq 1 ]; then
        await complete || end_driver starved 0
    fi
    while read -r id <&3; do
        [ ! -f stop ] || end_driver stopped 0
        [ ! -f "results/$id.done" ] || continue
        [ -f "items/$id/.ready" ] || await "items/$id/.ready" || end_driver starved 0
        run_item "$id"
    done 3<list
    end_driver finished 0
}

start() {
    cd "$run" || say_error "there is no run folder $run"
    read_boot
    if driver_lives .; then
        echo "started $driver"
        return 0
    fi
    rm -f "answer.$nonce"
    # A session of its own, and the launcher stays until it is there: whatever else is started is killed with the
    # connection.
    if setsid true 2>/dev/null; then
        setsid sh "$self" work "$base" "$run_id" "$root" "$nonce" </dev/null >driver.log 2>&1 &
    else
        sh "$self" work "$base" "$run_id" "$root" "$nonce" </dev/null >driver.log 2>&1 &
    fi
    launch_tries=0
    child=$!
    while ! [ -f "answer.$nonce" ]; do
        nap 3
        launch_tries=$((launch_tries + 1))
        [ "$launch_tries" -lt 1000 ] || say_error "the driver did not start in time"
        kill -0 $child 2>/dev/null || [ -f "answer.$nonce" ] || say_error "the driver ended at once"
    done
    cat "answer.$nonce"
    rm -f "answer.$nonce"
}

# --- requests of the host ---------------------------------------------------------------------------------------

# Leave a mark that the host is there.
mark() {
    read_uptime
    echo "$up" >seen
} 2>/dev/null

# State of the run; then of the items named, those that are done: a line each, and all their bytes after them.
poll() {
    set -f
    limit=$1
    shift
    cd "$run" 2>/dev/null || {
        echo "dfmobile-poll 1
gone
data

dfmobile-end"
        return 0
    }
    read_boot
    mark
    alive=0
    ! driver_lives . || alive=1
    state=none
    { read -r state <state; } 2>/dev/null
    item=-
    { read -r item _ <current; } 2>/dev/null || item=-
    echo "dfmobile-poll 1
boot $boot
driver $alive
state $state
current ${item:--}"
    total=0
    names=
    for id; do
        [ -f "results/$id.done" ] || continue
        fields=
        { read -r fields <"results/$id.done"; } 2>/dev/null
        # shellcheck disable=SC2086 # to be split
        set -- $fields
        if [ $# -ne 9 ] || [ "$1" != "done" ] || [ "$2" != "$id" ] || [ "$9" != end ] || ! is_number "$5" ||
            ! is_number "$7"; then
            echo "damaged $id"
            continue
        fi
        total=$((total + $5 + $7))
        [ -z "$names" ] || [ "$total" -le "$limit" ] || break
        echo "$fields"
        names="$names results/$id.rec results/$id.log"
    done
    echo data
    # shellcheck disable=SC2086 # to be split
    [ -z "$names" ] || cat $names
    echo
    echo dfmobile-end
}

# Put a part that comes on stdin into the run: a tar archive and its script of links and marks.
unpack() {
    mkdir -p "$run" || say_error "cannot make $run"
    cd "$run" || say_error "cannot enter $run"
    mark
    rm -rf incoming
    mkdir -p incoming files items results || say_error "cannot make folders in $run"
    cat >incoming/part.tar || say_error "cannot write to $run"
    # shellcheck disable=SC2046 # to be split
    set -- "$1" $(sha256sum incoming/part.tar)
    [ "${2:-}" = "$1" ] || say_error "what arrived is damaged"
    # shellcheck disable=SC2015 # either failing is the same
    cd incoming && tar -xf part.tar || say_error "cannot unpack in $run"
    rm -f part.tar
    # shellcheck disable=SC1091 # made by the host: moves all into place, what marks it as there last
    . ./part.sh
    cd .. && rm -rf incoming
    mark
    echo ok
}

# What is there of a run.
have() {
    read_boot
    echo "boot $boot"
    cd "$run" 2>/dev/null || {
        echo end
        return 0
    }
    mark
    ! driver_lives . || echo "driver $driver"
    state=none
    { read -r state <state; } 2>/dev/null
    echo "state $state"
    last=none
    { read -r _ _ last <pid; } 2>/dev/null
    echo "last $last"
    plan=none
    { read -r plan <plan; } 2>/dev/null
    echo "plan $plan"
    for path in files/*; do
        [ ! -f "$path" ] || echo "file ${path#files/}"
    done
    for path in items/*/.ready; do
        { read -r digest _ <"$path"; } 2>/dev/null || continue
        id=${path#items/}
        echo "ready ${id%/.ready} $digest"
    done
    for path in results/*.done; do
        [ -f "$path" ] || continue
        digest=
        { read -r _ _ digest _ <"$path"; } 2>/dev/null
        id=${path#results/}
        echo "done ${id%.done} ${digest:--}"
    done
    echo end
}

# Stop the driver of a run: after its item, or now.
stop() {
    cd "$run" 2>/dev/null || return 0
    read_boot
    driver_lives . || return 0
    : >stop
    [ "$1" = now ] || return 0
    kill -TERM "$driver" 2>/dev/null
    stop_wait=0
    while driver_lives . && [ "$stop_wait" -lt 100 ]; do
        nap 5
        stop_wait=$((stop_wait + 1))
    done
    ! driver_lives . || kill -KILL "$driver" 2>/dev/null
    stop_orphan
}

# Remove a run that no driver works on, and a lock that it left.
remove() {
    stop now
    cd "$base" 2>/dev/null || return 0
    read_boot
    if [ -d lock ] && ! lock_is_held && [ "${holder_run:-$run_id}" = "$run_id" ]; then
        rm -rf lock
    fi
    rm -rf "runs/$run_id"
}

runs() {
    read_boot
    read_uptime
    for folder in "$base"/runs/*; do
        [ -d "$folder" ] || continue
        cd "$folder" || continue
        alive=0
        ! driver_lives . || alive=1
        state=none
        { read -r state <state; } 2>/dev/null
        owner=unknown
        { read -r owner <owner; } 2>/dev/null
        done_count=0
        for path in results/*.done; do
            [ ! -f "$path" ] || done_count=$((done_count + 1))
        done
        total=0
        while read -r _; do
            total=$((total + 1))
        done 2>/dev/null <list
        # By the clock, since a run may be older than this boot.
        age=$(($(date +%s) - $(stat -c %Y settings 2>/dev/null || date +%s)))
        echo "run ${folder##*/} $alive $age $done_count $total ${state%% *} $owner"
    done
    echo end
}

# Busy for $1 ms, then become the rest of the arguments.
spin() {
    read_uptime
    spin_until=$((up + ($1 + 9) / 10))
    shift
    while [ $((spin_until - up)) -gt 0 ]; do
        read_uptime
    done
    exec "$@"
}

request=$1
if [ "$request" = spin ]; then
    shift
    spin "$@"
fi
base=$2
run_id=$3
root=$4
run=$base/runs/$run_id
shift 4
case $request in
start)
    nonce=$1
    start
    ;;
work)
    nonce=$1
    work
    ;;
poll) poll "$@" ;;
unpack) unpack "$@" ;;
have) have ;;
reset) cd "$run" && rm -rf items files incoming complete ;; # after a crash of the device: what is sent may be damaged
forget) cd "$run" && rm -f "results/$1.done" "results/$1.tries" ;; # a damaged result
stop) stop "$@" ;;
remove) remove ;;
runs) runs ;;
*) say_error "unknown request $request" ;;
esac
