#!/usr/bin/env bash
# proxy.sh WORK: hrotti behind haproxy (PROXY protocol, versions 1 and 2, over tcp, TLS passed through, and TLS ended by
# haproxy) and behind nginx (WebSocket with X-Forwarded-For). The address of each Client is that of the proxy's header:
# Clients bind addresses of their own in 127.0.0.0/8, the proxies connect from 127.0.0.1.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=proxies
. "$here/program.sh"
dir=$1/proxies
trap kill_started EXIT
mkdir -p "$dir" && cd "$dir" || exit 1

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout server.key -out server.pem 2> openssl.log || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=device \
    -keyout client.key -out client.pem 2>> openssl.log || exit 1
cat server.pem server.key > both.pem

cat > config.json << 'JSON'
{
  "logging": {"protocol": "stdout", "debug": "stdout"},
  "listeners": {
    "tcp": {"url": "tcp://127.0.0.1:0", "proxyProtocol": ["127.0.0.1"], "networksDenied": ["127.0.0.2"]},
    "only": {"url": "tcp://127.0.0.1:0", "proxyProtocol": ["127.0.0.1"], "networksAllowed": ["127.0.0.3"]},
    "strangers": {"url": "tcp://127.0.0.1:0", "proxyProtocol": ["127.0.0.9"]},
    "tls": {"url": "mqtts://127.0.0.1:0", "proxyProtocol": ["127.0.0.1"], "networksDenied": ["127.0.0.2"],
            "tls": {"certificate": "server.pem", "key": "server.key"}},
    "ws": {"url": "ws://127.0.0.1:0/mqtt", "forwardedFor": ["127.0.0.1"], "networksDenied": ["127.0.0.2"]}
  }
}
JSON
start_program config.json hrotti.log
port() { port_of "$1" hrotti.log; }

