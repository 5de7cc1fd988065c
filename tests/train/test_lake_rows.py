"""The lake's labels as Ray Data reads them, from a folder and from a bucket, in one Ray of their own."""

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
for lake in map(Lake, sys.argv[1:]):
    files = lake.files("labels")
    rows = from_lake(files, ("abuse", "hate"), variant="text-multi", filesystem=lake.filesystem).take_all()
    print(json.dumps(sorted((row["text"], row["truth"][0]) for row in rows)))
"""


def forget_media(lake: Path, name: str) -> None:
    """Write a file as it was before posts had media."""
    file = lake / "labels" / name
    pq.write_table(pq.read_table(file).drop_columns(["media", "media_kinds"]), file)


def export_to(url: str, folder: Path) -> None:
    ledger = fresh_ledger(folder / "ledger.db")
    ledger.record([an_entry(f"p-{number}", f"text {number}", author=f"u-{number}") for number in range(5)])
    labelling.add(ledger, {n: a_label(f"l-{n}", f"p-{n}", labels={"abuse": n % 2 == 0}) for n in range(5)})
    assert Lake(url).export(ledger).labels == 5
    ledger.close()


@pytest.mark.slow
def test_labels_are_read_from_a_folder_and_from_a_bucket(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_module, "ROWS_A_FILE", 2)
    urls = [str(tmp_path / "lake"), bucket_url]
    for number, url in enumerate(urls):
        (tmp_path / str(number)).mkdir()
        export_to(url, tmp_path / str(number))
    forget_media(tmp_path / "lake", "part-000000000001-000000000002.parquet")
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", READ, *urls],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    expected = [[f"text {number}", float(number % 2 == 0)] for number in range(5)]
    assert [json.loads(line) for line in done.stdout.splitlines()[-2:]] == [expected, expected]
