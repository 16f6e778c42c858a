#!/usr/bin/env bash
# Runs clients that others wrote against a broker, and says for each check whether it held.
#
#   interop/run.sh                     builds hrotti and starts it on free loopback ports
#   interop/run.sh TCP_URL WS_URL      a broker that is running already
#
# mosquitto_pub and mosquitto_sub (package mosquitto-clients) over tcp: 3.1, 3.1.1, 5.
# paho-mqtt (PyPI) and MQTT.js (npm) over ws: 3.1.1, 5. Both are installed into a temporary folder.
# Exit code 1 when a check failed.
set -u

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
broker=
finish() {
    if [ -n "$broker" ]; then kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null; fi
    rm -rf "$work"
}
trap finish EXIT

start_hrotti() {
    (cd "$here/.." && cargo build --quiet --bin hrotti) || exit 2
    cat > "$work/config.json" <<'JSON'
{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}, "ws": {"url": "ws://127.0.0.1:0"}}}
JSON
    target=${CARGO_TARGET_DIR:-$here/../target}
    "$target/debug/hrotti" -conf "$work/config.json" > "$work/hrotti.log" 2>&1 &
    broker=$!
    for _ in $(seq 100); do
        tcp=$(grep -ohE 'tcp://127\.0\.0\.1:[1-9][0-9]*' "$work/hrotti.log" | head -1)
        ws=$(grep -ohE 'ws://127\.0\.0\.1:[1-9][0-9]*' "$work/hrotti.log" | head -1)
        if [ -n "$tcp" ] && [ -n "$ws" ]; then return; fi
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    echo "hrotti did not start:"
    cat "$work/hrotti.log"
    exit 2
}

if [ $# -eq 2 ]; then
    tcp=$1 ws=$2
elif [ $# -eq 0 ]; then
    start_hrotti
else
    echo "usage: $0 [TCP_URL WS_URL]" >&2
    exit 2
fi

failed=0
"$here/mosquitto_clients.sh" "$tcp" "$work" || failed=1

python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet --disable-pip-version-check paho-mqtt || exit 2
"$work/venv/bin/python" "$here/paho_ws.py" "$ws" || failed=1

npm install --silent --no-audit --no-fund --prefix "$work/npm" mqtt > "$work/npm.log" 2>&1 ||
    { cat "$work/npm.log"; exit 2; }
NODE_PATH="$work/npm/node_modules" node "$here/mqttjs_ws.cjs" "$ws" || failed=1

if [ "$failed" -eq 0 ]; then echo "all checks held"; else echo "some checks FAILED"; fi
exit "$failed"
