#!/usr/bin/env bash
# Makes the shipped model again from nothing: collect, train the autoencoder, train the model, evaluate, package.
# Each part continues where it stopped. How long it took is in the model card. Usage: scripts/make_shipped.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
run=${1:-shipped}
worldvalue=.venv/bin/worldvalue
shipped=src/worldvalue/models/shipped/tiny
compile=$(command -v g++ > /dev/null && echo true || echo false) # saves a third of a step's time; needs a compiler

for split in train train-more train-scenes train-retries train-hesitations train-more-hesitations train-lift train-can \
    train-behind tune validation test test-counterfactual; do
    $worldvalue collect robosuite "$run/$split" --split $split
done
$worldvalue train vae --recipe tiny --data "$run/train" --out "$run/vae" --resume
train="$worldvalue train wvm --recipe tiny --resume --codes $run/codes --set training.compile=$compile"
shift="--set augmentation.shift=0.125 --set augmentation.plateau=0.1"
$train --data "$run/train" --vae "$run/vae/vae" --out "$run/first" $shift
$train --data "$run/train" --data "$run/train-more" --init "$run/first/model" --out "$run/second" $shift \
    --set training.steps=2700 --set training.peak_rate=0.0003 --set training.warmup=100
train="$train --data $run/train --data $run/train-more --data $run/train-scenes --data $run/train-retries"
train="$train --set augmentation.swap=0.1 --set training.peak_rate=0.0005"
$train --init "$run/second/model" --out "$run/third" $shift --set training.steps=5500 --set training.warmup=100
$train --init "$run/third/model" --out "$run/fourth" --set training.steps=1950 --set training.warmup=50
# Other windows than the trainings before, which all begin with the same ones.
$train --init "$run/fourth/model" --out "$run/fifth" --set training.steps=2800 --set training.warmup=50 \
    --set training.peak_rate=0.0004 --set training.final_share=0.02 --set training.seed=8
train="$worldvalue train wvm --recipe tiny --resume --codes $run/codes --set training.compile=$compile"
train="$train --data $run/train-hesitations --set augmentation.swap=0.1 --set training.final_share=0.02"
$train --init "$run/fifth/model" --out "$run/sixth" --set training.steps=2700 --set training.warmup=50 \
    --set training.peak_rate=0.0004 --set training.seed=12
$train --init "$run/sixth/model" --out "$run/seventh" --set training.steps=1700 --set training.warmup=100 \
    --set training.peak_rate=0.0005 --set training.seed=13 \
    --set estimator.picture.views=2 --set estimator.fewest_views=1
train="$train --data $run/train-more-hesitations --data $run/train-lift --data $run/train-can"
train="$train --set augmentation.swap=0.05 --set training.peak_rate=0.0005 --set training.warmup=100"
$train --init "$run/seventh/model" --out "$run/eighth" --set training.steps=1800 --set training.seed=14
$train --data "$run/train-behind" --init "$run/eighth/model" --out "$run/ninth" --set training.steps=1200 \
    --set training.seed=15
made=$run/ninth/model
$worldvalue calibrate "$run/tune" --model "$made"
$worldvalue bench run --suite "$run/test" --suite "$run/test-counterfactual" --model "$made" --out "$run/bench"

mkdir -p "$shipped" docs/images
cp "$made/config.json" "$made/model.safetensors" "$shipped/"
cp "$run/bench/bench.json" "$shipped/figures.json"
$worldvalue score "$run/validation" --model "$made" --out "$run/report"
.venv/bin/python scripts/future_frames.py "$run/validation" --model "$made" --out docs/images/future_frames.png
