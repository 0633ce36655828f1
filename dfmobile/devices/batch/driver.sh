# The driver itself: takes the lock, runs the list item by item, says how it ended. Part two of three.

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

end_driver() {
    trap '' TERM
    stop_orphan
    # Stopped on purpose: that is no attempt of the item.
    [ -z "$id" ] || rm -f "results/$id.tries"
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
        # Where there is no room now, the log may lack its end without a word.
        echo "$pad" >room || cannot_write
        : >room
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
    id=
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
    id=
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
    pad=0123456789abcdef
    while [ ${#pad} -lt 8192 ]; do pad=$pad$pad; done
    watch &
    read_start $! || give_up "$proc is not readable"
    echo "$! $started $boot" >watcher || give_up "cannot write to $base"
    echo running >state || give_up "cannot write to $base"
    answer "started $$"
    if [ "$push_first" -eq 1 ]; then
        await complete || end_driver starved 0
    fi
    while read -r next <&3; do
        [ ! -f stop ] || end_driver stopped 0
        [ ! -f "results/$next.done" ] || continue
        [ -f "items/$next/.ready" ] || await "items/$next/.ready" || end_driver starved 0
        run_item "$next"
    done 3<list
    end_driver finished 0
}