# What haproxy serves: NAME, options of `bind`, listener, options of `server`.
names=(v1 v2 only-v1 only-v2 strangers tls-v1 tls-v2 ended)
read -r -a ports < <(free_ports $((${#names[@]} + 1)))
at() { for i in "${!names[@]}"; do if [ "${names[i]}" = "$1" ]; then echo "${ports[i]}"; fi; done; }
http=${ports[-1]}
serve() {
    printf 'listen %s\n    bind 127.0.0.1:%s %s\n    server hrotti 127.0.0.1:%s %s\n' \
        "$1" "$(at "$1")" "$2" "$(port "$3")" "$4"
}
{
    cat << CFG
global
    stats socket $dir/haproxy.sock
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    # A health check that speaks MQTT 3.1.1: CONNECT, CONNACK. Its header names no Client.
    option tcp-check
    tcp-check send-binary 100c00044d5154540402003c0000
    tcp-check expect binary 20020000
CFG
    serve v1 '' tcp 'send-proxy check check-send-proxy inter 500'
    serve v2 '' tcp 'send-proxy-v2 check check-send-proxy inter 500'
    serve only-v1 '' only send-proxy
    serve only-v2 '' only send-proxy-v2
    serve strangers '' strangers send-proxy
    serve tls-v1 '' tls send-proxy
    serve tls-v2 '' tls send-proxy-v2
    serve ended "ssl crt $dir/both.pem ca-file $dir/client.pem verify optional" tcp send-proxy-v2-ssl-cn
} > haproxy.cfg
PATH=$PATH:/usr/sbin haproxy -db -f haproxy.cfg > haproxy.log 2>&1 &
started+=($!)

cat > nginx.conf << CFG
daemon off;
master_process off;
user root;
pid $dir/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
    server {
        listen 127.0.0.1:$http;
        proxy_http_version 1.1;
        location /mqtt {
            proxy_pass http://127.0.0.1:$(port ws)/mqtt;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
        }
        location /standard {
            proxy_pass http://127.0.0.1:$(port ws)/mqtt;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Forwarded "for=\"\$remote_addr:\$remote_port\"";
        }
    }
}
CFG
PATH=$PATH:/usr/sbin nginx -c "$dir/nginx.conf" -e stderr > nginx.log 2>&1 &
started+=($!)

listens() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
for one in "${ports[@]}"; do
    waits_for 30 listens "$one" || { echo "failed $suite: a proxy did not start:"; cat haproxy.log nginx.log; exit 1; }
done

# seen CLIENT_ID: the address at which the broker saw the Client.
seen() { sed -nE "s/.*client \"$1\" connected from ([0-9.]+):[0-9]+ on .*/\1/p" hrotti.log; }
# The log of a connection may be written after its Client has ended.
check_seen() { waits_for 10 grep -q "client \"$2\" connected from" hrotti.log; check "$1" "$3" "$(seen "$2")"; }

for name in v1 v2 tls-v1 tls-v2 ended; do
    tls=()
    case $name in
        tls-*) tls=(--cafile server.pem) what="TLS behind haproxy, ${name#tls-}" ;;
        ended) tls=(--cafile server.pem --cert client.pem --key client.key) what='TLS ended by haproxy, v2 with TLVs' ;;
        *) what="haproxy, $name" ;;
    esac
    to=(-h 127.0.0.1 -p "$(at "$name")" "${tls[@]}")
    for version in mqttv31 mqttv311 mqttv5; do
        id=$name-$version
        stdbuf -oL timeout 20 mosquitto_sub "${to[@]}" -A 127.0.0.3 -i "$id-s" -V $version -d -q 2 -t "p/$id" -C 4 \
            -F '%q %p' > "heard.$id" 2>&1 &
        listener=$!
        waits_for 30 grep -q '^Subscribed' "heard.$id"
        for qos in 0 1 2; do
            timeout 60 mosquitto_pub "${to[@]}" -A 127.0.0.4 -i "$id-p$qos" -V $version -q $qos -t "p/$id" -m "hello $qos"
        done
        # Many bytes at once, in both directions.
        head -c 300000 /dev/zero | tr '\0' x | timeout 60 mosquitto_pub "${to[@]}" -i "$id-pl" -V $version -q 1 -t "p/$id" -s
        wait "$listener"
        # Sorted, because mosquitto_sub prints a message of QoS 2 at PUBREL, after a later one of QoS 1.
        check "$what: mosquitto_pub and mosquitto_sub, $version" '0 hello 0,1 hello 1,1 x,2 hello 2' \
            "$(grep -vE '^(Client |Subscribed)' "heard.$id" | tr -s x | sort | paste -sd,)"
        check_seen "$what: $version, the address of the subscriber" "$id-s" 127.0.0.3
        check_seen "$what: $version, the address of the publisher" "$id-p2" 127.0.0.4
    done
    fails "$what: a Client of a denied network" \
        mosquitto_pub "${to[@]}" -A 127.0.0.2 -i "$name-denied" -q 1 -t t -m x
    check "$what: it is no Client of the broker" '' "$(seen "$name-denied")"
done

for version in v1 v2; do
    to=(-h 127.0.0.1 -p "$(at "only-$version")" -q 1 -t t -m x)
    holds "haproxy, $version: a Client of the allowed network" timeout 20 mosquitto_pub "${to[@]}" -A 127.0.0.3
    fails "haproxy, $version: a Client of another network" \
        mosquitto_pub "${to[@]}" -A 127.0.0.4 -i "other-$version"
    fails "haproxy, $version: a Client at the proxy's own address is no exception" \
        mosquitto_pub "${to[@]}" -A 127.0.0.1 -i "proxy-$version"
    check "haproxy, $version: they are no Clients of the broker" '' "$(seen "(other|proxy)-$version")"
done

for listener in tcp tls; do
    tls=()
    [ "$listener" = tls ] && tls=(--cafile server.pem)
    for address in 127.0.0.1 127.0.0.3; do
        fails "$listener: a connection without header, from $address" \
            mosquitto_pub -h 127.0.0.1 -p "$(port "$listener")" "${tls[@]}" -A "$address" -i "direct-$listener" -q 1 -t t -m x
    done
    check "$listener: it is no Client of the broker" '' "$(seen "direct-$listener")"
