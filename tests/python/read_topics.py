#!/usr/bin/env python3
"""Reads every record of every topic with fastavro, from nothing but the files in schemas/.

usage: read_topics.py BOOTSTRAP [--schemas DIR] [TOPIC…]

Prints one JSON object for each topic: its name, its records, and how many of each record type. Ends with 1 where a
record cannot be read. Topics of dead letters are left out: they hold what could not be decoded.
"""
import argparse
import collections
import hashlib
import io
import json
import pathlib
import sys

import confluent_kafka
import fastavro


def schemas_by_id(directory):
    """The id of a schema is the first 31 bits of the SHA-256 of its Parsing Canonical Form."""
    found = {}
    for path in sorted(directory.glob("*.avsc")):
        schema = json.loads(path.read_text())
        canonical = fastavro.schema.to_parsing_canonical_form(schema)
        digest = hashlib.sha256(canonical.encode()).digest()
        found[int.from_bytes(digest[:4], "big") & 0x7FFFFFFF] = (path.stem, fastavro.parse_schema(schema))
    return found


def decode(known, value):
    if value[0] != 0:
        raise ValueError(f"first byte {value[0]}, not 0")
    schema_id = int.from_bytes(value[1:5], "big")
    if schema_id not in known:
        raise ValueError(f"unknown schema id {schema_id}")
    name, schema = known[schema_id]
    datum = io.BytesIO(value[5:])
    fastavro.schemaless_reader(datum, schema)
    if datum.read():
        raise ValueError("bytes follow the datum")
    return name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topics", nargs="*")
    parser.add_argument("--schemas", type=pathlib.Path, default=pathlib.Path("schemas"))
    arguments = parser.parse_args()
    known = schemas_by_id(arguments.schemas)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": arguments.bootstrap, "group.id": "read-topics", "enable.auto.commit": False,
        "enable.partition.eof": True, "isolation.level": "read_committed",
    })
    described = consumer.list_topics(timeout=20).topics
    wanted = arguments.topics or sorted(
        name for name in described if not name.startswith("__") and not name.endswith(".dead-letter"))
    bad = 0
    for topic in wanted:
        partitions = [confluent_kafka.TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING)
                      for number in described[topic].partitions]
        consumer.assign(partitions)
        open_partitions = len(partitions)
        types = collections.Counter()
        while open_partitions:
            message = consumer.poll(20)
            if message is None:
                sys.exit(f"{topic}: no answer from the broker within 20 s")
            if message.error():
                if message.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                    sys.exit(f"{topic}: {message.error()}")
                open_partitions -= 1
            elif message.value() is not None:
                try:
                    types[decode(known, message.value())] += 1
                except Exception as error:
                    bad += 1
                    if bad <= 10:
                        print(f"{topic} {message.partition()} {message.offset()}: {error}", file=sys.stderr)
        print(json.dumps({"topic": topic, "records": sum(types.values()), "types": types}))
    consumer.close()
    sys.exit(1 if bad else 0)


main()
