#!/usr/bin/env bash
# Runs the commands of "Secure it" in README.md as they are written there, and prints the outcome of each check. Only the
# port is replaced by a free one.
#
#   interop/secure_it.sh DIRECTORY_OF_HROTTI DIRECTORY_FOR_FILES
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$(cd "$1" && pwd):$PATH
work=$2/secure-it
name='README: Secure it'
mkdir -p "$work" && cd "$work" || exit 1

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
{
    echo 'set -e'
    awk '/secure-it:begin/ {on = 1; next} /secure-it:end/ {on = 0} on && !/^```/' "$here/../README.md"
    # The broker runs in the background of the commands.
    echo 'kill -TERM $(jobs -p) && wait'
} | sed "s/8883/$port/g" > commands.sh

failed=0
check() { if "${@:2}"; then echo "ok     $name: $1"; else echo "failed $name: $1"; failed=1; fi; }
printf 'open sesame\n' > password
timeout 60 bash commands.sh < password > output 2> errors
code=$?
check 'every command ends well' test "$code" -eq 0
check 'the subscription over TLS prints the message' grep -qx on output
check 'the question is answered by the rule' grep -q '^rule: acl:2: topic readwrite home/#$' output
check 'nothing is warned of' sh -c '! grep -q "^warning: " output'
if [ "$failed" -ne 0 ]; then sed 's/^/    /' output errors; fi
exit "$failed"
