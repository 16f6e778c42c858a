#!/usr/bin/env bash
# usage: conformance/matrix.sh [OUTPUT]
# Runs the suite against hrotti, mosquitto and rumqttd, each with its own configuration on free loopback ports,
# and writes the table that compares them (conformance/RESULTS.md, or OUTPUT). A broker that is not installed is
# left out, and the table says so. MOSQUITTO and RUMQTTD name other programs than those on the PATH.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
output=${1:-$here/RESULTS.md}
scratch=$(mktemp -d)
started=()
trap 'for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$scratch"' EXIT

cargo build --locked -p hrotti -p hrotti-conformance --bins
target=${CARGO_TARGET_DIR:-target}/debug
# The last change to the broker itself.
commit=$(git log -1 --format=%h -- src)
reports=()
absent=()

# The kernel names ports that are free now; nobody else is likely to take them before the broker does.
free_ports() {
    python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# Waits until something listens on a port.
wait_for() {
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    echo "nothing listens on port $1" >&2
    cat "$scratch"/*.log >&2
    return 1
}

# run NAME FILE OPTION...: one run of the suite; failures of cases are what the table is for.
run() {
    local name=$1 report=$scratch/$2.json code=0
    shift 2
    echo "== $name"
    "$target/hrotti-conformance" --name "$name" --report "$report" --quiet "$@" >"$scratch/out" || code=$?
    if ((code > 1)); then
        cat "$scratch/out" >&2
        return 1
    fi
    tail -1 "$scratch/out"
    reports+=("$report")
}

# hrotti: everything as it comes.
read -r tcp ws < <(free_ports 2)
cat >"$scratch/hrotti.json" <<JSON
{"listeners": {"tcp": {"url": "tcp://127.0.0.1:$tcp"}, "ws": {"url": "ws://127.0.0.1:$ws"}}}
JSON
"$target/hrotti" -conf "$scratch/hrotti.json" >"$scratch/hrotti.log" 2>&1 &
started+=($!)
wait_for "$tcp"
wait_for "$ws"
version=$("$target/hrotti" --version | grep -oE '[0-9]+\.[0-9.]+' | head -1 || true)
run "hrotti $version ($commit)" hrotti --capabilities "$here/capabilities/hrotti.json" \
    --url "tcp://127.0.0.1:$tcp" --ws-url "ws://127.0.0.1:$ws"

# mosquitto: its defaults, with clients allowed that have no name. The other line makes 2.0 deliver a copy for each
# overlapping subscription; by default its clients of 3.x get one, at the QoS of any of them (MQTT-3.3.5-1).
mosquitto=${MOSQUITTO:-$(command -v mosquitto || ls /usr/sbin/mosquitto 2>/dev/null || true)}
if [[ -n $mosquitto ]]; then
    read -r tcp ws < <(free_ports 2)
    cat >"$scratch/mosquitto.conf" <<CONF
allow_anonymous true
allow_duplicate_messages true
listener $tcp 127.0.0.1
listener $ws 127.0.0.1
protocol websockets
CONF
    "$mosquitto" -c "$scratch/mosquitto.conf" >"$scratch/mosquitto.log" 2>&1 &
    started+=($!)
    wait_for "$tcp"
    wait_for "$ws"
    version=$("$mosquitto" -h 2>/dev/null | grep -oE '[0-9]+\.[0-9.]+' | head -1 || true)
    run "mosquitto $version" mosquitto --capabilities "$here/capabilities/mosquitto.json" \
        --url "tcp://127.0.0.1:$tcp" --ws-url "ws://127.0.0.1:$ws"
else
    absent+=(mosquitto)
fi

# rumqttd: the limits of its own example, a port for each version, 3.1.1 alone over WebSockets.
rumqttd=${RUMQTTD:-$(command -v rumqttd || true)}
if [[ -n $rumqttd ]]; then
    read -r v4 v5 ws console < <(free_ports 4)
    listener() {
        cat <<CONF
[$1]
name = "$1"
listen = "127.0.0.1:$2"
next_connection_delay_ms = 1
[$1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
CONF
    }
    {
        cat <<'CONF'
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
CONF
        listener v4.1 "$v4"
        listener v5.1 "$v5"
        listener ws.1 "$ws"
        printf '[console]\nlisten = "127.0.0.1:%s"\n' "$console"
    } >"$scratch/rumqttd.toml"
    start_rumqttd() {
        "$rumqttd" -c "$scratch/rumqttd.toml" >"$scratch/rumqttd.log" 2>&1 &
        started+=($!)
        wait_for "$v4"
        wait_for "$v5"
        wait_for "$ws"
    }
    start_rumqttd
    version=$("$rumqttd" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9.]+' | head -1 || true)
    can=(--capabilities "$here/capabilities/rumqttd.json")
    run "rumqttd $version" rumqttd "${can[@]}" --url "tcp://127.0.0.1:$v4" --v5-url "tcp://127.0.0.1:$v5"
    # A topic that begins with U+FEFF (strings::byte_order_mark_is_kept) ends its router: a fresh one.
    kill "${started[-1]}" && wait "${started[-1]}" || true
    start_rumqttd
    run "rumqttd $version, ws" rumqttd-ws "${can[@]}" --ws-url "ws://127.0.0.1:$ws" --versions 3.1.1
else
    absent+=(rumqttd)
fi

{
    cat "$here/results-head.md"
    [[ ${#absent[@]} == 0 ]] || printf 'Not installed here, and left out: %s.\n\n' "${absent[*]}"
    "$target/hrotti-conformance" --matrix "${reports[@]}"
} >"$scratch/results.md"
mv "$scratch/results.md" "$output"
echo "$output is written"