done
holds 'the log says that the header is missing' \
    waits_for 10 grep -q 'does not begin with a header of the PROXY protocol' hrotti.log
fails 'a proxy that is not trusted' \
    mosquitto_pub -h 127.0.0.1 -p "$(at strangers)" -i stranger -q 1 -t t -m x
check 'its Client is no Client of the broker' '' "$(seen stranger)"

# health PROXY: what haproxy thinks of the broker.
health() {
    python3 - "$dir/haproxy.sock" "$1" << 'PY'
import csv, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"show stat\n")
text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
for row in csv.DictReader(text.lstrip("# ").splitlines()):
    if (row["pxname"], row["svname"]) == (sys.argv[2], "hrotti"):
        print(row["status"], row["check_status"])
PY
}
for version in v1 v2; do
    check "haproxy, $version: its health check gets a CONNACK" 'UP L7OK' "$(health $version)"
done

# connack PORT PATH ADDRESS CLIENT_ID [HEADER]: the answer to a CONNECT of MQTT 3.1.1 over WebSocket.
connack() {
    timeout 20 python3 - "$@" << 'PY'
import socket, sys
port, path, address, client = int(sys.argv[1]), *sys.argv[2:5]

def closed(*_):
    print("closed")
    sys.exit()

# A peer that is not let in may see the end of the stream or a reset.
sys.excepthook = lambda kind, error, _: closed() if isinstance(error, ConnectionError) else print(kind, error)
s = socket.create_connection(("127.0.0.1", port), 15, (address, 0))
head = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: mqtt", *sys.argv[5:], "", ""]
s.sendall("\r\n".join(head).encode())
file = s.makefile("rb")
status = file.readline().split()
if not status:
    closed()
if status[1] != b"101":
    print(status[1].decode())
    sys.exit()
while file.readline().strip():
    pass
rest = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client).to_bytes(2, "big") + client.encode()
packet = bytes([0x10, len(rest)]) + rest
s.sendall(bytes([0x82, 0x80 | len(packet), 0, 0, 0, 0]) + packet)
print(file.read(6).hex() or "closed")
PY
}
accepted=820420020000
check 'nginx: X-Forwarded-For' $accepted "$(connack "$http" /mqtt 127.0.0.3 nginx)"
check_seen 'nginx: X-Forwarded-For, the address of the Client' nginx 127.0.0.3
check 'nginx: Forwarded' $accepted "$(connack "$http" /standard 127.0.0.4 standard)"
check_seen 'nginx: Forwarded, the address of the Client' standard 127.0.0.4
check 'nginx: a Client that names another address' $accepted \
    "$(connack "$http" /mqtt 127.0.0.5 claims 'X-Forwarded-For: 192.0.2.1')"
check_seen 'nginx: it is known by its own' claims 127.0.0.5
for path in /mqtt /standard; do
    check "nginx: $path, a Client of a denied network" closed "$(connack "$http" $path 127.0.0.2 denied)"
done
check 'nginx: it is no Client of the broker' '' "$(seen denied)"
check 'no proxy: a Client that names another address' $accepted \
    "$(connack "$(port ws)" /mqtt 127.0.0.6 alone 'X-Forwarded-For: 192.0.2.1')"
check_seen 'no proxy: it is known by its own' alone 127.0.0.6
check 'no proxy: a Client of a denied network that names another address' closed \
    "$(connack "$(port ws)" /mqtt 127.0.0.2 hides 'X-Forwarded-For: 127.0.0.3')"
check 'no proxy: it is no Client of the broker' '' "$(seen hides)"

stop_program
if [ $failed -ne 0 ]; then grep -vE 'async_std|task_id' hrotti.log | tail -60; cat haproxy.log nginx.log; fi
exit $failed
