#!/usr/bin/env bash
# admin.sh WORK: the admin listener of the program as other programs see it. promtool reads the metrics, and schemathesis
# sends requests that it makes from the description of the interface: no answer is a server error, and each is as
# described. WORK/venv has schemathesis.
set -u

work=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=admin
. "$here/program.sh"
trap kill_started EXIT

umask 077
printf 'interop-%s-%s\n' "$RANDOM$RANDOM" "$RANDOM$RANDOM" > "$work/admin.token"
cat > "$work/admin.json" << 'JSON'
{
    "listeners": {"tcp": {"url": "tcp://127.0.0.1:0"}},
    "admin": {"tokenFile": "admin.token", "url": "http://127.0.0.1:0"}
}
JSON
"$debug/hrotti" -conf "$work/admin.json" > "$work/admin.log" 2>&1 &
broker=$!
started+=("$broker")
waits_for 60 grep -q '^admin: ' "$work/admin.log" || { echo "failed $suite: it does not start"; cat "$work/admin.log"; exit 1; }
url=$(sed -n 's/^admin: //p' "$work/admin.log")
token=$(cat "$work/admin.token")
bearer="Authorization: Bearer $token"

check 'livez' ok "$(curl -s "$url/livez")"
check 'readyz' ready "$(curl -s "$url/readyz")"
check 'no token, no metrics' 401 "$(curl -s -o /dev/null -w '%{http_code}' "$url/metrics")"
curl -s -H "$bearer" "$url/metrics" > "$work/metrics.txt"
check 'promtool finds nothing to complain of' '' "$(promtool check metrics < "$work/metrics.txt" 2>&1)"
check 'OpenMetrics end with their mark' '# EOF' \
    "$(curl -s -H "$bearer" -H 'Accept: application/openmetrics-text' "$url/metrics" | tail -1)"

# Streams of events have no end, which schemathesis would wait for. Without a listener, which it would stop, /readyz answers
# 503, as it should.
(cd "$work" && timeout 800 "$work/venv/bin/st" run "$url/api/v1/openapi.json" -H "$bearer" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --exclude-path-regex '/api/v1/(live|events|tail|listeners/[^/]*/stop)$' --max-examples 25 --seed 1 --suppress-health-check all \
    --generation-database none --request-timeout 20 --warnings off --no-color > "$work/schemathesis.log" 2>&1)
came=$?
check "schemathesis, $(grep -oE '[0-9]+ generated, [0-9]+ passed' "$work/schemathesis.log")" 0 $came
[ $came -eq 0 ] || tail -n 60 "$work/schemathesis.log"

check 'it lives after that' ok "$(curl -s "$url/livez")"
check 'the token is in no log' 0 "$(grep -c "$token" "$work/admin.log")"
stop_program
exit $failed
