"""What all tests share: the real checkpoints, the corpus, and TensorFlow as the judge."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"
CORPUS = ROOT.parent / "shared" / "corpus"


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Return the stories of the fixtures, or those of the corpus; empty where it is absent."""
    path = folder / "MANIFEST.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


@pytest.fixture(scope="session")
def fixtures() -> Path:
    if not FIXTURES.is_dir():
        pytest.skip("there are no fixtures here")
    return FIXTURES


@pytest.fixture(scope="session")
def corpus() -> Path:
    if not CORPUS.is_dir():
        pytest.skip("the corpus is not here")
    return CORPUS


@pytest.fixture(scope="session")
def tf() -> Any:
    """TensorFlow, imported by the first test that asks for it; 5 s."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    return pytest.importorskip("tensorflow")
