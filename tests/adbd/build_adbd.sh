#!/bin/sh
# Build a real adbd (the daemon that answers adb on a phone) for this machine, for the tests of the ADB transports.
#
#     build_adbd.sh CACHE_FOLDER
#
# The source is Debian's source package android-platform-tools 29.0.6, from the mirrors that this machine's own apt
# names, checked by apt's signatures; nothing of it is in this repository. The changes it needs to run here are the
# few edits below. The binary goes to CACHE_FOLDER/adbd-<hash of this script>/ at once or not at all, so a changed
# script builds anew. It needs g++, patch, tar, xz and dpkg-deb; no root, and nothing is installed.
#
# The last line of stdout is the binary's path. Where it cannot be built: one line on stderr, and exit code 77.
#
# How to start it (see adbd_fixture.py): ADBD_PORT=<port> TMPDIR=<scratch folder> [ADBD_KEYS=<public keys>] adbd.
# It listens on 127.0.0.1 only, lets in whoever comes unless ADBD_KEYS names a file of public keys, and runs commands
# with /bin/sh: start it as a user who may do nothing.
set -eu
umask 022
export LC_ALL=C

skip() {
    echo "skipped: no adbd: $1" >&2
    exit 77
}

[ $# -eq 1 ] || { echo "usage: build_adbd.sh CACHE_FOLDER" >&2; exit 2; }
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
mkdir -p "$1"
cache=$(cd "$1" && pwd)
key=$(sha256sum "$script" | cut -c1-16)
target=$cache/adbd-$key
if [ -x "$target/adbd" ]; then
    echo "$target/adbd"
    exit 0
fi
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || skip "it is built for x86-64 Linux only"
for tool in apt-get apt-cache dpkg-deb g++ patch tar xz sha256sum; do
    command -v "$tool" >/dev/null 2>&1 || skip "$tool is not installed"
done

work=$(mktemp -d "$cache/.building.XXXXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- The source, by an apt configuration of our own: this machine's, with its sources' sources added.
mkdir -p "$work/apt/sources" "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/packages" \
    "$work/unpacked" "$work/source"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$list" ] || continue
    sed -n 's/^[[:space:]]*deb[[:space:]]\(.*\)$/deb \1\ndeb-src \1/p' "$list" \
        >"$work/apt/sources/$(basename "$list" .list).list"
done
for list in /etc/apt/sources.list.d/*.sources; do
    [ -r "$list" ] || continue
    sed 's/^Types:.*/Types: deb deb-src/' "$list" >"$work/apt/sources/$(basename "$list")"
done
private() {
    tool=$1
    shift
    "$tool" -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/apt/sources" \
        -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}
# A mirror without sources makes this fail as a whole; what counts is whether ours is there.
private apt-get update >"$work/log" 2>&1 || :
version=$(private apt-cache showsrc android-platform-tools 2>/dev/null |
    sed -n 's/^Version: \(29\.0\.6-.*\)$/\1/p' | sort -V | tail -n 1)
[ -n "$version" ] || skip "apt's sources have no source package android-platform-tools 29.0.6, or cannot be reached \
($(grep -m 1 '^[EW]:' "$work/log" || echo "apt-get update has no complaint"))"
(
    cd "$work/packages"
    private apt-get source --download-only "android-platform-tools=$version"
    private apt-get download android-libboringssl android-libboringssl-dev android-platform-system-core-headers
) >"$work/log" 2>&1 || skip "its source or BoringSSL cannot be fetched: $(tail -n 1 "$work/log")"
for package in "$work"/packages/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked"
done
source=$work/source
tar -xf "$work"/packages/*.orig.tar.* -C "$source" --strip-components=1
tar -xf "$work"/packages/*.debian.tar.* -C "$source"
sed 's/[[:space:]]*#.*//' "$source/debian/patches/series" | while read -r name; do
    [ -z "$name" ] || patch -d "$source" -p1 -s -N --no-backup-if-mismatch <"$source/debian/patches/$name" ||
        { echo "skipped: no adbd: Debian's patch $name does not apply" >&2; exit 77; }
done

# --- Changes. Each edit is checked: an edit that hits nothing is an error, not a daemon that listens to everyone.
core=$source/system/core
edit() {
    before=$(sha256sum <"$core/$1")
    sed -i "$2" "$core/$1"
    [ "$before" != "$(sha256sum <"$core/$1")" ] || skip "the edit of $1 found nothing to change: $2"
}
# Loopback only, and no listener for virtual machines.
edit adb/daemon/main.cpp 's/StringPrintf("tcp:%d"/StringPrintf("tcp:localhost:%d"/'
edit adb/daemon/main.cpp '/push_back(android::base::StringPrintf("vsock:%d", port));/d'
edit adb/daemon/main.cpp '/"tcp:localhost:%d", DEFAULT_ADB/{n;N;d}'
! grep -q 'vsock:%d' "$core/adb/daemon/main.cpp" || skip "its vsock listener could not be taken out"
# A successful listen leaves errno as some call inside set it.
edit adb/transport_local.cpp 's/if (errno == EAFNOSUPPORT || errno == EINVAL || errno == EPROTONOSUPPORT)/if (serverfd < 0 \&\& (errno == EAFNOSUPPORT || errno == EINVAL || errno == EPROTONOSUPPORT))/'
# The scratch folder is the caller's; /data/local/tmp where none is given, as on a phone.
edit adb/daemon/shell_service.cpp 's/env\["TMPDIR"\] = "\/data\/local\/tmp";/env.emplace("TMPDIR", "\/data\/local\/tmp");/'
# Keys are asked for where the caller gives some.
edit adb/daemon/main.cpp 's/auth_required = android::base::GetBoolProperty("ro.adb.secure", false);/auth_required = getenv("ADBD_KEYS") != nullptr;/'
edit ../../frameworks/native/libs/adbd_auth/adbd_auth.cpp '/static constexpr const char\* key_paths/d'
edit ../../frameworks/native/libs/adbd_auth/adbd_auth.cpp \
    's/for (const auto& path : key_paths) {/if (const char* path = getenv("ADBD_KEYS")) {/; s/^                    continue;/                    return;/'
# Only clang knows thread annotations.
edit base/include/android-base/thread_annotations.h 's/^#define THREAD_ANNOTATION_ATTRIBUTE__(x).*/#define THREAD_ANNOTATION_ATTRIBUTE__(x)/'

shims=$work/shims
mkdir -p "$shims/sys" "$work/objects"
echo '#include <linux/capability.h>' >"$shims/sys/capability.h"
# Never called: owners and modes of system files are looked up on Android only.
cat >"$shims/fs_config.cpp" <<'END'
#include <stdint.h>
#include <stdlib.h>
extern "C" void fs_config(const char*, int, const char*, unsigned*, unsigned*, unsigned*, uint64_t*) { abort(); }
END

# --- Compilation
libraries=$(dirname "$(find "$work/unpacked" -name libcrypto.so.0 | head -n 1)")
[ -e "$libraries/libcrypto.so" ] || skip "BoringSSL's library is not where it should be"
cat >"$work/flags" <<END
-O1 -w -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DADB_HOST=0 -DALLOW_ADBD_ROOT=0 -DALLOW_ADBD_NO_AUTH
-DPLATFORM_TOOLS_VERSION='"29.0.6"' -DFAKE_LOG_DEVICE=1 -DLIBLOG_LOG_TAG=1006 -DSNET_EVENT_LOG_TAG=1397638484
-I$shims -I$core/adb -I$core/adb/daemon/include -I$core/adb/adbconnection/include -I$core/base/include
-I$core/libcutils/include -I$core/liblog/include -I$core/include -I$core/diagnose_usb/include
-I$core/libcrypto_utils/include -I$core/libasyncio/include -I$source/frameworks/native/libs/adbd_auth/include
-I$work/unpacked/usr/include/android
END
sources() {
    folder=$1
    shift
    for name in "$@"; do
        echo "$folder/$name.cpp"
    done
}
{
    sources "$core/adb" adb adb_io adb_listeners adb_trace adb_unique_fd adb_utils fdevent/fdevent \
        fdevent/fdevent_poll fdevent/fdevent_epoll services sockets socket_spec sysdeps/errno transport transport_fd \
        transport_local transport_usb types sysdeps_unix sysdeps/posix/network shell_service_protocol \
        adbconnection/adbconnection_server daemon/auth daemon/jdwp_service daemon/usb_dummy daemon/file_sync_service \
        daemon/services daemon/shell_service daemon/main
    sources "$core/base" chrono_utils cmsg errors_unix file logging liblog_symbols mapped_file parsebool \
        parsenetaddress process properties stringprintf strings threads
    sources "$core/liblog" log_event_list log_event_write logger_name logger_write logprint properties event_tag_map
    sources "$core/libcutils" sockets sockets_unix socket_inaddr_any_server_unix socket_local_client_unix \
        socket_local_server_unix socket_network_client_unix android_get_control_file threads load_file trace-host
    sources "$core" diagnose_usb/diagnose_usb libasyncio/AsyncIO
    sources "$source/frameworks/native/libs/adbd_auth" adbd_auth
    sources "$shims" fs_config
} >"$work/sources"
jobs=${DFMOBILE_BUILD_JOBS:-$(nproc)}
# The object's name is the checksum of the source's path: names repeat between folders.
# shellcheck disable=SC2016
xargs -P "$jobs" -I '{}' sh -c '
    object=$2/objects/$(echo "$1" | cksum | cut -d" " -f1).o
    strict=
    case $1 in */adb/*) strict=-DANDROID_BASE_UNIQUE_FD_DISABLE_IMPLICIT_CONVERSION=1 ;; esac
    g++ -std=gnu++2a -include atomic -include optional $strict @"$2/flags" -c "$1" -o "$object" || exit 255
' sh '{}' "$work" <"$work/sources" >"$work/log" 2>&1 ||
    skip "it does not compile: $(grep -m 1 error: "$work/log" || tail -n 1 "$work/log")"
gcc @"$work/flags" -c "$core/libcrypto_utils/android_pubkey.c" -o "$work/objects/android_pubkey.o" 2>"$work/log" ||
    skip "it does not compile: $(tail -n 1 "$work/log")"
mkdir "$work/result"
cp "$libraries/libcrypto.so.0" "$work/result/"
# Its library lies beside it: both can be copied to where an unprivileged user may read them.
# shellcheck disable=SC2016
g++ -o "$work/result/adbd" "$work"/objects/*.o -L"$libraries" '-Wl,-rpath,$ORIGIN' -lcrypto -lresolv -lpthread \
    2>"$work/log" || skip "it does not link: $(tail -n 1 "$work/log")"
"$work/result/adbd" --version >/dev/null || skip "the binary does not run"

# --- In place at once; where another build was faster, its result is as good.
mv -T "$work/result" "$target" 2>/dev/null || [ -x "$target/adbd" ] || skip "$target cannot be written"
echo "$target/adbd"
