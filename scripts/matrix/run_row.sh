#!/usr/bin/env bash
# One row of scripts/full/matrix, in the clone that holds this file: scripts/test, and versions.
# usage: scripts/matrix/run_row.sh RESULTS TEST...
#   RESULTS: a folder for versions.json and junit.xml
set -euo pipefail
cd "$(dirname "$0")/../.."

results=$1
shift
code=0
# the types of a library's older version, which an older Python gets, are other ones
SKIP_CHECKS=1 scripts/test --junitxml "$results/junit.xml" "$@" || code=$?
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
exit "$code"
