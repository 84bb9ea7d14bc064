"""Settings of all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, settings

# No test depends on wall time: on a busy machine hypothesis would fail healthy ones for being slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept between runs is kept for one test: nothing of the user's is read or written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes the folder of a model in a cache of the Hugging Face hub, laid out as its client does; it is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def snapshot(name: str) -> Path:
        commit, model = "0123456789abcdef0123456789abcdef01234567", f"models--{name.replace('/', '--')}"
        refs, folder = tmp_path / "hub" / model / "refs", tmp_path / "hub" / model / "snapshots" / commit
        refs.mkdir(parents=True)
        folder.mkdir(parents=True)
        (refs / "main").write_text(commit)
        return folder

    return snapshot
