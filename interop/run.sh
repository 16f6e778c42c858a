#!/usr/bin/env bash
# Runs third-party clients against a broker, and prints each client's version and the outcome of each check.
#
#   interop/run.sh                     builds hrotti and starts it on free loopback ports
#   interop/run.sh TCP_URL WS_URL      uses a broker that is already running
#
# mosquitto_pub and mosquitto_sub (package mosquitto-clients) and mosquitto as a bridge (package mosquitto) over
# tcp, paho-mqtt (PyPI) and MQTT.js (npm) over ws, each in MQTT 3.1, 3.1.1 and 5; then openssl s_client, sslscan and the
# same clients over TLS (tls.sh), pages in Chromium over wss (chromium.cjs, packages chromium and playwright-core), and
# Clients behind haproxy and nginx (proxy.sh), and promtool and schemathesis at the admin listener (admin.sh). The libraries are installed into a temporary directory; the packages of the
# system are installed if apt-get is available and the script runs as root.
#
# Exit code 0: every check held. 1: a check failed. 2: nothing could be run. 3: every check that ran held, but
# the clients of some could not be installed.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
broker=
finish() {
    if [ -n "$broker" ]; then kill -KILL "$broker" 2>/dev/null; wait "$broker" 2>/dev/null; fi
    rm -rf "$work"
}
trap finish EXIT

start_hrotti() {
    build_program || exit 2
    cat > "$work/config.json" <<'JSON'
{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}, "ws": {"url": "ws://127.0.0.1:0/mqtt"}}}
JSON
    "${CARGO_TARGET_DIR:-$here/../target}/debug/hrotti" -conf "$work/config.json" > "$work/hrotti.log" 2>&1 &
    broker=$!
    for _ in $(seq 600); do
        tcp=$(grep -ohE 'tcp://127\.0\.0\.1:[1-9][0-9]*' "$work/hrotti.log" | head -1)
        ws=$(grep -ohE 'ws://127\.0\.0\.1:[1-9][0-9]*/mqtt' "$work/hrotti.log" | head -1)
        if [ -n "$tcp" ] && [ -n "$ws" ]; then return; fi
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    echo "hrotti did not start:"
    cat "$work/hrotti.log"
    exit 2
}

install_packages() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null || return
    export DEBIAN_FRONTEND=noninteractive
    timeout 300 apt-get update -q && timeout 300 apt-get install -qy --no-install-recommends "$@"
}

install_mosquitto_clients() {
    command -v mosquitto_sub > /dev/null || install_packages mosquitto-clients
}

install_mosquitto() {
    install_mosquitto_clients && { PATH=$PATH:/usr/sbin command -v mosquitto > /dev/null || install_packages mosquitto; }
}

install_paho() {
    python3 -m venv "$work/venv" &&
        timeout 300 "$work/venv/bin/pip" install --quiet --disable-pip-version-check paho-mqtt==2.1.0
}

install_mqttjs() {
    command -v node > /dev/null &&
        timeout 300 npm install --no-audit --no-fund --prefix "$work/npm" mqtt@5
}

install_tls() {
    command -v openssl > /dev/null || install_packages openssl || return
    command -v sslscan > /dev/null || install_packages sslscan || return
    build_program && (cd "$here/.." && cargo build --quiet --locked --example tls)
}

# For the suites that start a broker of their own.
build_program() {
    (cd "$here/.." && cargo build --quiet --locked --bin hrotti)
}

install_chromium() {
    [ -d "$work/npm/node_modules/mqtt" ] || install_mqttjs || return
    command -v openssl > /dev/null || install_packages openssl || return
    [ -x /usr/bin/chromium ] || install_packages chromium || return
    timeout 300 npm install --no-audit --no-fund --prefix "$work/npm" playwright-core@1.65.1 && build_program
}

install_proxies() {
    install_mosquitto_clients || return
    command -v openssl > /dev/null || install_packages openssl || return
    PATH=$PATH:/usr/sbin command -v haproxy > /dev/null || install_packages haproxy || return
    PATH=$PATH:/usr/sbin command -v nginx > /dev/null || install_packages nginx-light || return
    build_program
}

install_admin() {
    command -v curl > /dev/null || install_packages curl || return
    command -v promtool > /dev/null || install_packages prometheus || return
    [ -d "$work/venv" ] || python3 -m venv "$work/venv" || return
    timeout 300 "$work/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5 && build_program
}

