#!/usr/bin/env bash
# The row debian13 of scripts/full/matrix: make Debian 13 in a folder, run scripts/demo and tests in it.
# usage: scripts/matrix/debian.sh PYTHON FOLDER TEST...
#   PYTHON: one whose pip has the settings of this machine
#   FOLDER: holds the clone to test, and gets the results
# Runs as root in mount and process namespaces of its own: what is mounted and started here ends
# with this script, and this machine's mounts stay as they are.
set -euo pipefail

python=$1 folder=$(realpath "$2")
shift 2
root=$folder/root
debootstrap --variant=minbase --include=ca-certificates,e2fsprogs,procps trixie "$root"
ln -s ../proc/self/mounts "$root/etc/mtab"  # Debian's installer makes it, and fusermount3 reads it
mount --bind "$root" "$root"  # pivot_root wants a mount
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"

# Show a file or folder of this machine at the same path inside, read-only.
show_inside() {
    # nothing to do for a path that is not here, or that is below a folder shown already
    if [ ! -e "$1" ] || [ "$1" -ef "$root$1" ]; then return; fi
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    else
        mkdir -p "$root$(dirname "$1")"
        touch "$root$1"
    fi
    mount --bind -o ro "$1" "$root$1"
}
# what the settings of pip name: certificates, and folders of packages. Of a folder that is an index
# the folder above, which has the files that its pages link to
named=$("$python" -m pip config list | grep -oE "(file:/)?/[^ ']+" || true)
for path in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf /etc/xdg/pip ~/.config/pip ~/.pip $named; do
    case $path in
        file:///*/*) dirname "${path#file://}" ;;
        /*) echo "$path" ;;
    esac
done | sort -u | while read -r path; do show_inside "$path"; done

mv "$folder/clone" "$root/onefs"
mkdir "$root/results"
mount --bind "$folder" "$root/results"
# not by chroot, which a test that enters another mount namespace would leave. With pivot_root this
# machine's files cannot be reached any more
mkdir "$root/machine"
cd "$root"
pivot_root . machine
cd /
umount -l /machine
rmdir /machine

mapfile -t kept < <(env | grep -E '^(PIP|SSL_CERT|REQUESTS_CA)_|^(https?|no)_proxy=')
inside() {
    /usr/bin/env -i HOME=/root LANG=C.UTF-8 "${kept[@]}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
cd /onefs
inside scripts/demo
inside scripts/matrix/run_row.sh /results "$@"
