"""The picture of the model card: current frames, true future, predicted future, for one episode of each task.

Run: ``python scripts/future_frames.py DATASET --model tiny --out docs/images/future_frames.png``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from worldvalue.backbones.video_vae import float_to_pictures
from worldvalue.data import open_episodes
from worldvalue.data.pictures import pictures
from worldvalue.models import Estimator, load_model
from worldvalue.models.wvm import WVM
from worldvalue.types import Episode


@torch.inference_mode()
def future_strip(estimator: Estimator, episode: Episode, start: int) -> np.ndarray:
    """Pictures ``(3, h, H, W, 3)``: current, true future, predicted future, after scored frame ``start``."""
    chunk = estimator.model.window.chunk
    scored = episode.indices_at(estimator.config.rate)
    window = scored[(start + np.arange(2 * chunk + 1)).clip(0, len(scored) - 1)]
    shown = pictures(episode, window, estimator.picture_settings(episode))
    latents = estimator.model.encode(estimator.vae, estimator.vae.items(torch.from_numpy(shown))[None])
    current = latents.chunk(2, dim=2)[0]
    text = estimator.text_states([episode.instruction])[episode.instruction][None]
    noise = torch.randn(current.shape, generator=torch.Generator().manual_seed(0))
    model = estimator.model
    if not isinstance(model, WVM):
        raise SystemExit("The model has no video stream; give a World Value Model.")
    first_view = model.predict_future(current, text, noise).chunk(shown.shape[1], dim=-1)[0]
    predicted = float_to_pictures(estimator.vae.decode(first_view)[0]).numpy()
    return np.stack([shown[1 : 1 + chunk, 0], shown[1 + chunk :, 0], predicted])


def main() -> None:
    """Draw the sheet."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    estimator, source = load_model(options.model), open_episodes(options.dataset)
    chosen: dict[str, Episode] = {}
    for index in range(len(source)):
        episode = source[index]
        if episode.labels and episode.labels.task and episode.labels.mode == "expert":
            chosen.setdefault(episode.labels.task, episode)
    rows = []
    for episode in chosen.values():
        strip = future_strip(estimator, episode, int(0.4 * len(episode.indices_at(estimator.config.rate))))
        gap = np.full((strip.shape[2], 6, 3), 255, np.uint8)
        rows.append(np.concatenate([x for part in strip for x in (*part, gap)][:-1], axis=1))
    figure, axes = plt.subplots(len(rows), 1, figsize=(12, 1.05 * len(rows) + 0.3), constrained_layout=True)
    for axis, row, task in zip(np.atleast_1d(axes), rows, chosen, strict=True):
        axis.imshow(row)
        axis.set_ylabel(task)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    for place, title in ((1 / 6, "current"), (1 / 2, "true future"), (5 / 6, "predicted future")):
        np.atleast_1d(axes)[0].text(place, 1.08, title, transform=np.atleast_1d(axes)[0].transAxes, ha="center")
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
