"""What an installation has stored on its embedded broker, and changing that while it does not run.

So pictures show what takes days to come about, or a disk that damages: the services meet it as they would meet the real thing.
"""
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro

SCHEMAS = Path(__file__).parents[3] / "schemas"
# Where a record's offset ends and its partition begins, in its id.
OFFSET_BITS = 40
# A zero byte and the schema's id.
HEAD_BYTES = 5


def change(site: Path, topic: str, change: Callable[[bytes], bytes], last: int = 1) -> int:
    """Changes the last records of a topic's partitions; says how many there were."""
    with closing(sqlite3.connect(site / "broker.db")) as database:
        found = "SELECT partition_id FROM partitions JOIN topics USING (topic_id) WHERE name = ?"
        partitions = [row[0] for row in database.execute(found, (topic,))]
        changed = 0
        for partition in partitions:
            ids = (partition << OFFSET_BITS, (partition + 1) << OFFSET_BITS)
            records = database.execute(
                "SELECT id, value FROM records WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?", (*ids, last)
            ).fetchall()
            for record, value in records:
                database.execute("UPDATE records SET value = ? WHERE id = ?", (change(value), record))
            changed += len(records)
        database.commit()
        return changed


def edited(schema: str, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[bytes], bytes]:
    """A change of a record's fields."""
    parsed = fastavro.parse_schema(json.loads((SCHEMAS / f"{schema}.avsc").read_text(encoding="utf-8")))

    def change(value: bytes) -> bytes:
        record = fastavro.schemaless_reader(io.BytesIO(value[HEAD_BYTES:]), parsed)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, {**record, **edit(record)})
        return value[:HEAD_BYTES] + body.getvalue()

    return change
