#!/usr/bin/env bash
# Makes the shipped model again from nothing: collect, train the autoencoder, train the model, evaluate, package.
# Each part continues where it stopped. How long it took is in the model card. Usage: scripts/make_shipped.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-shipped}
worldvalue=.venv/bin/worldvalue
shipped=src/worldvalue/models/shipped/tiny
compile=$(command -v g++ > /dev/null && echo true || echo false) # saves a third of a step's time; needs a compiler

$worldvalue collect robosuite "$run/train" --split train
$worldvalue collect robosuite "$run/more" --split train-more
make VALIDATION="$run/val" "$run/val"
$worldvalue train vae --recipe tiny --data "$run/train" --out "$run/vae" --resume
$worldvalue train wvm --recipe tiny --data "$run/train" --data "$run/more" --vae "$run/vae/vae" --out "$run/wvm" --resume \
    --set "training.compile=$compile"
$worldvalue bench run --suite "$run/val" --model "$run/wvm/model" --out "$run/bench"

mkdir -p "$shipped" docs/images
cp "$run/wvm/model/config.json" "$run/wvm/model/model.safetensors" "$shipped/"
cp "$run/bench/bench.json" "$shipped/figures.json"
$worldvalue score "$run/val" --model "$run/wvm/model" --out "$run/report"
.venv/bin/python scripts/future_frames.py "$run/val" --model "$run/wvm/model" --out docs/images/future_frames.png
