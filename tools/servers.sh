#!/bin/sh
# Fetches Apache Kafka, Apicurio Registry and a Connect converter, as tools/pom.xml names them, into target/servers.
# tools/setup.sh has been run before.
set -eu
cd "$(dirname "$0")/.."

# What an older pom.xml fetched must not stay in the class path.
rm -rf target/servers
echo "fetching Kafka, Apicurio and a Connect converter from Maven Central"
for profile in servers connect; do
    mvn -q -B -Dmaven.wagon.http.retryHandler.count=3 -f tools/pom.xml -P "$profile" generate-resources
done
