"""Where the code of a start comes from: the user's folder and installed packages, or what was pushed.

Both answer the same two questions: which class, and the hash that is in every command it causes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from skeet.agents.strategy_artefacts import MAIN_FILE, Artefact, fetch, unpack
from skeet.agents.strategy_guard import HOME
from skeet.agents.strategy_loading import code_version, load_strategy, user_folder
from skeet.config import Settings
from skeet.core.control import StrategyStarted
from skeet.core.strategy import Strategy
from skeet.schemas.codec import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """A reference and the folder it is looked up in; ``artefact`` is the hash of what was pushed, empty for the rest."""

    reference: str
    folder: Path
    artefact: str = ""

    def load(self) -> type[Strategy[Any]]:
        """The class; user's code runs here. A pushed strategy may import the files that were pushed with it.

        Raises
        ------
        InvalidInput
            see :func:`load_strategy`.
        """
        if not self.artefact:
            return load_strategy(self.reference, self.folder)
        name, colon, chosen = self.reference.partition(":")
        _forget(self.folder.parent)
        sys.path.insert(0, str(self.folder / name))
        return load_strategy(f"{name}/{MAIN_FILE}{colon}{chosen}", self.folder)

    def code_version(self, strategy: type[Strategy[Any]], parameters: BaseModel) -> str:
        """SHA-256 of sources and parameters; of a pushed strategy, of every file that was pushed."""
        own = code_version(strategy, parameters)
        return sha256(f"{self.artefact}\n{own}".encode()).hexdigest() if self.artefact else own


def _forget(root: Path) -> None:
    """Of what earlier artefacts brought, nothing is found again: their files have the names of the new ones."""
    sys.path[:] = [entry for entry in sys.path if not Path(entry).is_relative_to(root)]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(root):
            del sys.modules[name]


def unpacked(artefact: Artefact, reference: str, root: Path) -> Sources:
    """Write the artefact's files below ``root`` and look there."""
    folder = root / artefact.hash
    unpack(artefact, folder / reference.partition(":")[0])
    return Sources(reference=reference, folder=folder, artefact=artefact.hash)


def sources_of(settings: Settings, codec: Codec, started: StrategyStarted) -> Sources:
    """The sources of a start, for its process; what was pushed is fetched from the log and checked against its hash.

    Raises
    ------
    InvalidInput, DecodeError
        see :func:`fetch`.
    """
    if not started.artefact:
        return Sources(reference=started.strategy, folder=user_folder(settings))
    return unpacked(fetch(settings, codec, started.artefact), started.strategy, settings.data / HOME / "artefacts")
