#!/usr/bin/env bash
# mosquitto_bridge.sh TCP_URL WORK: a mosquitto that is a bridge to the broker, in 3.1, 3.1.1 and 5. Bridges of
# 3.1 and 3.1.1 set bit 7 of the protocol level.
set -u
PATH=$PATH:/usr/sbin

url=$1 work=$2
rest=${url#tcp://}
host=${rest%:*} port=${rest##*:}
run=$RANDOM$RANDOM
failed=0 count=0 bridge=
trap 'if [ -n "$bridge" ]; then kill "$bridge" 2> /dev/null; fi' EXIT

# check NAME WANTED CAME
check() {
    if [ "$2" = "$3" ]; then
        echo "ok     mosquitto bridge: $1"
    else
        echo "failed mosquitto bridge: $1: wanted '$2', came '$3'"
        failed=1
    fi
}

# The side of a command: `near` is the mosquitto that is the bridge, `far` the broker.
at() {
    if [ "$1" = near ]; then echo "-h 127.0.0.1 -p $near_port"; else echo "-h $host -p $port"; fi
}
# pub SIDE ARGS... and sub SIDE ARGS...
pub() { mosquitto_pub -V mqttv5 $(at "$1") "${@:2}"; }
sub() { mosquitto_sub -V mqttv5 -q 2 -W 20 $(at "$1") "${@:2}"; }

# watch SIDE ARGS...: a subscriber in the background, $watcher, that prints into $file; returns when its
# subscription is granted.
watch() {
    file=$work/bridge.$((count += 1))
    : > "$file"
    stdbuf -oL mosquitto_sub -V mqttv5 -q 2 -W 20 -d $(at "$1") "${@:2}" > "$file" 2>&1 &
    watcher=$!
    while ! grep -qs '^Subscribed' "$file" && kill -0 $watcher 2> /dev/null; do sleep 0.02; done
}
# said FILE: what a watcher printed, without the debug lines.
said() { grep -vE '^(Client |Subscribed)' "$1"; }
# until_said TEXT FILE PID
until_said() {
    while ! said "$2" | grep -q "$1" && kill -0 "$3" 2> /dev/null; do sleep 0.02; done
}

start_bridge() { # VERSION PREFIX
    near_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat > "$work/bridge.conf" << CONF
listener $near_port 127.0.0.1
allow_anonymous true
user $(id -un)
connection $run
address $host:$port
bridge_protocol_version $1
remote_clientid $run$1
restart_timeout 1
topic $2/up/# out 2
topic $2/down/# in 2
topic # both 2 $2/ring/a/ $2/ring/b/
topic # both 2 $2/ring/b/ $2/ring/a/
CONF
    mosquitto -c "$work/bridge.conf" > "$work/bridge.log" 2>&1 &
    bridge=$!
}

# one_way VERSION FROM TO PREFIX
one_way() {
    local qos
    for qos in 0 1 2; do
        watch "$3" -t "$4/$qos" -C 1 -F '%q %r %p'
        pub "$2" -q $qos -t "$4/$qos" -m hello
        wait $watcher
        check "$1 $2 to $3, QoS $qos" "$qos 0 hello" "$(said "$file")"
    done
    for qos in 0 1 2; do
        watch "$3" -t "$4/kept$qos" -C 1 -F '%q %p'
        pub "$2" -q $qos -r -t "$4/kept$qos" -m kept
        wait $watcher
        # RETAIN crosses a bridge as it was published: the other side retains the message, too.
        check "$1 $2 to $3, retained, QoS $qos" "$qos 1 kept" \
            "$(sub "$3" -t "$4/kept$qos" -C 1 -F '%q %r %p')"
        pub "$2" -q 1 -r -t "$4/kept$qos" -n
    done
}

# Two topics that are crossed on their way over the bridge, both in both directions. Each side has every message
# once: no message returns to its origin or loops.
ring() { # VERSION PREFIX
    local near_file near far_file far side
    watch near -t "$2/#" -F '%t %p' && near_file=$file near=$watcher
    watch far -t "$2/#" -F '%t %p' && far_file=$file far=$watcher
    for side in near far near; do
        pub $side -q 0 -t "$2/a/0" -m "$side"
        pub $side -q 1 -t "$2/b/1" -m "$side"
        pub $side -q 2 -r -t "$2/a/2" -m "$side"
        # A message that loops back would arrive before the next side's messages.
        pub $side -q 2 -t "$2/b/end" -m "$((count += 1))"
        until_said "end $count" "$near_file" $near
        until_said "end $count" "$far_file" $far
    done
    kill $near $far
    wait $near $far 2> /dev/null
    check "$1 ring, near" "$({ once near a b; once far b a; once near a b; } | sort)" "$(came "$near_file" "$2")"
    check "$1 ring, far" "$({ once near b a; once far a b; once near b a; } | sort)" "$(came "$far_file" "$2")"
    pub near -q 1 -r -t "$2/a/2" -n
    pub far -q 1 -r -t "$2/a/2" -n
}
# once FROM A B: a side's messages as they come, with the names that the topics a and b have there.
came() { said "$1" | sed "s|^$2/||; s|end .*|end|" | sort; }
once() { printf '%s\n' "$2/0 $1" "$3/1 $1" "$2/2 $1" "$3/end"; }

for version in mqttv31 mqttv311 mqttv50; do
    prefix=interop/$run/$version
    start_bridge $version "$prefix"
    # Retained messages wait on both sides until the bridge is connected.
    pub far -q 1 -r -t "$prefix/down/ready" -m ready
    for _ in $(seq 100); do
        pub near -q 1 -r -t "$prefix/up/ready" -m ready 2> /dev/null && break
        kill -0 $bridge 2> /dev/null || break
        sleep 0.1
    done
    check "$version connects, near" ready "$(sub near -t "$prefix/down/ready" -C 1)"
    check "$version connects, far" ready "$(sub far -t "$prefix/up/ready" -C 1)"
    pub far -q 1 -r -t "$prefix/down/ready" -n
    pub near -q 1 -r -t "$prefix/up/ready" -n
    one_way $version near far "$prefix/up"
    one_way $version far near "$prefix/down"
    ring $version "$prefix/ring"
    # The log would show a refused level, after which mosquitto tries again without the bit.
    check "$version log" 0 "$(grep -ciE 'refused|protocol error|socket error' "$work/bridge.log")"
    kill $bridge
    wait $bridge 2> /dev/null
    bridge=
done
exit $failed
