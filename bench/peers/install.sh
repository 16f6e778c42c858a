#!/usr/bin/env bash
# usage: bench/peers/install.sh [DIRECTORY] [rumqttd] [aedes]
# Installs the peers that `hrotti-bench compare` measures beside hrotti and that no distribution packages: rumqttd
# from crates.io (needs cargo) and aedes from npm (needs node 20 and npm), or those that are named. DIRECTORY is
# target/peers unless given: there hrotti-bench finds them by itself. mosquitto comes with the system:
# apt-get install mosquitto.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${CARGO_TARGET_DIR:-$here/../../target}/peers
case ${1:-} in '' | rumqttd | aedes) ;; *) directory=$1 && shift ;; esac
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
peers=("$@")
((${#peers[@]})) || peers=(rumqttd aedes)

for peer in "${peers[@]}"; do
    case $peer in
    rumqttd)
        # Not --locked: with its own lock file it does not compile with the Rust of today.
        cargo install rumqttd --version 0.20.0 --root "$directory"
        ;;
    aedes)
        mkdir -p "$directory/aedes"
        cp "$here"/aedes/{package.json,package-lock.json,server.mjs} "$directory/aedes/"
        npm ci --prefix "$directory/aedes" --omit=dev --ignore-scripts --no-audit --no-fund
        node "$directory/aedes/server.mjs" --version
        ;;
    *)
        echo "no peer $peer: rumqttd or aedes" >&2
        exit 1
        ;;
    esac
done
echo "the peers are in $directory"
