#!/usr/bin/env bash
# Checks what an operator installs: packaging/check.sh, as root on a machine where a package may come and go (CI, a
# container). Builds the Debian package, has lintian and systemd-analyze judge it, installs it, starts the program as its
# service would, sends a message through it, and removes it.
#
# Exit code: 0 when all held, 1 when something did not, 3 when a tool cannot be had here (each is named).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=0
need() { command -v "$1" >/dev/null || { echo "needs $1: $2" >&2; missing=1; }; }
need cargo-deb 'cargo install cargo-deb --locked'
need lintian 'apt-get install lintian'
need systemd-analyze 'apt-get install systemd'
need systemd-sysusers 'apt-get install systemd'
need mosquitto_pub 'apt-get install mosquitto-clients'
need setpriv 'apt-get install util-linux'
[[ $(id -u) == 0 ]] || { echo 'needs root, to install a package' >&2; missing=1; }
[[ $missing == 0 ]] || exit 3

checks=0
held() { checks=$((checks + 1)); printf 'ok %s\n' "$1"; }
failed() { printf 'FAILED: %s\n' "$1" >&2; exit 1; }

packaging/build.sh
package=$(ls -t "${CARGO_TARGET_DIR:-target}"/debian/hrotti_*.deb | head -1)

lintian --fail-on error --suppress-tags bad-distribution-in-changes-file "$package" || failed 'lintian finds errors'
held 'lintian finds no errors'

exposure=$(systemd-analyze security --offline=true --no-pager packaging/hrotti.service | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')
awk -v level="$exposure" 'BEGIN { exit !(level != "" && level <= 2.0) }' || failed "systemd-analyze security: $exposure"
held "systemd-analyze security: exposure $exposure of 10"

pid=
clean() {
    [[ -z $pid ]] || kill "$pid" 2>/dev/null || true
    dpkg --purge hrotti >/dev/null 2>&1 || true
}
trap clean EXIT
dpkg --install "$package" >/dev/null || failed 'dpkg --install'
held 'the package installs'

systemd-analyze verify /lib/systemd/system/hrotti.service || failed 'systemd-analyze verify'
held 'the unit is valid'
[[ $(stat -c '%U:%G %a' /etc/hrotti) == 'root:hrotti 750' ]] || failed 'owner or mode of /etc/hrotti'
[[ $(stat -c '%U:%G %a' /etc/hrotti/config.json) == 'root:hrotti 640' ]] || failed 'owner or mode of /etc/hrotti/config.json'
# It would listen on all interfaces, whatever the configuration says.
[[ ! -e /lib/systemd/system/hrotti.socket ]] || failed 'the package starts the socket unit, which is an example'
man -w hrotti >/dev/null || failed 'the manual page'
bash -c '. /usr/share/bash-completion/completions/hrotti && complete -p hrotti' >/dev/null || failed 'the completions of bash'
held 'directories, manual page and completions are in their places'

# As the service runs: another user, no capabilities, and a directory of its own.
notify=$(mktemp -d)
chmod 777 "$notify"
python3 - "$notify/socket" <<'PYTHON' &
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.settimeout(30)
while b"READY=1" not in listener.recv(4096).split(b"\n"):
    pass
PYTHON
ready=$!
until [[ -S $notify/socket ]]; do sleep 0.1; done
NOTIFY_SOCKET=$notify/socket setpriv --reuid hrotti --regid hrotti --clear-groups --no-new-privs \
    --bounding-set=-all /usr/bin/hrotti -conf /etc/hrotti/config.json >"$notify/log" 2>&1 &
pid=$!
wait "$ready" || { cat "$notify/log" >&2; failed 'readiness was not told'; }
held 'the program starts as its user, and tells that it is ready'

mosquitto_pub -h 127.0.0.1 -p 1883 -t packaging/check -m hello -r -q 1 || failed 'publish'
[[ $(mosquitto_sub -h 127.0.0.1 -p 1883 -t 'packaging/#' -C 1 -W 10) == hello ]] || failed 'subscribe'
held 'a message goes through it'
/usr/bin/hrotti ctl --url http://127.0.0.1:9884 ready >/dev/null || failed 'the health check of the container'
held 'the health check answers'

kill -TERM "$pid"
wait "$pid" || failed 'the end is not in good order'
pid=
held 'it stops in good order'

dpkg --purge hrotti >/dev/null || failed 'dpkg --purge'
[[ ! -e /etc/hrotti && ! -e /usr/bin/hrotti ]] || failed 'purge leaves files'
held 'the package goes without a trace'
rm -r "$notify"
printf '%s checks held\n' "$checks"
