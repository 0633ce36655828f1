# What the host asks for. Part three of three.

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
    # busybox asks to be told that links may lead out of the folder.
    # shellcheck disable=SC2015 # either failing is the same
    cd incoming && EXTRACT_UNSAFE_SYMLINKS=1 tar -xf part.tar || say_error "cannot unpack in $run"
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
    [ ! -f complete ] || echo complete
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
    # A lock that is gone by now is not removed: it may be another's before we get to it.
    lock_code=2
    [ ! -d lock ] || {
        lock_code=0
        lock_is_held || lock_code=$?
    }
    if [ "$lock_code" -eq 1 ] && [ "${holder_run:-$run_id}" = "$run_id" ]; then
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
        # By the clock, since a run may be older than this boot. One that never started has no pid, one that never got
        # its plan no owner.
        began=$(stat -c %Y pid 2>/dev/null || stat -c %Y owner 2>/dev/null || stat -c %Y . 2>/dev/null || date +%s)
        age=$(($(date +%s) - began))
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
reset) # after a crash of the device: what is sent may be damaged
    cd "$run" && rm -rf items files incoming complete && mkdir -p items files results
    ;;
forget) cd "$run" && rm -f "results/$1.done" "results/$1.tries" ;; # a damaged result
stop) stop "$@" ;;
remove) remove ;;
runs) runs ;;
*) say_error "unknown request $request" ;;
esac
