#!/bin/sh
# First process of a virtual phone: builds its file tree in a mount namespace of its own, says "ready", and waits until
# its input ends. Started by phone_system.py as process 1 of a new process namespace: when it ends, so does all that
# the phone runs.
#
#     enter_phone.sh ROOT OVERLAY OWNER [DATA_BYTES]
#
# ROOT is the phone's / : what is in it stays, and the folders of this machine that it lacks are shown in it (commands
# are this machine's). OVERLAY/proc and OVERLAY/dev are laid over the real ones. With DATA_BYTES, /data is a
# disk of that size in memory, its scratch folder OWNER's.
set -eu
root=$1
overlay=$2
owner=$3
data_bytes=${4:-}

for entry in /*; do
    name=${entry#/}
    case $name in
    data | dev | lost+found | proc | sdcard | storage | sys | system | vendor) continue ;;
    esac
    if [ -L "$entry" ]; then
        ln -sfn "$(readlink "$entry")" "$root/$name"
    elif [ -d "$entry" ]; then
        mkdir -p "$root/$name"
        # A folder that cannot be shown (another namespace's) is one that no command of a phone needs.
        mount --rbind "$entry" "$root/$name" 2>/dev/null || :
    fi
done

mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount --rbind /dev/pts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
for entry in "$overlay"/dev/*; do
    [ -d "$entry" ] || continue
    mkdir "$root/dev/${entry##*/}"
    mount --bind "$entry" "$root/dev/${entry##*/}"
done
# The kernel's folder takes no new files: what this kernel lacks cannot be shown.
(cd "$overlay/proc" && find . -type f) | while IFS= read -r name; do
    [ ! -e "$root/proc/$name" ] || mount --bind "$overlay/proc/$name" "$root/proc/$name"
done
# A mount of its own, so that it can be made read-only.
if [ -n "$data_bytes" ]; then
    mount -t tmpfs -o "size=$data_bytes,mode=755" tmpfs "$root/data"
    mkdir -p "$root/data/local/tmp"
    chown "$owner" "$root/data/local/tmp"
else
    mount --bind "$root/data" "$root/data"
fi

# Ready only with the new root: who enters before would be in the old one. Ended children that nobody waits for
# disappear, as they do on a phone: SIGCHLD is ignored last of all, because a shell sets it back.
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" \
    /bin/sh -c 'echo ready; exec env --ignore-signal=CHLD /bin/cat'
