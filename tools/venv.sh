#!/bin/sh
# Makes target/venv: the Python in which the tests run an independent Kafka client.
# tools/setup.sh has been run before.
set -eu
cd "$(dirname "$0")/.."

rm -rf target/venv
echo "installing tools/requirements.txt into target/venv"
python3 -m venv target/venv
target/venv/bin/python -m pip install -q --disable-pip-version-check --only-binary :all: -r tools/requirements.txt
