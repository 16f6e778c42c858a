#!/usr/bin/env bash
# mosquitto_clients.sh TCP_URL WORK: mosquitto_pub and mosquitto_sub in 3.1, 3.1.1 and 5.
set -u

url=$1 work=$2
rest=${url#tcp://}
host=${rest%:*} port=${rest##*:}
run=$RANDOM$RANDOM
failed=0 count=0 tries=0

# check NAME WANTED CAME
check() {
    if [ "$2" = "$3" ]; then
        echo "ok     mosquitto clients: $1"
    else
        echo "failed mosquitto clients: $1: wanted '$2', came '$3'"
        failed=1
    fi
}

pub() { mosquitto_pub -h "$host" -p "$port" "$@"; }
sub() { mosquitto_sub -h "$host" -p "$port" -W 60 "$@"; }

# until_said TEXT FILE PID: returns when the process has written a line that begins so, or has ended.
until_said() {
    while ! grep -qs "^$1" "$2" && kill -0 "$3" 2> /dev/null; do sleep 0.02; done
}

# listen ARGS...: a subscriber in the background; returns when its subscription is granted.
listen() {
    file=$work/sub.$((count += 1))
    # -d prints a line at SUBACK, and stdbuf flushes it at once.
    stdbuf -oL mosquitto_sub -h "$host" -p "$port" -W 60 -d "$@" > "$file" 2>&1 &
    listener=$!
    until_said Subscribed "$file" "$listener"
}

# heard NAME WANTED: checks what the listener printed, without the debug lines.
heard() {
    wait "$listener"
    check "$1" "$2" "$(grep -vE '^(Client |Subscribed)' "$file")"
}

for version in mqttv31 mqttv311 mqttv5; do
    for qos in 0 1 2; do
        topic="interop/$run/$version/$qos"
        listen -V $version -q 2 -t "$topic" -C 1 -F '%t %q %r %p'
        pub -V $version -q $qos -t "$topic" -m hello
        heard "$version QoS $qos" "$topic $qos 0 hello"
    done

    topic="interop/$run/$version/retained"
    for qos in 0 1 2; do
        pub -V $version -q $qos -r -t "$topic" -m "kept $qos"
        # A publisher of QoS 0 does not wait for the broker: repeat until the broker has read the message.
        until [ "$(sub -V $version -q 2 -t "$topic" -C 1 -F '%p')" = "kept $qos" ] ||
            [ $((tries += 1)) -gt 100 ]; do :; done
        check "$version retained, QoS $qos" "$qos 1 kept $qos" \
            "$(sub -V $version -q 2 -t "$topic" -C 1 -F '%q %r %p')"
    done
    pub -V $version -q 1 -r -t "$topic" -n
    sub -V $version -q 1 -t "$topic" -t "$topic/end" -C 1 > "$work/cleared" 2>/dev/null &
    reader=$!
    # Until the reader has subscribed, the end marker may come too early: it is retained, so it waits.
    pub -V $version -q 1 -r -t "$topic/end" -m end
    wait $reader
    check "$version retained, cleared" end "$(cat "$work/cleared")"
    pub -V $version -q 1 -r -t "$topic/end" -n

    topic="interop/$run/$version/will"
    listen -V $version -q 1 -t "$topic" -C 1
    stdbuf -oL mosquitto_sub -h "$host" -p "$port" -V $version -d -W 60 -t "$topic/none" \
        --will-topic "$topic" --will-payload gone --will-qos 1 > "$work/dying.$version" 2>&1 &
    dying=$!
    until_said Subscribed "$work/dying.$version" $dying
    kill -9 $dying
    wait $dying 2>/dev/null
    heard "$version Will" gone

    topic="interop/$run/$version/persistent"
    persistent=(-V $version -q 2 -t "$topic" -i "i$run$version" -c)
    if [ $version = mqttv5 ]; then persistent+=(-x 3600); fi
    listen "${persistent[@]}" -E
    wait "$listener"
    pub -V $version -q 1 -t "$topic" -m one
    pub -V $version -q 2 -t "$topic" -m two
    check "$version persistent session" "one two" "$(sub "${persistent[@]}" -C 2 | tr '\n' ' ' | sed 's/ $//')"
done

for from in mqttv31 mqttv311 mqttv5; do
    for to in mqttv31 mqttv311 mqttv5; do
        topic="interop/$run/mix/$from/$to"
        listen -V $to -q 2 -t "$topic" -C 1
        pub -V $from -q 2 -t "$topic" -m "$from $to"
        heard "from $from to $to" "$from $to"
    done
done

topic="interop/$run/properties"
listen -V mqttv5 -q 1 -t "$topic" -C 1 -F '%C %P %R %p'
pub -V mqttv5 -q 1 -t "$topic" -m x -D publish content-type text/plain \
    -D publish user-property b 1 -D publish user-property a 2 -D publish response-topic answers
heard "mqttv5 properties" "text/plain b:1 a:2 answers x"

exit $failed
