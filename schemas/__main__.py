"""``python -m skeet.schemas`` writes the Avro schema of every event class into ``avsc/``, and golden files of new versions."""

import sys
from pathlib import Path

from skeet.schemas import golden
from skeet.schemas.catalogue import EVENTS, full_name, rendered_schema


def main() -> None:
    folder = Path(__file__).resolve().parent / "avsc"
    folder.mkdir(exist_ok=True)
    for event_class in EVENTS:
        (folder / f"{full_name(event_class)}.avsc").write_text(rendered_schema(event_class))
    if "--golden" in sys.argv[1:]:
        golden.write_missing()


if __name__ == "__main__":
    main()
