"""Reads a topic as a stranger would: read_topic.py BROKERS REGISTRY TOPIC COUNT

Knows Kafka, the registry and Avro, and nothing of Hutong. Waits for COUNT records, and looks whether more come.
Prints one JSON object a record, with key and value as confluent-kafka's Avro deserializer returns them: fields in
the order of the schema, and what JSON has no type for as {"date": ...}, {"decimal": ...} and so on.
`java` is the partition that a client which partitions as Java does would have chosen for the key's bytes.
"""

import datetime
import decimal
import json
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

BROKERS, REGISTRY, TOPIC, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PATIENCE_SECONDS = 60
# What comes after the last record that is waited for comes soon.
SILENCE_SECONDS = 1.0
# A number without limit keeps all of its digits.
decimal.getcontext().prec = 1000


def plain(value):
    if isinstance(value, dict):
        if list(value) == ["scale", "value"]:  # io.debezium.data.VariableScaleDecimal
            number = decimal.Decimal(int.from_bytes(value["value"], "big", signed=True))
            return {"numeric": f"{number.scaleb(-value['scale']):f}"}
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime.datetime):
        return {"timestamp": value.isoformat(timespec="microseconds")}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"time": value.isoformat(timespec="microseconds")}
    if isinstance(value, decimal.Decimal):
        return {"decimal": f"{value:f}"}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return value


def records():
    consumer = Consumer({
        "bootstrap.servers": BROKERS,
        "group.id": f"stranger-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    })
    # A topic that is not there yet is waited for as well.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (partitions := consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions):
        if time.monotonic() > deadline:
            sys.exit(f"there is no topic {TOPIC}")
        time.sleep(0.2)
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in partitions])
    found = []
    while True:
        message = consumer.poll(SILENCE_SECONDS if len(found) >= COUNT else 0.2)
        if message is not None and message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
        elif message is not None:
            found.append(message)
        elif len(found) >= COUNT:
            consumer.close()
            return found, len(partitions)
        elif time.monotonic() > deadline:
            sys.exit(f"{len(found)} records of {TOPIC} came, {COUNT} were waited for")


def java_partitions(keys, count):
    """Lets librdkafka's own partitioner choose, by writing the keys into a topic as wide."""
    topic = f"stranger-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": BROKERS})
    admin.create_topics([NewTopic(topic, count, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": BROKERS, "partitioner": "murmur2_random"})
    chosen = {}

    def delivered(error, message):
        if error:
            sys.exit(str(error))
        chosen[message.key()] = message.partition()

    for key in set(keys):
        producer.produce(topic, key=key, value=b"", on_delivery=delivered)
    producer.flush()
    return chosen


messages, width = records()
java = java_partitions([message.key() for message in messages if message.key() is not None], width)
deserialize = AvroDeserializer(SchemaRegistryClient({"url": REGISTRY}))
for message in messages:
    print(json.dumps({
        "partition": message.partition(),
        "offset": message.offset(),
        "java": java.get(message.key()),
        "key": plain(deserialize(message.key(), SerializationContext(TOPIC, MessageField.KEY))),
        "value": plain(deserialize(message.value(), SerializationContext(TOPIC, MessageField.VALUE))),
    }, ensure_ascii=False))
