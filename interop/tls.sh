#!/usr/bin/env bash
# tls.sh WORK: what others see of TLS: openssl s_client, sslscan, mosquitto_pub and mosquitto_sub, and, where run.sh has
# installed them in WORK, paho-mqtt and MQTT.js over mqtts and wss.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1
example="${CARGO_TARGET_DIR:-$here/../target}/debug/examples/tls"
dir=$work/tls
failed=0
brokers=()
finish() { for pid in "${brokers[@]}"; do kill -KILL "$pid" 2> /dev/null; done; }
trap finish EXIT

# check NAME WANTED CAME
check() {
    if [ "$2" = "$3" ]; then
        echo "ok     TLS: $1"
    else
        echo "failed TLS: $1: wanted '$2', came '$3'"
        failed=1
    fi
}

# An authority that issues, revokes and lists: authority NAME
authority() {
    mkdir -p "$dir/$1/new" && : > "$dir/$1/index.txt" && echo 1000 > "$dir/$1/serial" && echo 01 > "$dir/$1/crlnumber"
    cat > "$dir/$1/ca.cnf" << CNF
[ca]
default_ca = this
[this]
dir = $dir/$1
database = $dir/$1/index.txt
new_certs_dir = $dir/$1/new
serial = $dir/$1/serial
crlnumber = $dir/$1/crlnumber
certificate = $dir/$1/ca.pem
private_key = $dir/$1/ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
copy_extensions = copy
unique_subject = no
x509_extensions = leaf
[leaf]
basicConstraints = CA:FALSE
[any]
commonName = supplied
CNF
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/$1/ca.key" -out "$dir/$1/ca.pem" \
        -subj "/CN=$1" -days 30 -addext keyUsage=critical,keyCertSign,cRLSign 2>> "$dir/openssl.log"
}

# issue AUTHORITY FILE COMMON_NAME ALTERNATIVE_NAMES [ARGS of openssl ca]
issue() {
    local authority=$1 file=$2 name=$3 names=$4
    shift 4
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/$file.key" -out "$dir/$file.csr" \
        -subj "/CN=$name" ${names:+-addext "subjectAltName=$names"} 2>> "$dir/openssl.log" &&
        openssl ca -batch -notext -config "$dir/$authority/ca.cnf" -in "$dir/$file.csr" -out "$dir/$file.pem" "$@" \
            2>> "$dir/openssl.log" || { echo "failed TLS: $file cannot be made:"; tail -5 "$dir/openssl.log"; exit 1; }
}

# serve URL DIRECTORY: sets `port` to the port of a new broker.
serve() {
    local log
    log=$(mktemp "$dir/log.XXXXXX")
    "$example" "$1" "$2" > "$log" 2>&1 &
    brokers+=($!)
    for _ in $(seq 300); do
        port=$(grep -oE '127\.0\.0\.1:[1-9][0-9]*' "$log" | head -1 | cut -d: -f2)
        [ -n "$port" ] && return
        kill -0 "${brokers[-1]}" 2> /dev/null || break
        sleep 0.1
    done
    echo 'failed TLS: the broker did not start:'
    cat "$log"
    exit 1
}

# connack ARGS of openssl s_client: the answer to a CONNECT of MQTT 3.1.1, in hexadecimal.
connack() {
    { printf '\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00'; sleep 1; } |
        timeout 20 openssl s_client -quiet -connect "127.0.0.1:$port" -CAfile "$dir/Servers/ca.pem" \
            -verify_return_error "$@" 2> "$dir/s_client.log" | head -c 4 | od -An -tx1 | tr -d ' \n'
}
said() { grep -qE "$1" "$dir/s_client.log" && echo yes || tail -3 "$dir/s_client.log"; }

mkdir -p "$dir"
authority Servers
authority Clients
authority Strangers
issue Servers server localhost DNS:localhost,IP:127.0.0.1
issue Servers expired-server localhost DNS:localhost,IP:127.0.0.1 -startdate 20000101000000Z -enddate 20010101000000Z
issue Clients good device ''
issue Clients revoked stolen ''
issue Clients expired old '' -startdate 20000101000000Z -enddate 20010101000000Z
issue Strangers stranger device ''
openssl ca -config "$dir/Clients/ca.cnf" -revoke "$dir/revoked.pem" 2>> "$dir/openssl.log"
openssl ca -config "$dir/Clients/ca.cnf" -gencrl -out "$dir/crl.pem" 2>> "$dir/openssl.log"
cp "$dir/Clients/ca.pem" "$dir/ca.pem"
mkdir -p "$dir/old"
cp "$dir/expired-server.pem" "$dir/old/server.pem"
cp "$dir/expired-server.key" "$dir/old/server.key"

serve mqtts://127.0.0.1:0 "$dir/old"
check 'a Client refuses an expired certificate of the server' '' "$(connack)"
check 'it says why' yes "$(said 'certificate has expired')"

