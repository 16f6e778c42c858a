#!/usr/bin/env bash
# tls.sh WORK: what others see of TLS: openssl s_client, sslscan, mosquitto_pub and mosquitto_sub, and, where run.sh has
# installed them in WORK, paho-mqtt and MQTT.js over mqtts and wss.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=TLS
. "$here/program.sh"
work=$1
example=$debug/examples/tls
dir=$work/tls
brokers=()
finish() {
    for pid in "${brokers[@]}"; do kill -KILL "$pid" 2> /dev/null; done
    kill_started
}
trap finish EXIT

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
    rm -f "$dir/ended" && : > "$dir/answer"
    { printf '\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00'; waits_for 20 answered; } | {
        timeout 20 openssl s_client -quiet -no_ign_eof -connect "127.0.0.1:$port" -CAfile "$dir/Servers/ca.pem" \
            -verify_return_error "$@" 2> "$dir/s_client.log" > "$dir/answer"
        : > "$dir/ended"
    }
    head -c 4 "$dir/answer" | od -An -tx1 | tr -d ' \n'
}
# The input of s_client ends as soon as there is nothing more to come.
answered() { [ -e "$dir/ended" ] || [ "$(stat -c %s "$dir/answer")" -ge 4 ]; }
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
mkdir -p "$dir/old" "$dir/both"
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

# A certificate, a user name and its password, all at once: the program with a configuration of both.
cp "$dir/server.pem" "$dir/server.key" "$dir/both" && cp "$dir/Clients/ca.pem" "$dir/crl.pem" "$dir/both"
"$debug/hrotti" passwd -c -b "$dir/both/passwords" user 'open sesame' > /dev/null &&
    "$debug/hrotti" passwd -b "$dir/both/passwords" device 'of the device' > /dev/null || failed=1
cat > "$dir/both/acl" << 'ACL'
user user
topic readwrite user/#
user device
topic readwrite device/#
ACL
cat > "$dir/both/config.json" << 'JSON'
{
  "listeners": {
    "both": {"url": "mqtts://127.0.0.1:0", "tls": {"certificate": "server.pem", "key": "server.key",
             "clientCa": "ca.pem", "crl": "crl.pem", "clientCertificate": "required"}},
    "named": {"url": "mqtts://127.0.0.1:0", "tls": {"certificate": "server.pem", "key": "server.key",
             "clientCa": "ca.pem", "crl": "crl.pem", "userName": "commonName"}}
  },
  "access": {"passwordFile": "passwords", "aclFile": "acl"}
}
JSON
start_program "$dir/both/config.json" "$dir/both/log"
cert=(--cert "$dir/good.pem" --key "$dir/good.key")
revoked=(--cert "$dir/revoked.pem" --key "$dir/revoked.key")
stranger=(--cert "$dir/stranger.pem" --key "$dir/stranger.key")
right=(-u user -P 'open sesame')
port=$(port_of both "$dir/both/log")
for version in mqttv31 mqttv311 mqttv5; do
    what="required certificate and password, $version"
    client mosquitto_pub "${cert[@]}" "${right[@]}" -V $version -q 2 -r -t user/a -m $version
    check "$what: mosquitto_pub" 0 $?
    check "$what: mosquitto_sub" $version "$(client mosquitto_sub "${cert[@]}" "${right[@]}" -V $version -q 2 -t 'user/#' -C 1)"
    to=(mosquitto_pub -h localhost -p "$port" --cafile "$dir/Servers/ca.pem" -V $version -q 1 -t user/a -m x)
    fails "$what: a wrong password" "${to[@]}" "${cert[@]}" -u user -P 'close sesame'
    fails "$what: an unknown user" "${to[@]}" "${cert[@]}" -u nobody -P 'open sesame'
    fails "$what: a user without password" "${to[@]}" "${cert[@]}" -u user
    fails "$what: a certificate alone" "${to[@]}" "${cert[@]}"
    fails "$what: a password alone" "${to[@]}" "${right[@]}"
    fails "$what: a password with a revoked certificate" "${to[@]}" "${revoked[@]}" "${right[@]}"
    fails "$what: a password with a certificate of another authority" "${to[@]}" "${stranger[@]}" "${right[@]}"
done
port=$(port_of named "$dir/both/log")
client mosquitto_pub "${cert[@]}" -u user -P 'close sesame' -V mqttv5 -q 1 -r -t device/a -m named
check 'the Common Name is the user name, whatever CONNECT says: mosquitto_pub' 0 $?
check 'the Common Name is the user name, whatever CONNECT says: mosquitto_sub' named \
    "$(client mosquitto_sub "${cert[@]}" -t device/# -t user/# -C 1)"
fails 'a user name and its password instead of a certificate with a name' \
    mosquitto_pub -h localhost -p "$port" --cafile "$dir/Servers/ca.pem" "${right[@]}" -q 1 -t user/a -m x
stop_program
exit $failed
