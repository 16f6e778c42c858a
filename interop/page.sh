#!/usr/bin/env bash
# Tests the page of the admin listener in Chromium against the program, and prints the outcome of each check.
#
#   interop/page.sh                  installs MQTT.js and playwright-core into a temporary directory, builds hrotti, tests
#   interop/page.sh --screenshots    the same, but writes the pictures of the README: docs/images/page-*.png
#   interop/page.sh HROTTI WORK      tests this program; WORK is for files, and NODE_PATH has the two libraries
#
# Needs node, npm and Debian's chromium.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mode=check
case ${1-} in
    --screenshots) mode=screenshots ;;
    '') ;;
    *) exec node "$here/page.cjs" "$1" "$2" check ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --silent --no-audit --no-fund --prefix "$work/npm" mqtt@5 playwright-core@1.65.1
(cd "$here/.." && cargo build --quiet --locked --bin hrotti)
NODE_PATH="$work/npm/node_modules" node "$here/page.cjs" "${CARGO_TARGET_DIR:-$here/../target}/debug/hrotti" "$work" "$mode"
