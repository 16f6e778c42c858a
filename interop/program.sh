# Sourced by the scripts that start the program with a configuration of their own. They set `here`, `suite` (the name
# that each line bears) and may read `failed`.

debug="${CARGO_TARGET_DIR:-$here/../target}/debug"
failed=0
started=()

# check NAME WANTED CAME
check() {
    if [ "$2" = "$3" ]; then
        echo "ok     $suite: $1"
    else
        echo "failed $suite: $1: wanted '$2', came '$3'"
        failed=1
    fi
}

# holds NAME COMMAND...: a check that the command succeeds.
holds() {
    local name=$1
    shift
    check "$name" 0 "$("$@" > /dev/null 2>&1; echo $?)"
}

# fails NAME COMMAND...: a check that the command ends by itself, and says that it failed.
fails() {
    local name=$1 came
    shift
    timeout 20 "$@" > /dev/null 2>&1
    came=$?
    case $came in
        0) came='it succeeded' ;;
        124) came='it did not end' ;;
        *) came='it failed' ;;
    esac
    check "$name fails" 'it failed' "$came"
}

# waits_for SECONDS COMMAND...: until the command succeeds.
waits_for() {
    local turns=$(($1 * 20))
    shift
    while ! "$@" > /dev/null 2>&1; do
        [ $((turns -= 1)) -gt 0 ] || return 1
        sleep 0.05
    done
}

# start_program CONFIG LOG [ARGS]: sets `broker` to the process, when it listens.
start_program() {
    local config=$1 log=$2
    shift 2
    "$debug/hrotti" -conf "$config" "$@" > "$log" 2>&1 &
    broker=$!
    started+=("$broker")
    local count
    count=$(grep -o '"url"' "$config" | wc -l)
    for _ in $(seq 300); do
        [ "$(grep -c '^listening: ' "$log")" -eq "$count" ] && return
        kill -0 "$broker" 2> /dev/null || break
        sleep 0.1
    done
    echo "failed $suite: the broker did not start:"
    cat "$log"
    exit 1
}

# port_of LISTENER LOG: the port that the system has chosen.
port_of() { sed -nE "s/^listening: $1 [a-z]+:\/\/[^:]+:([0-9]+).*/\1/p" "$2" | head -1; }

# stop_program: the last one that was started ends in good order.
stop_program() {
    kill -TERM "$broker"
    wait "$broker"
    check 'the broker ends in good order' 0 $?
}

kill_started() { for pid in "${started[@]}"; do kill -KILL "$pid" 2> /dev/null; done; }

free_ports() {
    python3 - "$1" << 'PY'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PY
}
