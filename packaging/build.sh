#!/usr/bin/env bash
# Builds the Debian package: packaging/build.sh, on Debian, with cargo-deb (cargo install cargo-deb --locked).
#
# The package is written to target/debian. Exit code: 0 when it is there, 3 when cargo-deb is not, else that of what failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v cargo-deb >/dev/null || { echo 'cargo-deb is not installed: cargo install cargo-deb --locked' >&2; exit 3; }
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --bin hrotti
made=target/packaging
mkdir -p "$made"
program=$target/release/hrotti
"$program" manual >"$made/hrotti.1"
"$program" completions bash >"$made/hrotti.bash"
"$program" completions zsh >"$made/_hrotti"
"$program" completions fish >"$made/hrotti.fish"
cargo deb --no-build --locked --strip
