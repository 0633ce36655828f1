#!/bin/sh
# Runs a list of programs on a device by itself, so that a run outlives the cable.
#
# POSIX sh: Android's mksh with toybox, dash, busybox. One script does all that the host asks for, so that each
# request is one small command. The host is dfmobile/devices/batch/: it puts the three files (common, driver, requests)
# together, and makes every file that is sourced here.
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

# Is the lock held by a driver that lives? 1: no, its holder is dead; 2: no, there is none. Fills holder_*.
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
        [ -d "$base/lock" ] || return 2
        # It is written right after the folder is made: absent for two seconds, its maker is dead.
        lock_tries=$((lock_tries + 1))
        [ "$lock_tries" -lt 20 ] || return 1
        nap 10
    done
    lives "$holder_pid" "$holder_start" "$holder_boot"
}

take_lock() {
    take_tries=0
    absent=0
    while ! mkdir "$base/lock" 2>/dev/null; do
        if ! [ -d "$base/lock" ]; then
            # Dropped by its holder just now, or it cannot be made.
            absent=$((absent + 1))
            [ "$absent" -lt 20 ] || give_up "cannot make $base/lock"
            nap 2
            continue
        fi
        if lock_is_held; then
            read_uptime
            age=unknown
            ! is_number "$holder_up" || age=$(((up - holder_up) / 100))
            answer "locked $holder_pid $holder_run $age $holder_name"
            exit 0
        fi
        take_tries=$((take_tries + 1))
        [ "$take_tries" -lt 100 ] || give_up "cannot take $base/lock"
        # Stale. Only one at a time may remove it, after another look: its holder may have changed since. One that is
        # gone by now is not removed, it may be another's before we get to it.
        if mkdir "$base/lock.break.$boot" 2>/dev/null; then
            lock_code=0
            lock_is_held || lock_code=$?
            [ "$lock_code" -ne 1 ] || rm -rf "$base/lock"
            rmdir "$base/lock.break.$boot"
        else
            nap 10
            # Whoever was to remove it was killed meanwhile.
            [ "$take_tries" -ne 30 ] || rmdir "$base/lock.break.$boot" 2>/dev/null
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

# What a dead driver of this boot left running: the item and the process that watches it.
stop_orphan() {
    orphan=
    orphan_start=
    orphan_boot=
    { read -r orphan orphan_start orphan_boot <watcher; } 2>/dev/null
    ! lives "$orphan" "$orphan_start" "$orphan_boot" || kill -TERM "$orphan" 2>/dev/null
    item=
    group=
    { read -r item group item_start deadline <current; } 2>/dev/null
    [ -z "$group" ] || stop_item "$group" "$item_start"
    : >current
}
