#!/usr/bin/env bash
# Makes the shipped model again from nothing: collect, train the autoencoder, train the model, evaluate, package.
# Each part continues where it stopped. How long it took is in the model card. Usage: scripts/make_shipped.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-shipped}
worldvalue=.venv/bin/worldvalue
shipped=src/worldvalue/models/shipped/tiny
compile=$(command -v g++ > /dev/null && echo true || echo false) # saves a third of a step's time; needs a compiler

for split in train train-more train-scenes train-retries tune validation; do
    $worldvalue collect robosuite "$run/$split" --split $split
done
$worldvalue train vae --recipe tiny --data "$run/train" --out "$run/vae" --resume
train="$worldvalue train wvm --recipe tiny --resume --codes $run/codes --set training.compile=$compile"
$train --data "$run/train" --vae "$run/vae/vae" --out "$run/first"
$train --data "$run/train" --data "$run/train-more" --init "$run/first/model" --out "$run/second" \
    --set training.steps=2700 --set training.peak_rate=0.0003 --set training.warmup=100
$train --data "$run/train" --data "$run/train-more" --data "$run/train-scenes" --data "$run/train-retries" \
    --init "$run/second/model" --out "$run/third" --set augmentation.swap=0.1 \
    --set training.steps=5500 --set training.peak_rate=0.0005 --set training.warmup=100
made=$run/third/model
$worldvalue calibrate "$run/tune" --model "$made"
$worldvalue bench run --suite "$run/validation" --model "$made" --out "$run/bench"

mkdir -p "$shipped" docs/images
cp "$made/config.json" "$made/model.safetensors" "$shipped/"
cp "$run/bench/bench.json" "$shipped/figures.json"
$worldvalue score "$run/validation" --model "$made" --out "$run/report"
.venv/bin/python scripts/future_frames.py "$run/validation" --model "$made" --out docs/images/future_frames.png
