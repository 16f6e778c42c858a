#!/usr/bin/env bash
# Compares the topics below $SYS/broker/ of the program with those of mosquitto: every name that mosquitto publishes is
# published here, and each value is a number, or a text of the same form.
#
#   interop/sys_topics.sh WORK_DIRECTORY
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1
suite='$SYS'
PATH=$PATH:/usr/sbin
. "$here/program.sh"

peer=
finish() {
    if [ -n "$peer" ]; then kill -KILL "$peer" 2> /dev/null; fi
    kill_started
}
trap finish EXIT

# topics PORT FILE: what is retained below $SYS/, one topic and its value in a line.
topics() {
    timeout 10 mosquitto_sub -h 127.0.0.1 -p "$1" -V mqttv311 -i dashboard -W 3 --retained-only -F '%t\t%p' -t '$SYS/#' | sort > "$2"
}

# form VALUE: what a reader has to parse.
form() {
    case $1 in
        *' seconds') echo 'seconds' ;;
        *' version '*) echo 'version' ;;
        *[!0-9.]*) echo "other: $1" ;;
        *.*) echo 'decimal' ;;
        *) echo 'whole' ;;
    esac
}

echo '{"listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}}, "sysIntervalSecs": 1}' > "$work/sys.json"
start_program "$work/sys.json" "$work/sys.log"
ours=$(port_of tcp "$work/sys.log")
theirs=$(free_ports 1)
printf 'listener %s 127.0.0.1\nallow_anonymous true\nsys_interval 1\n' "$theirs" > "$work/mosquitto-sys.conf"
mosquitto -c "$work/mosquitto-sys.conf" > "$work/mosquitto-sys.log" 2>&1 &
peer=$!
waits_for 10 bash -c "exec 3<> /dev/tcp/127.0.0.1/$theirs"

# The same load: mosquitto publishes a number only when it has changed from 0.
for port in "$ours" "$theirs"; do
    for number in 1 2 3; do
        mosquitto_pub -h 127.0.0.1 -p "$port" -V mqttv311 -t "load/$number" -m "message $number" -q 1
    done
    mosquitto_sub -h 127.0.0.1 -p "$port" -V mqttv311 -i away -c -q 1 -t 'load/#' -E
    mosquitto_pub -h 127.0.0.1 -p "$port" -V mqttv311 -t load/away -m waits -q 1 -r
done
sleep 3
topics "$ours" "$work/ours.txt"
topics "$theirs" "$work/theirs.txt"

check 'mosquitto publishes its topics' yes "$([ "$(wc -l < "$work/theirs.txt")" -gt 30 ] && echo yes)"
missing=$(comm -13 <(cut -f 1 "$work/ours.txt") <(cut -f 1 "$work/theirs.txt"))
check 'every topic of mosquitto is published' '' "$missing"
odd=
while IFS=$'\t' read -r topic value; do
    own=$(grep -F "$topic"$'\t' "$work/ours.txt" | cut -f 2)
    [ "$(form "$own")" = "$(form "$value")" ] || odd+="$topic: $value and $own; "
done < "$work/theirs.txt"
check 'every value has the form of mosquitto' '' "$odd"

# Numbers that the same load makes the same. What both count differently is left out.
for name in clients/total clients/connected clients/disconnected publish/bytes/received bytes/received messages/received messages/sent \
    'retained messages/count'; do
    value() { grep -F "\$SYS/broker/$name"$'\t' "$1" | cut -f 2; }
    case $name in
        # mosquitto counts its own topics among the retained messages.
        retained*) check "$name counts the messages of clients" 1 "$(value "$work/ours.txt")" ;;
        *) check "$name is that of mosquitto" "$(value "$work/theirs.txt")" "$(value "$work/ours.txt")" ;;
    esac
done
stop_program
exit "$failed"
