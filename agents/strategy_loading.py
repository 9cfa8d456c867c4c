"""Finding a strategy's class, checking its parameters, and naming its code.

A reference is ``module:Class``, ``path/to/file.py:Class`` (relative to the user's folder), the name of an entry point of the
group ``skeet.strategies``, the name of one that ships, or the name of a file in the user's folder that holds exactly one
strategy.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.strategy import Strategy

ENTRY_POINTS = "skeet.strategies"
SHIPPED = {
    "ema-cross": "skeet.strategies.ema_cross:EmaCross",
    "market-maker": "skeet.strategies.market_maker:MarketMaker",
}


def user_folder(settings: Settings) -> Path:
    """The folder of the user's own strategies."""
    return settings.strategies_dir or settings.data / "strategies"


def load_strategy(reference: str, folder: Path) -> type[Strategy[Any]]:
    """The class that the reference names.

    Raises
    ------
    InvalidInput
        nothing is found under it, it does not import, or it is no strategy.
    """
    target = SHIPPED.get(reference) or _entry_point(reference) or reference
    place, _, name = target.partition(":")
    try:
        module = _module(place, folder)
    except InvalidInput:
        raise
    except Exception as error:  # a user's file may raise anything while it is imported
        raise InvalidInput(
            f"strategy {reference!r}: {place} does not import: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None) if name else _only_strategy(module, reference)
    if not (inspect.isclass(found) and issubclass(found, Strategy)):
        raise InvalidInput(
            f"strategy {reference!r}: {place} has no subclass of skeet.core.strategy.Strategy named {name!r}"
        )
    return found


def parse_parameters(strategy: type[Strategy[Any]], given: Mapping[str, Any] | str) -> BaseModel:
    """The strategy's parameters, checked. ``given`` is a mapping (values may be text) or a JSON object.

    Raises
    ------
    InvalidInput
        names the parameter, what it was, and what is expected.
    """
    model: type[BaseModel] = strategy.Parameters
    try:
        return model.model_validate_json(given) if isinstance(given, str) else model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields)
        raise InvalidInput(
            f"parameter {name!r} is {first.get('input')!r}: {first['msg']}; {strategy.__name__} takes {known}"
        ) from error


def code_version(strategy: type[Strategy[Any]], parameters: BaseModel) -> str:
    """SHA-256 over the sources of the class and its bases, the parameters' model, and the parameters."""
    digest = sha256()
    classes = (*inspect.getmro(strategy), *inspect.getmro(type(parameters)))
    files = {cls.__module__: inspect.getsourcefile(cls) for cls in classes if _counts(cls)}
    for module, file in sorted(files.items()):
        digest.update(f"{module}\n".encode())
        digest.update(Path(file).read_bytes() if file else b"")
    digest.update(json.dumps(parameters.model_dump(mode="json"), sort_keys=True).encode())
    return digest.hexdigest()


def _counts(cls: type[Any]) -> bool:
    """Classes of the language and of pydantic are not the strategy's code."""
    return cls.__module__.partition(".")[0] not in ("builtins", "typing", "pydantic", "abc")


def _entry_point(reference: str) -> str:
    found = [point.value for point in entry_points(group=ENTRY_POINTS) if point.name == reference]
    return found[0] if found else ""


def _module(place: str, folder: Path) -> ModuleType:
    if place.endswith(".py"):
        return _from_file(Path(place) if Path(place).is_absolute() else folder / place)
    for candidate in (folder / f"{place}.py", folder / place / "strategy.py"):
        if candidate.is_file():
            return _from_file(candidate)
    if importlib.util.find_spec(place.partition(".")[0]) is None:
        known = ", ".join(SHIPPED)
        raise InvalidInput(f"strategy {place!r} is no module, no file in {folder}, and none of {known}")
    return importlib.import_module(place)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidInput(f"strategy file {path} does not exist; `skeet strategy new NAME` writes one")
    name = f"skeet_user_{path.parent.name}_{path.stem}" if path.stem == "strategy" else f"skeet_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"strategy file {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _only_strategy(module: ModuleType, reference: str) -> type[Strategy[Any]]:
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise InvalidInput(
            f"strategy {reference!r}: {module.__name__} holds {len(own)} strategies; name one with :Class"
        )
    return own[0]
