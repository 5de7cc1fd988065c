"""The lake's labels as Ray Data reads them, from a folder and from a bucket, in a Ray of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from moderation.settings import REPOSITORY
from moderation.storage import labelling
from moderation.storage import lake as lake_module
from moderation.storage.lake import Lake
from tests.fresh import fresh_ledger
from tests.moderation.storage.rows import a_label, an_entry

READ = """
import json, sys
import ray
from moderation.storage.lake import Lake
from train.rows import from_lake
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
lake = Lake(sys.argv[1])
rows = from_lake(lake.files("labels"), ("abuse", "hate"), variant="text-multi", filesystem=lake.filesystem).take_all()
print(json.dumps(sorted((row["text"], row["truth"][0]) for row in rows)))
"""


def forget_media(lake: Path, name: str) -> None:
    """Write a file as it was before posts had media."""
    file = lake / "labels" / name
    pq.write_table(pq.read_table(file).drop_columns(["media", "media_kinds"]), file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_labels_are_read_from_either(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "lake") if kind == "folder" else request.getfixturevalue("bucket_url")
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 2)
    ledger = fresh_ledger(tmp_path / "ledger.db")
    ledger.record([an_entry(f"p-{number}", f"text {number}", author=f"u-{number}") for number in range(5)])
    labelling.add(ledger, {n: a_label(f"l-{n}", f"p-{n}", labels={"abuse": n % 2 == 0}) for n in range(5)})
    assert Lake(url).export(ledger).labels == 5
    if kind == "folder":
        forget_media(Path(url), "part-000000000001-000000000002.parquet")
    ledger.close()
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", READ, url]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == [[f"text {number}", float(number % 2 == 0)] for number in range(5)]
