"""Lets transformers load our checkpoints: ``register()``, which ``import jointsearch`` sees to.

    import jointsearch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("runs/final/model")

has to work in either order of the imports, and ``import jointsearch`` has to cost milliseconds: the command
line, the dashboard and machines without torch import it. If transformers can load models already, the plug-in
is registered at once. If not, it must be once transformers can. transformers 5 has no entry points for
quantizers and its tables of them are there only once it is imported, so this waits for the one import that
makes it able to: a finder that finds nothing by itself, adds ``register`` to the end of that import, and
removes itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

LOADS_MODELS = "transformers.modeling_utils"


def register() -> None:
    """Make transformers know our checkpoints now; imports it, and torch."""
    importlib.import_module("jointsearch.quantization.plugin")


def register_when_transformers_is_there() -> None:
    """Register now if transformers can load models already, else as soon as it can."""
    if LOADS_MODELS in sys.modules:
        register()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport:
    """Lets the other finders find ``LOADS_MODELS``, and registers once it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != LOADS_MODELS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
