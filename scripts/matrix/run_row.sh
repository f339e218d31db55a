#!/usr/bin/env bash
# One row of scripts/full/matrix, in the clone that holds this file: install, then run tests.
# usage: scripts/matrix/run_row.sh RESULTS TEST...
#   RESULTS: a folder for versions.json and junit.xml
set -euo pipefail
cd "$(dirname "$0")/../.."

results=$1
shift
scripts/install demo,plot,dev fuse3 rsync attr bindfs python3-venv
.venv/bin/python - >"$results/versions.json" <<'END'
import json, platform
from onefs.mount.fuse import LIBFUSE_VERSION

print(json.dumps({
    "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
    "python": platform.python_version(),
    "libfuse": ".".join(map(str, LIBFUSE_VERSION)),
    "kernel": platform.release(),
}))
END
# tests write nothing outside their own folders
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
for name in "${!XDG_@}" "${!ONEFS_@}"; do unset "$name"; done
export HOME=$home ONEFS_REQUIRE_FUSE=1
.venv/bin/python -m pytest -n 3 --dist loadfile -m "not long" --junitxml "$results/junit.xml" "$@"
