"""The source of a schema's decoding kernel, written from its plan: straight-line code, one statement per column.

A kernel walks the records one after the other. ``p`` is where it stands in the buffer and becomes ``FAIL`` when something is
unusual; a record is good when the walk ends exactly at its end, and only then are the items of its lists kept. A record that
is not good leaves its row undefined and is marked.
"""

from __future__ import annotations

from collections.abc import Iterator

from skeet.schemas.columns.plan import KEY, Field, Kind, Plan, Table

NAMES = (
    "FAIL", "has_repeated_key", "open_record", "read_boolean", "read_bytes", "read_count", "read_decimal", "read_double",
    "read_index", "read_long", "read_text",
)  # fmt: skip
FIXED = ("buffer", "starts", "lengths", "schema_id", "trusted_from", "marks", "counts")
"""Arguments of every kernel: the bytes; where records start and how long they are; the id that they must have; where in the
buffer records begin that our own codec wrote; a byte per record, 0 when it is good; rows of each table."""


def arguments(plan: Plan) -> tuple[str, ...]:
    """Names of the kernel's arguments after the fixed ones: four arrays of each intern table, then the tables' blocks."""
    keyed = (f"{name}_{part}" for name in plan.keyed for part in ("places", "pool", "ends", "counts"))
    return (*keyed, *blocks(plan))


def blocks(plan: Plan) -> tuple[str, ...]:
    """Names of the blocks, table by table."""
    return tuple(f"t{table.number}_{block}" for table in plan.tables for block in table.blocks)


def decoder_source(plan: Plan, *, hot: bool) -> str:
    """The module's text; its function is ``decode`` and returns how many records are not good.

    ``hot`` kernels contain what they would else call.
    """
    names = ", ".join(NAMES)
    if hot:
        imports = (
            f"from skeet.schemas.columns.keying import read_keyed\nfrom skeet.schemas.columns.reading import {names}"
        )
    else:
        imports = f"from skeet.schemas.columns.called import read_keyed, {names}"
    return f"{imports}\n\n\n" + "\n".join(_decode(plan)) + "\n"


def _decode(plan: Plan) -> Iterator[str]:
    lists = [table.number for table in plan.tables[1:]]
    yield f"def decode({', '.join((*FIXED, *arguments(plan)))}):"
    yield f"    # {plan.name}"
    yield "    bad = 0"
    yield from (f"    kept{number} = 0" for number in lists)
    yield "    for r0 in range(starts.size):"
    yield "        trusted = starts[r0] >= trusted_from"
    yield "        p, end = open_record(buffer, starts[r0], lengths[r0], schema_id, trusted)"
    yield from (f"        r{number} = kept{number}" for number in lists)
    yield from _table(plan, plan.tables[0], " " * 8)
    yield "        marks[r0] = p != end"
    yield "        if p != end:"
    yield "            bad += 1"
    yield "            continue"
    yield from (f"        kept{number} = r{number}" for number in lists)
    yield from (f"    counts[{number}] = kept{number}" for number in lists)
    yield "    return bad"


def _table(plan: Plan, table: Table, indent: str) -> Iterator[str]:
    for field in table.fields:
        if field.optional:
            yield from _optional(plan, table, field, indent)
        else:
            yield from _field(plan, table, field, indent)


def _optional(plan: Plan, table: Table, field: Field, indent: str) -> Iterator[str]:
    yield f"{indent}there, p = read_index(buffer, p, end, 2)"
    yield f"{indent}t{table.number}_flags[{field.flag_at}, r{table.number}] = there"
    yield f"{indent}if there:"
    yield from _field(plan, table, field, indent + "    ")
    yield f"{indent}else:"
    yield from (f"{indent}    {target} = 0" for target in _targets(table, field))


def _targets(table: Table, field: Field) -> list[str]:
    return [f"t{table.number}_{block}[{row}, r{table.number}]" for block, row in field.parts]


def _field(plan: Plan, table: Table, field: Field, indent: str) -> Iterator[str]:
    if field.kind in (Kind.LIST, Kind.MAP):
        yield from _list(plan, table, field, indent)
    else:
        yield f"{indent}{', '.join(_targets(table, field))}, p = {_reader(field)}"


def _reader(field: Field) -> str:
    match field.kind:
        case Kind.ENUM:
            return f"read_index(buffer, p, end, {len(field.symbols)})"
        case Kind.TEXT if field.keyed:
            parts = ", ".join(f"{field.name}_{part}" for part in ("places", "pool", "ends", "counts"))
            return f"read_keyed(buffer, p, end, {parts})"
        case kind:
            return f"read_{kind.name.lower()}(buffer, p, end)"


def _list(plan: Plan, table: Table, field: Field, indent: str) -> Iterator[str]:
    child = plan.tables[field.child]
    rows, first = f"r{child.number}", f"first{child.number}"
    room = f"t{child.number}_{child.blocks[0]}.shape[1] - {rows}"
    yield f"{indent}{first} = {rows}"
    yield f"{indent}while True:"
    yield f"{indent}    count, p = read_count(buffer, p, end, {child.least_bytes}, {room})"
    yield f"{indent}    if count == 0:"
    yield f"{indent}        break"
    yield f"{indent}    for _ in range(count):"
    yield from _table(plan, child, indent + " " * 8)
    yield f"{indent}        {rows} += 1"
    if field.kind is Kind.MAP:
        key = next(column for column in child.fields if column.name == KEY)
        starts, lengths = f"t{child.number}_longs[{key.at['longs']}]", f"t{child.number}_ints[{key.at['ints']}]"
        yield f"{indent}if p != FAIL and not trusted and has_repeated_key(buffer, {starts}, {lengths}, {first}, {rows}):"
        yield f"{indent}    p = FAIL"
    yield f"{indent}{_targets(table, field)[0]} = {rows}"