serve mqtts://127.0.0.1:0 "$dir"
for version in tls1_2 tls1_3; do
    check "openssl s_client -$version" 20020000 "$(connack -$version -verify_hostname localhost)"
    check "openssl s_client -$version, wrong name" '' "$(connack -$version -verify_hostname other.test)"
    check 'it says why' yes "$(said 'ostname mismatch')"
    check "openssl s_client -$version, good certificate" 20020000 \
        "$(connack -$version -cert "$dir/good.pem" -key "$dir/good.key")"
    for bad in stranger revoked expired; do
        check "openssl s_client -$version, $bad certificate" '' \
            "$(connack -$version -cert "$dir/$bad.pem" -key "$dir/$bad.key")"
        check 'an alert says why' yes "$(said 'alert (unknown ca|certificate revoked|certificate expired|unknown CA)')"
    done
    check "openssl s_client -$version, ALPN mqtt" 20020000 "$(connack -$version -alpn mqtt)"
    check "openssl s_client -$version, ALPN h2" '' "$(connack -$version -alpn h2)"
done
check 'openssl s_client -tls1_1' '' "$(connack -tls1_1 -cipher 'DEFAULT:@SECLEVEL=0')"
check 'openssl s_client, a suite without forward secrecy' '' "$(connack -tls1_2 -cipher AES128-GCM-SHA256)"
check 'openssl s_client, a suite with CBC' '' "$(connack -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA)"

sslscan --no-colour "127.0.0.1:$port" > "$dir/sslscan" 2>&1
check 'sslscan: versions' 'TLSv1.2 TLSv1.3' \
    "$(grep -E '^(SSL|TLS)v[0-9.]+ +enabled' "$dir/sslscan" | awk '{ print $1 }' | sort | tr '\n' ' ' | sed 's/ $//')"
check 'sslscan: no suite without forward secrecy and authenticated encryption' '' \
    "$(grep -E '^(Accepted|Preferred)' "$dir/sslscan" | grep -vE ' (TLS_[A-Z0-9_]*(GCM|CHACHA20)|ECDHE-[A-Z0-9-]*(GCM|CHACHA20))')"
check 'sslscan: suites were found' yes "$([ "$(grep -cE '^(Accepted|Preferred)' "$dir/sslscan")" -ge 4 ] && echo yes)"
check 'sslscan: no compression, renegotiation or Heartbleed' '' \
    "$(grep -E 'Compression enabled|Insecure session renegotiation|^TLSv.*vulnerable to heartbleed' "$dir/sslscan" | grep -v 'not vulnerable')"

client() {
    local program=$1
    shift
    timeout 60 "$program" -h localhost -p "$port" --cafile "$dir/Servers/ca.pem" "$@"
}
for version in mqttv31 mqttv311 mqttv5; do
    topic="interop/$version" heard="$dir/heard.$version"
    stdbuf -oL timeout 60 mosquitto_sub -h localhost -p "$port" --cafile "$dir/Servers/ca.pem" -V $version -d \
        --cert "$dir/good.pem" --key "$dir/good.key" -u user -P password -q 2 -t "$topic" -C 3 -F '%q %p' \
        > "$heard" 2>&1 &
    listener=$!
    while ! grep -qs '^Subscribed' "$heard" && kill -0 "$listener" 2> /dev/null; do sleep 0.02; done
    for qos in 0 1 2; do
        client mosquitto_pub --cert "$dir/good.pem" --key "$dir/good.key" -u user -P password \
            -V $version -q $qos -t "$topic" -m "hello $qos"
    done
    wait "$listener"
    check "mosquitto_pub and mosquitto_sub, $version, with certificates" '0 hello 0,1 hello 1,2 hello 2' \
        "$(grep -vE '^(Client |Subscribed)' "$heard" | paste -sd,)"
done
client mosquitto_pub -t t -m x -q 1 2> /dev/null
check 'mosquitto_pub without a certificate, which is optional' 0 $?
for bad in stranger revoked expired; do
    client mosquitto_pub --cert "$dir/$bad.pem" --key "$dir/$bad.key" -t t -m x -q 1 > /dev/null 2>&1
    check "mosquitto_pub with a $bad certificate fails" yes "$([ $? -ne 0 ] && echo yes)"
done

secure=$port
serve wss://127.0.0.1:0/mqtt "$dir"
for url in "mqtts://localhost:$secure" "wss://localhost:$port/mqtt"; do
    if [ -x "$work/venv/bin/python" ]; then
        timeout 300 "$work/venv/bin/python" "$here/paho_client.py" "$url" "$dir/Servers/ca.pem" || failed=1
    fi
    if [ -d "$work/npm/node_modules/mqtt" ]; then
        NODE_PATH="$work/npm/node_modules" timeout 300 node "$here/mqttjs.cjs" "$url" "$dir/Servers/ca.pem" || failed=1
    fi
done
for pid in "${brokers[@]}"; do
    kill -TERM "$pid"
    wait "$pid"
    check 'the broker ends in good order' 0 $?
done
brokers=()
exit $failed
