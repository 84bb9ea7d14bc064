"""MV-WAM's ablation of what the action expert puts out (figure 3a): velocity, noise or data, each trained with the same
episodes and steps and let act in the simulator. Run it again to continue a stopped one. For example::

    python scripts/parameterizations.py --data runs/lift --vae runs/vae/vae --out runs/parameterizations \
        --set training.steps=2000

With ``--init`` all three go on from an MV-WAM of which the video was trained alone, the paper's first stage.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from worldvalue.data import open_episodes
from worldvalue.data.files import replacing
from worldvalue.flow_matching import Parameterization
from worldvalue.models import read_config
from worldvalue.recipes import find_recipe
from worldvalue.runs import train_value_model
from worldvalue.trials import Rollouts, try_policy


def main() -> None:
    """Train and try each of them; print how many rollouts succeeded, also into ``OUT/parameterizations.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="demonstrations")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--vae", type=Path, help="folder of a trained autoencoder")
    start.add_argument("--init", help="checkpoint folder of an MV-WAM to go on from")
    parser.add_argument("--codes", type=Path, help="where encoded frames are kept; OUT/codes if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--task", default="lift", help="task of the rollouts")
    parser.add_argument("--episodes", type=int, default=50, help="rollouts of each")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="change a setting of the recipe")
    asked = parser.parse_args()
    sources = [open_episodes(path) for path in asked.data]
    kept = read_config(asked.init) if asked.init else None
    succeeded = {}
    for kind in Parameterization:
        told = json.dumps({"video": "velocity", "action": kind, "value": "data"})
        recipe = find_recipe("mv-wam", "tiny", [*asked.settings, f"estimator.model.parameterizations={told}"], kept)
        run = asked.out / kind
        if not (run / "model" / "model.safetensors").is_file():  # what is written last
            codes = asked.codes or asked.out / "codes"
            train_value_model(recipe, sources, run, asked.vae, init=asked.init, codes=codes, resume=True)
        model = str(run / "model")
        succeeded[kind.value] = try_policy(model, Rollouts(asked.task, asked.episodes), run / "rollouts")
        print(f"actions as {kind}: {succeeded[kind.value]} of {asked.episodes} rollouts of {asked.task} succeeded")
        with replacing(asked.out / "parameterizations.json") as partial:
            partial.write_text(json.dumps({"episodes": asked.episodes, "succeeded": succeeded}, indent=2) + "\n")


if __name__ == "__main__":
    main()
