"""worldvalue: value models of robot manipulation that stand on video world models.

Three lines score an episode::

    model = worldvalue.load_model("tiny")
    episode = worldvalue.open_episodes("path/to/dataset")[0]
    curve = worldvalue.score(model, episode)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_model", "open_episodes", "score"]

if TYPE_CHECKING:
    from worldvalue.data import open_episodes
    from worldvalue.models import load_model
    from worldvalue.scoring.sliding_windows import score


def __getattr__(name: str) -> Any:
    """Import on first use: torch and diffusers take seconds."""
    if name == "open_episodes":
        from worldvalue.data import open_episodes

        return open_episodes
    if name == "load_model":
        from worldvalue.models import load_model

        return load_model
    if name == "score":
        from worldvalue.scoring.sliding_windows import score

        return score
    raise AttributeError(f"module 'worldvalue' has no attribute '{name}'")
