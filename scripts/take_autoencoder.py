"""Take the autoencoder out of a checkpoint, so that another model can be trained on it with ``--vae``.

Run: ``python scripts/take_autoencoder.py tiny OUT``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from worldvalue.data.files import replacing
from worldvalue.models.estimator import WEIGHTS, checkpoint_folder, read_config

PREFIX = "vae."


def main() -> None:
    """Write ``config.json`` and ``model.safetensors`` of the autoencoder, as ``train vae`` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="shipped model or checkpoint folder")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    folder = checkpoint_folder(asked.model)
    if folder is None:
        parser.error(f"{asked.model} is no shipped model and no checkpoint folder.")
    weights = {name: tensor for name, tensor in load_file(folder / WEIGHTS).items() if name.startswith(PREFIX)}
    asked.out.mkdir(parents=True, exist_ok=True)
    with replacing(asked.out / WEIGHTS) as partial:
        save_file({name.removeprefix(PREFIX): tensor.contiguous() for name, tensor in weights.items()}, partial)
    with replacing(asked.out / "config.json") as partial:
        partial.write_text(json.dumps(read_config(folder).vae, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
