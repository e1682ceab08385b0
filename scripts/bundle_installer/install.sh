#!/bin/sh
# Installs the claude-mcp of this bundle. See --help.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
for python in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" -I "$here/installer.pyz" "$@"
    fi
done
echo "Python 3.11 or later is needed, and none is on PATH." >&2
exit 1
