"""A member of a consumer group, run as a program by the watchdog's tests: BROKER TOPIC GROUP SECONDS-PER-RECORD."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer


def main(bootstrap: str, topic: str, group: str, seconds: float) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([topic])
    Path(os.environ["SKEET_READY_FILE"]).write_text("")
    while True:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            time.sleep(seconds)  # its work
            consumer.commit(message, asynchronous=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
