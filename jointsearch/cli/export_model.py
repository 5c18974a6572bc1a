"""``jointsearch export-model``: a finished run for what serves it."""

from __future__ import annotations

from pathlib import Path

import click

from jointsearch.cli.options import trust_option
from jointsearch.cli.telling import tell
from jointsearch.export.serving import SERVING_TARGETS
from jointsearch.training.quiet import quiet_libraries


@click.command("export-model")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--to", "target", type=click.Choice(tuple(SERVING_TARGETS)), required=True, help="For what it is written."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder.")
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Load it in its runtime and compare it with the run; by default where the runtime is installed.",
)
@click.option(
    "--push-to-hub",
    "repository",
    metavar="REPO",
    help="Upload it to this repository of the Hugging Face Hub, which is made where it is not there.",
)
@click.option(
    "--public", is_flag=True, help="Let everyone see a repository that is made; else it is private."
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@trust_option
def export_model(
    run: Path,
    target: str,
    output: Path,
    verify: bool | None,
    repository: str | None,
    public: bool,
    force: bool,
) -> None:
    """Write a finished run for what serves it.

    RUN is the folder that `train` made. The export has a model card, the plan, and verification.json: its
    logits, its loss and its continuations in the runtime itself, beside those of the run.

    \b
    Example:
      jointsearch export-model runs/final --to merged -o served
      jointsearch export-model runs/final --to adapter -o adapter --no-verify
      jointsearch export-model runs/final --to merged -o served --push-to-hub me/served
    """
    if public and repository is None:
        raise click.UsageError("--public needs --push-to-hub")
    quiet_libraries()
    from jointsearch.export.hub import push
    from jointsearch.export.model import export_model as write

    found = write(run, target, output, verify=verify, overwrite=force, repository=repository, tell=tell)
    tell(f"wrote {output}: {run} for {target}")
    if found is not None:
        versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        tell(
            f"verified with {versions}: its logits are as expected to {found.expected.relative:.1g} of the "
            f"largest, and within {found.run.relative:.2g} of the run's; loss {found.loss:.4f}, the run's "
            f"{found.run_loss:.4f}"
        )
    if repository is not None:
        tell(f"pushed to {push(output, repository, private=not public)}")
