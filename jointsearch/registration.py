"""Registers the quantizer plug-in when transformers is there, without importing it for that.

``import jointsearch`` must cost milliseconds (the command line, the dashboard and machines without
torch import it), yet make ``AutoModel.from_pretrained`` know our checkpoints, whichever of the two
packages is imported first. So the plug-in is imported at once if transformers' model code has been
imported already, and right after it otherwise.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TRIGGER = "transformers.modeling_utils"
PLUGIN = "jointsearch.quantization.plugin"


def register_with_transformers() -> None:
    """Make sure that the plug-in is imported as soon as models can be loaded."""
    if TRIGGER in sys.modules:
        importlib.import_module(PLUGIN)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(MetaPathFinder):
    """Finds ``TRIGGER`` as the other finders do, and imports the plug-in once it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TRIGGER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenPlugin(spec.loader)
        return spec


class _ThenPlugin(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        importlib.import_module(PLUGIN)
