#!/bin/sh
# Installs what building and testing Hutong needs and this machine lacks.
#
#   tools/setup.sh build    to build the program and run the demo
#   tools/setup.sh test     to run every test: also Java, Maven, PostgreSQL, Prometheus and Python
#
# On Debian and Ubuntu, as root, it installs the missing packages. Otherwise it says exactly what to
# install, and fails. Rust is never installed behind anyone's back. Nothing happens when nothing is missing.
set -eu
cd "$(dirname "$0")/.."

has() { command -v "$1" >/dev/null 2>&1; }

has_openssl() { has pkg-config && pkg-config --exists openssl; }

has_postgres() {
    { has initdb && has postgres; } || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

# Debian has Python's venv without the pip that it installs (ensurepip) in the main package.
has_venv() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# The same choice as the tests make.
java=${JAVA_HOME:+$JAVA_HOME/bin/java}
[ -x "$java" ] || java=java

has_java() {
    has "$java" || return 1
    version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ]
}

check_rust() {
    if ! has cargo; then
        cat >&2 <<'MESSAGE'
Rust is missing. Install it with rustup, then run make again:

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
    . "$HOME/.cargo/env"
MESSAGE
        exit 1
    fi
    # rust-toolchain.toml names the version; rustup may or may not fetch it by itself.
    if ! rust_complete "$1"; then
        channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
        if ! has rustup; then
            echo "Rust $channel with rustfmt and clippy is needed, as rustup installs it" >&2
            exit 1
        fi
        rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
    fi
}

rust_complete() {
    cargo --version >/dev/null 2>&1 || return 1
    [ "$1" = build ] || { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1
}

# Every package here is one that Debian 12 and later and Ubuntu 22.04 and later have under this name, but for
# `java`, which stands for what choose_java finds.
missing=
need() {
    if ! "$1" "$2"; then missing="$missing $3"; fi
}

need_build() {
    need has cc build-essential
    need has c++ build-essential # librdkafka's CMake project asks for a C++ compiler
    need has cmake cmake         # librdkafka
    need has pkg-config pkg-config
    need has_openssl - libssl-dev # librdkafka and curl, for TLS to brokers
}

need_test() {
    need has_java - java
    need has mvn maven
    need has_postgres - postgresql
    need has_venv - python3-venv
    need has promtool prometheus # the alerts, with the server that evaluates them
    need has openssl openssl # the certificates of the tests
}

# The default of Ubuntu 22.04 is Java 11, which Kafka does not take.
choose_java() {
    for package in openjdk-21-jre-headless openjdk-17-jre-headless; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
            return
        fi
    done
    echo default-jre-headless
}

# Prints the missing packages by their names here. The lists of packages have been fetched before.
named() {
    for package in $missing; do
        if [ "$package" = java ]; then choose_java; else echo "$package"; fi
    done | tr '\n' ' '
}

case "${1:-}" in
build) need_build ;;
test)
    need_build
    need_test
    ;;
*)
    echo "usage: tools/setup.sh build|test" >&2
    exit 2
    ;;
esac

check_rust "$1"

if [ -n "$missing" ]; then
    missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    if has apt-get && [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        missing=$(named)
        echo "installing $missing"
        # shellcheck disable=SC2086 # a list of packages
        apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends ca-certificates $missing
    elif has apt-get; then
        missing=$(named)
        echo "These packages are missing. Install them, then run make again:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
        exit 1
    else
        echo "What these packages of Debian hold is missing here (java: 17 or later). Install it, then run make again:" >&2
        echo "    $missing" >&2
        exit 1
    fi
fi

if [ "$1" = test ] && ! has_java; then
    echo "Java 17 or later is needed; JAVA_HOME or PATH has: $("$java" -version 2>&1 | head -n 1)" >&2
    exit 1
fi