# The version of each suite's client, for the suite's first line.
mosquitto_clients_version() { mosquitto_sub --help 2> /dev/null | grep -m 1 version; }
mosquitto_version() { PATH=$PATH:/usr/sbin mosquitto -h | head -1; }
tls_version() { echo "$(openssl version), sslscan $(sslscan --version | grep -oE '[0-9]+\.[0-9.]+' | head -1)"; }
paho_version() { "$work/venv/bin/python" -c 'from importlib.metadata import version; print("paho-mqtt", version("paho-mqtt"))'; }
proxies_version() { PATH=$PATH:/usr/sbin; echo "$(haproxy -v | grep -oE '^HAProxy version [0-9.]+'), $(nginx -v 2>&1)"; }
admin_version() { echo "$(promtool --version 2>&1 | head -1 | cut -d, -f1,2), $("$work/venv/bin/st" --version)"; }
chromium_version() {
    echo "$(/usr/bin/chromium --version 2> /dev/null | grep -oE 'Chromium [0-9.]+'), playwright-core $(
        node -p "require('$work/npm/node_modules/playwright-core/package.json').version"), $(mqttjs_version)"
}
mqttjs_version() { echo "MQTT.js $(node -p "require('$work/npm/node_modules/mqtt/package.json').version"), node $(node --version)"; }

case $# in
    0) start_hrotti ;;
    2) tcp=$1 ws=$2 ;;
    *) echo "usage: $0 [TCP_URL WS_URL]" >&2; exit 2 ;;
esac

# suite NAME INSTALL VERSION COMMAND...
missing=()
results=$work/results
: > "$results"
suite() {
    local name=$1 install=$2 version=$3
    shift 3
    if "$install" < /dev/null > "$work/install.log" 2>&1; then
        echo "$name: $("$version")"
        # A client that ends with an error and without a line of its own has failed, too.
        "$@" < /dev/null | tee -a "$results"
        [ "${PIPESTATUS[0]}" -eq 0 ] || grep -q "^failed $name" "$results" ||
            echo "failed $name: it ended with an error" | tee -a "$results"
    else
        echo "NOT RUN $name: it cannot be installed:"
        tail -n 5 "$work/install.log"
        missing+=("$name")
    fi
}
suite 'mosquitto clients' install_mosquitto_clients mosquitto_clients_version timeout 900 "$here/mosquitto_clients.sh" "$tcp" "$work"
suite 'mosquitto bridge' install_mosquitto mosquitto_version timeout 900 "$here/mosquitto_bridge.sh" "$tcp" "$work"
suite 'paho-mqtt' install_paho paho_version timeout 900 "$work/venv/bin/python" "$here/paho_client.py" "$ws"
suite 'MQTT.js' install_mqttjs mqttjs_version env NODE_PATH="$work/npm/node_modules" timeout 900 node "$here/mqttjs.cjs" "$ws"
# These have brokers of their own, because they need their certificates or settings.
suite 'TLS' install_tls tls_version timeout 900 "$here/tls.sh" "$work"
suite 'Chromium' install_chromium chromium_version env NODE_PATH="$work/npm/node_modules" \
    timeout 300 node "$here/chromium.cjs" "$work" "${CARGO_TARGET_DIR:-$here/../target}/debug/hrotti"
suite 'proxies' install_proxies proxies_version timeout 900 "$here/proxy.sh" "$work"
suite 'admin' install_admin admin_version timeout 900 "$here/admin.sh" "$work"

if [ -n "$broker" ] && command -v openssl > /dev/null; then
    suite 'README: Secure it' install_mosquitto_clients mosquitto_clients_version \
        timeout 120 "$here/secure_it.sh" "${CARGO_TARGET_DIR:-$here/../target}/debug" "$work"
fi

if [ -n "$broker" ]; then
    kill -TERM "$broker"
    if wait "$broker"; then
        echo 'ok     hrotti: exit code 0 after SIGTERM' | tee -a "$results"
    else
        echo "failed hrotti: exit code $? after SIGTERM" | tee -a "$results"
    fi
    broker=
fi

held=$(grep -c '^ok ' "$results")
failed=$(grep -c '^failed ' "$results")
echo "$held checks held, $failed failed, ${#missing[@]} clients not run${missing[*]:+: ${missing[*]}}"
if [ "$failed" -gt 0 ]; then
    if [ -e "$work/hrotti.log" ]; then echo 'the broker said:'; tail -n 50 "$work/hrotti.log"; fi
    exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then exit 3; fi
