"""Drives a schema registry with confluent-kafka's own client: registry.py URL confluent|apicurio

The expected answers are those of Confluent's API reference. Where Apicurio gives another one, it stands in
APICURIO below: that exact answer is expected of it, and any other deviation fails.
"""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

URL, FLAVOUR = sys.argv[1], sys.argv[2]
TOPIC = "gongan.python_client.v1"
SUBJECT = TOPIC + "-value"

# The answers of Apicurio 3.0.9 that are not Confluent's. Hutong sets each subject's level and needs none of them.
APICURIO = {
    "the global level": "NONE",  # there is no rule until somebody sets one
    "no level of its own": "NONE",  # it falls back to the global one, as with defaultToGlobal
    "set the level": {"compatibilityLevel": "FULL_TRANSITIVE"},
    "an unknown level": (500, 0),
    "permanent without soft": (409, 40405),
}


def expected(question, confluent):
    return APICURIO.get(question, confluent) if FLAVOUR == "apicurio" else confluent


def answer(call):
    """Returns what the registry answers: the value, or the error's HTTP status and code."""
    try:
        return call()
    except SchemaRegistryError as error:
        return (error.http_status_code, error.error_code)


wrong = []


def check(question, got, confluent):
    wanted = expected(question, confluent)
    if got != wanted:
        wrong.append(f"{question}: {got!r} instead of {wanted!r}")


def avro(*fields):
    record = {"type": "record", "name": "R", "namespace": "gongan.python_client.v1", "fields": list(fields)}
    return Schema(json.dumps(record), "AVRO")


NAME = {"name": "xm", "type": "string"}
BORN = {"name": "csrq", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None}
COUNT = {"name": "n", "type": "int"}

client = SchemaRegistryClient({"url": URL})

# Nothing is there yet.
check("subjects before", SUBJECT in client.get_subjects(), False)
check("versions of an unknown subject", answer(lambda: client.get_versions(SUBJECT)), (404, 40401))
check("latest of an unknown subject", answer(lambda: client.get_latest_version(SUBJECT)), (404, 40401))
check("lookup in an unknown subject", answer(lambda: client.lookup_schema(SUBJECT, avro(NAME))), (404, 40401))
check("delete of an unknown subject", answer(lambda: client.delete_subject(SUBJECT)), (404, 40401))
check("an unknown id", answer(lambda: client.get_schema(987654)), (404, 40403))

# Register, and find again.
first = client.register_schema(SUBJECT, avro(NAME))
check("an id is a positive number", first > 0, True)
check("the same schema again", client.register_schema(SUBJECT, avro(NAME)), first)
check("normalized", client.register_schema(SUBJECT, avro(NAME), normalize_schemas=True), first)
check("by id", json.loads(client.get_schema(first).schema_str), json.loads(avro(NAME).schema_str))
check("subjects", SUBJECT in client.get_subjects(), True)
found = client.lookup_schema(SUBJECT, avro(NAME))
check("lookup", (found.schema_id, found.version, found.subject), (first, 1, SUBJECT))
check("lookup of another schema", answer(lambda: client.lookup_schema(SUBJECT, avro(COUNT))), (404, 40403))
check("an invalid schema", answer(lambda: client.register_schema(SUBJECT, Schema("{", "AVRO"))), (422, 42201))

# Compatibility.
check("the global level", client.get_compatibility(), "BACKWARD")
check("no level of its own", answer(lambda: client.get_compatibility(SUBJECT)), (404, 40408))
check("set the level", client.set_compatibility(SUBJECT, "FULL_TRANSITIVE"), {"compatibility": "FULL_TRANSITIVE"})
check("the level", client.get_compatibility(SUBJECT), "FULL_TRANSITIVE")
check("an unknown level", answer(lambda: client.set_compatibility(SUBJECT, "SIDEWAYS")), (422, 42203))
check("test: compatible", client.test_compatibility(SUBJECT, avro(NAME, BORN)), True)
check("test: incompatible", client.test_compatibility(SUBJECT, avro(NAME, COUNT)), False)
refused = answer(lambda: client.register_schema(SUBJECT, avro(NAME, COUNT)))
check("register an incompatible schema", refused, (409, 409))
second = client.register_schema(SUBJECT, avro(NAME, BORN))
check("another schema has another id", second != first, True)
check("versions", client.get_versions(SUBJECT), [1, 2])
latest = client.get_latest_version(SUBJECT)
check("latest", (latest.schema_id, latest.version), (second, 2))
check("version 1", client.get_version(SUBJECT, 1).schema_id, first)
check("an unknown version", answer(lambda: client.get_version(SUBJECT, 9)), (404, 40402))

# A round trip through what users write.
context = SerializationContext(TOPIC, MessageField.VALUE)
framed = AvroSerializer(client, avro(NAME, BORN))({"xm": "测试乙", "csrq": None}, context)
check("framing", (framed[0], int.from_bytes(framed[1:5], "big")), (0, second))
check("round trip", AvroDeserializer(SchemaRegistryClient({"url": URL}))(framed, context), {"xm": "测试乙", "csrq": None})

# Soft delete: gone from the lists, still there by its id, and its number is not used again.
check("delete a version", client.delete_version(SUBJECT, 2), 2)
check("versions after", client.get_versions(SUBJECT), [1])
check("the deleted version", answer(lambda: client.get_version(SUBJECT, 2)), (404, 40402))
kept = answer(lambda: json.loads(SchemaRegistryClient({"url": URL}).get_schema(second).schema_str))
check("a deleted version by id", kept, json.loads(avro(NAME, BORN).schema_str))
check("delete a subject", client.delete_subject(SUBJECT), [1])
check("subjects after", SUBJECT in client.get_subjects(), False)
check("subjects with deleted ones", SUBJECT in client.get_subjects(deleted=True), True)
check("versions of a deleted subject", answer(lambda: client.get_versions(SUBJECT)), (404, 40401))
check("delete twice", answer(lambda: client.delete_subject(SUBJECT)), (404, 40404))

# Permanent delete, only after the soft one.
other = SUBJECT.replace("-value", "-key")
client.register_schema(other, avro(NAME))
check("permanent without soft", answer(lambda: client.delete_subject(other, permanent=True)), (404, 40405))
client.delete_subject(other)
check("permanent", answer(lambda: client.delete_subject(other, permanent=True)), [1])
check("subjects with deleted ones, after", other in client.get_subjects(deleted=True), False)
check("permanent of all versions", answer(lambda: client.delete_subject(SUBJECT, permanent=True)), [1, 2])

if wrong:
    sys.exit("\n".join([f"{FLAVOUR} at {URL}:", *wrong]))
print("ok")
