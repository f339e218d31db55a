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
debootstrap --variant=minbase --include=ca-certificates trixie "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"

# Show a file or folder of this machine at the same path inside, read-only.
show_inside() {
    [ -e "$1" ] || return 0
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    else
        mkdir -p "$root$(dirname "$1")"
        touch "$root$1"
    fi
    mount --bind -o ro "$1" "$root$1"
}
show_inside /etc/ssl/certs/ca-certificates.crt
for path in /etc/pip.conf /etc/xdg/pip ~/.config/pip ~/.pip; do show_inside "$path"; done
# folders of packages that pip's settings name. The pages of an index link to files beside it
for address in $("$python" -m pip config list | grep -oE "(file:/)?/[^ ']+" | sort -u); do
    case $address in
        file:///*/*) show_inside "$(dirname "${address#file://}")" ;;
        /*) show_inside "$address" ;;
    esac
done

mv "$folder/clone" "$root/onefs"
mkdir "$root/results"
mount --bind "$folder" "$root/results"
mapfile -t kept < <(env | grep -E '^(PIP|SSL_CERT|REQUESTS_CA)_|^(https?|no)_proxy=')
inside() {
    chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 "${kept[@]}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /bin/bash -c 'cd /onefs && exec "$@"' inside "$@"
}
inside scripts/demo
inside scripts/matrix/run_row.sh /results "$@"
