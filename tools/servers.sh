#!/bin/sh
# Fetches Apache Kafka and Apicurio Registry, as tools/pom.xml names them, into target/servers.
# tools/setup.sh has been run before.
set -eu
cd "$(dirname "$0")/.."

# What an older pom.xml fetched must not stay in the class path.
rm -rf target/servers
echo "fetching Kafka and Apicurio from Maven Central"
mvn -q -B -Dmaven.wagon.http.retryHandler.count=3 -f tools/pom.xml generate-resources
