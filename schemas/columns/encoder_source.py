"""The source of a schema's encoding kernel, written from its plan: straight-line code, one statement per column.

``q`` is where the kernel stands in the output and becomes ``FAIL`` when a value cannot be written; it stops at that record.
"""

from __future__ import annotations

from collections.abc import Iterator

from skeet.schemas.columns.plan import Field, Kind, Plan, Table

NAMES = (
    "list_begin", "write_boolean", "write_bytes", "write_decimal", "write_double", "write_header", "write_index",
    "write_long", "write_text",
)  # fmt: skip
FIXED = ("out", "starts", "lengths", "schema_id", "buffer")
"""Arguments of every kernel: where records are written; where each starts there and how long it is, set by the kernel; the id
that they are given; the bytes that texts are copied from. The tables' blocks follow."""


def encoder_source(plan: Plan, *, hot: bool) -> str:
    """The module's text; its function is ``encode`` and returns how many records it wrote before it had to stop.

    ``hot`` kernels contain what they would else call.
    """
    imports = f"from skeet.schemas.columns.{'writing' if hot else 'called'} import {', '.join(NAMES)}"
    return f"from skeet.schemas.columns.reading import FAIL\n{imports}\n\n\n" + "\n".join(_encode(plan)) + "\n"


def _encode(plan: Plan) -> Iterator[str]:
    blocks = (f"t{table.number}_{block}" for table in plan.tables for block in table.blocks)
    yield f"def encode({', '.join((*FIXED, *blocks))}):"
    yield f"    # {plan.name}"
    yield "    q = 0"
    yield "    for r0 in range(starts.size):"
    yield "        begin = q"
    yield "        q = write_header(out, q, schema_id)"
    yield from _table(plan, plan.tables[0], " " * 8)
    yield "        if q == FAIL:"
    yield "            return r0"
    yield "        starts[r0], lengths[r0] = begin, q - begin"
    yield "    return starts.size"


def _table(plan: Plan, table: Table, indent: str) -> Iterator[str]:
    for field in table.fields:
        if field.optional:
            flag = f"t{table.number}_flags[{field.flag_at}, r{table.number}]"
            yield f"{indent}q = write_index(out, q, {flag}, 2)"
            yield f"{indent}if {flag}:"
            yield from _field(plan, table, field, indent + "    ")
        else:
            yield from _field(plan, table, field, indent)


def _field(plan: Plan, table: Table, field: Field, indent: str) -> Iterator[str]:
    parts = ", ".join(f"t{table.number}_{block}[{row}, r{table.number}]" for block, row in field.parts[-2:])
    match field.kind:
        case Kind.LIST | Kind.MAP:
            yield from _list(plan, table, field, indent)
        case Kind.ENUM:
            yield f"{indent}q = write_index(out, q, {parts}, {len(field.symbols)})"
        case Kind.TEXT | Kind.BYTES:
            yield f"{indent}q = write_{field.kind.name.lower()}(out, q, buffer, {parts})"
        case kind:
            yield f"{indent}q = write_{kind.name.lower()}(out, q, {parts})"


def _list(plan: Plan, table: Table, field: Field, indent: str) -> Iterator[str]:
    child = plan.tables[field.child]
    rows, first, last = f"r{child.number}", f"first{child.number}", f"last{child.number}"
    ends = f"t{table.number}_{field.parts[0][0]}[{field.parts[0][1]}]"
    yield f"{indent}{last} = {ends}[r{table.number}]"
    yield f"{indent}{first} = list_begin({ends}, r{table.number}, t{child.number}_{child.blocks[0]}.shape[1])"
    yield f"{indent}if {first} == FAIL:"
    yield f"{indent}    q, {last} = FAIL, 0"
    yield f"{indent}elif {first} < {last}:"
    yield f"{indent}    q = write_long(out, q, {last} - {first})"
    yield f"{indent}for {rows} in range({first}, {last}):"
    yield from _table(plan, child, indent + "    ")
    yield f"{indent}q = write_long(out, q, 0)"
