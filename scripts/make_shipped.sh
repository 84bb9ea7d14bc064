#!/usr/bin/env bash
# Makes the shipped model again from nothing: collect, train the autoencoder, train the model, evaluate, package.
# Each part continues where it stopped. How long it took is in the model card. Usage: scripts/make_shipped.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-shipped}
worldvalue=.venv/bin/worldvalue
shipped=src/worldvalue/models/shipped/tiny
compile=$(command -v g++ > /dev/null && echo true || echo false) # saves a third of a step's time; needs a compiler

for split in train train-more tune validation; do
    $worldvalue collect robosuite "$run/$split" --split $split
done
$worldvalue train vae --recipe tiny --data "$run/train" --out "$run/vae" --resume
$worldvalue train wvm --recipe tiny --data "$run/train" --vae "$run/vae/vae" --out "$run/first" --resume \
    --set "training.compile=$compile"
$worldvalue train wvm --recipe tiny --data "$run/train" --data "$run/train-more" --init "$run/first/model" \
    --out "$run/wvm" --resume --set "training.compile=$compile" --set training.steps=2700 \
    --set training.peak_rate=0.0003 --set training.warmup=100
$worldvalue calibrate "$run/tune" --model "$run/wvm/model"
$worldvalue bench run --suite "$run/validation" --model "$run/wvm/model" --out "$run/bench"

mkdir -p "$shipped" docs/images
cp "$run/wvm/model/config.json" "$run/wvm/model/model.safetensors" "$shipped/"
cp "$run/bench/bench.json" "$shipped/figures.json"
$worldvalue score "$run/validation" --model "$run/wvm/model" --out "$run/report"
.venv/bin/python scripts/future_frames.py "$run/validation" --model "$run/wvm/model" --out docs/images/future_frames.png
