#!/bin/sh
# The life of a model in mstore, with a small real one: commit it, fine-tune it, see what the second
# version costs, get the first one back, switch between them. No network, no GPU, a few minutes.
# Everything it makes lies in build/demo; only the base model is kept from one run to the next.
set -eu
cd "$(dirname "$0")/.."

PATH="$PWD/.venv/bin:$PATH"
MSTORE_STORE=build/demo/tuned_models
HF_HUB_OFFLINE=1
export PATH MSTORE_STORE HF_HUB_OFFLINE
unset MSTORE_MODEL

say() {
    printf '\n# %s\n' "$*"
}

# Shows a command as it would be typed, and runs it.
run() {
    line='$'
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./@:=-]*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    printf '%s\n' "$line"
    "$@"
}

mkdir -p build/demo
rm -rf build/demo/tuned_models build/demo/out build/demo/base.unfinished

echo '# To repeat a command, do what this script did first:'
echo '$ export PATH="$PWD/.venv/bin:$PATH" MSTORE_STORE=build/demo/tuned_models'

say 'A base model, SmolLM2-135M-Instruct, and something to teach it'
run python demo/make_base.py build/demo/base
run python demo/make_data.py build/demo/docstrings.jsonl

say 'The first version is the base itself'
run mstore init build/demo/tuned_models
run mstore commit build/demo/base -M smollm2 -m 'SmolLM2-135M-Instruct as it came' \
    --base-model HuggingFaceTB/SmolLM2-135M-Instruct

say 'Fine-tune it: every weight, eight steps; the result is the next version'
run mstore train smollm2 --data build/demo/docstrings.jsonl \
    --method full --max-steps 8 --batch-size 4 -m 'Python docstrings'

say 'The history, what changed, and what it costs'
run mstore log smollm2
run mstore diff smollm2@v1.0 smollm2@v1.1
run mstore du

say 'The first version comes back byte for byte'
run mstore checkout smollm2@v1.0 -o build/demo/out
for file in build/demo/base/*; do
    run cmp "$file" "build/demo/out/${file##*/}"
done
echo 'every file is the same'

say 'Serve the new version, and change your mind'
run mstore set-active smollm2@v1.1
run mstore active smollm2
run mstore rollback -M smollm2
run mstore active smollm2
