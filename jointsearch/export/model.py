"""A finished run, written for a runtime: what it loads, a model card, the plan, and the figures of its check.

    OUTPUT/README.md          the model card
    OUTPUT/plan.json          what was trained
    OUTPUT/verification.json  the export in its runtime beside the run, where it was verified

The folder appears whole or not at all: an export that does not compute what was trained is not left there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from jointsearch.errors import UnsupportedError
from jointsearch.export import check_place
from jointsearch.export.card import model_card
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.hub import check_repository
from jointsearch.export.serving import SERVING_TARGETS, check_installed, missing
from jointsearch.export.verification import Verification, verified
from jointsearch.files import make_folder_of, write_text
from jointsearch.training.full_run.folder import PLAN_FILE, disk_failures_named, whole_folder

VERIFICATION_FILE = "verification.json"

CARD_FILE = "README.md"


def export_model(
    run: Path,
    target: str,
    output: Path,
    *,
    verify: bool | None = None,
    overwrite: bool = False,
    repository: str | None = None,
    tell: Callable[[str], object] = str,
) -> Verification | None:
    """Write the finished run in the folder ``run`` for ``target`` into the folder ``output``.

    ``verify``: load it there and compare; None: where the runtime is installed. ``repository``: of the Hub,
    where it will be found, for the model card; ``hub.push`` uploads it. Raises ``PlanError`` where
    the runtime cannot carry the plan, ``UnsupportedError`` where something is not installed, and
    ``OutputError`` where the place is taken or the export is not what was trained.
    """
    if target not in SERVING_TARGETS:
        raise UnsupportedError(SERVING_TARGETS.problem(target))
    chosen = SERVING_TARGETS[target]
    check_place(output, target, is_folder=True, overwrite=overwrite)
    if repository is not None:
        check_repository(repository)
    source = FinishedRun(run)
    chosen.check(source.plan)
    check_installed(chosen)
    lacking = missing(chosen.runtime)
    if lacking and verify:
        raise UnsupportedError(
            f"verifying {target} needs {', '.join(lacking)}; install it by "
            f"`pip install 'jointsearch[{chosen.extra}]'`, or give --no-verify"
        )
    if lacking and verify is None:
        tell(f"{target} is not verified: {', '.join(lacking)} is not installed")
    make_folder_of(output)
    with disk_failures_named(output), whole_folder(output) as folder:
        chosen.write(source, folder)
        shutil.copyfile(run / PLAN_FILE, folder / PLAN_FILE)
        found = None
        if not lacking and verify is not False:
            found = verified(source, chosen, folder)
            write_text(folder / VERIFICATION_FILE, found.model_dump_json(indent=1) + "\n")
        write_text(folder / CARD_FILE, model_card(source, chosen, output.name, found, repository))
    return found
