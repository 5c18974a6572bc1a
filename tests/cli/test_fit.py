"""``jointsearch fit``: what fits, before any weight is read."""

from __future__ import annotations

import json

from click.testing import CliRunner

import jointsearch as js
from jointsearch.cli import cli


def test_what_fits_and_what_does_not() -> None:
    whole = js.fit("quickstart", device_memory="10GB", device="cpu")
    assert [row.label for row in whole.fitting] == [row.label for row in whole.rows]
    needs = [row.training_memory for row in whole.rows]
    assert needs == sorted(needs)

    between = str((needs[1] + needs[2]) // 2)
    result = CliRunner().invoke(
        cli, ["fit", "quickstart", "--device", "cpu", "--device-memory", between, "--format", "json"]
    )
    found = json.loads(result.stdout)
    assert [row["headroom"] >= 0 for row in found["rows"]] == [True, True, False, False, False, False]
    assert found["rows"][0]["largest_batch"] >= 8 > found["rows"][2]["largest_batch"] >= 7
    assert found["sentences"][1].startswith("the cpu has")

    nothing = CliRunner().invoke(cli, ["fit", "quickstart", "--device", "cpu", "--device-memory", "1MB"])
    assert nothing.exit_code == 1
    assert "no plan fits; lower calibration.batch_size" in nothing.stdout
