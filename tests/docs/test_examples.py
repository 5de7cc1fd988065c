"""Examples are true: those of docstrings give what they say, and what pages show is what Seawall reads and sends.

Of modules only those with an example are imported, and only when their test runs: `--doctest-modules` would import all
of them, torch with them, in every process that collects tests. The clients of docs/clients.md run in
tests/end_to_end/test_compat.py, against a running Seawall.
"""

from __future__ import annotations

import doctest
import importlib
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from moderation.posts import PostIn
from moderation.sections import Webhook
from moderation.settings import REPOSITORY
from moderation.storage.ledger import Ledger
from serve.outbox.queue import fan_out, take
from tests.docs.pages import blocks
from tests.moderation.storage.acts import act

ROOMS = ("moderation", "serve", "train", "drift", "simulate")
FILES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
MODULES = [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_examples_of_a_module_are_true(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(example, out=told.append)
    assert not told, "".join(told)
    assert runner.tries == path.read_text(encoding="utf-8").count(">>> ")  # none stands where nobody looks


def test_what_a_newcomer_meets_first_has_an_example() -> None:
    with_examples = {path.relative_to(REPOSITORY).as_posix() for path in MODULES}
    assert with_examples > {
        "moderation/policy.py",
        "moderation/topology.py",
        "moderation/preprocess/text.py",
        "moderation/preprocess/language.py",
        "moderation/metrics.py",
        "moderation/estimate.py",
        "serve/experiments/split.py",
    }


def test_the_posts_that_the_readme_sends_are_posts() -> None:
    commands = [block for block in blocks("README.md") if block.startswith("curl")]
    bodies = re.findall(r"'(?:post=)?(\{.*?\})", "\n".join(commands), re.DOTALL)
    assert len(bodies) == 2
    assert [PostIn.model_validate_json(body).community for body in bodies] == ["gardening"] * 2


def test_the_webhook_that_the_page_configures_is_one() -> None:
    (block,) = [block for block in blocks("docs/outbox.md") if block.startswith("webhooks:")]
    (webhook,) = TypeAdapter(list[Webhook]).validate_python(yaml.safe_load(block)["webhooks"])
    assert webhook.name == "platform"


def test_what_the_page_says_is_sent_is_sent(ledger: Ledger) -> None:
    (block,) = [block for block in blocks("docs/outbox.md") if block.startswith('{"delivery_id"')]
    act(ledger, "p-1")
    fan_out(ledger, "platform")
    (delivery,) = take(ledger, "platform", limit=1, hold=timedelta(minutes=1))
    assert list(json.loads(block)) == list(json.loads(delivery.body))
