#!/usr/bin/env bash
# bench overlap --window hta against HolisticTraceAnalysis itself, where it is installed (pip install HolisticTraceAnalysis==0.5.0; $PYTHON
# names another Python): on random traces, and on our own with their launches. Its figures of the committed traces are in overlap.json: tests/cli/overlap.sh holds those everywhere.
python=${PYTHON:-python3}
"$python" -c 'import hta' 2>/dev/null || { echo "SKIP: $python has no HolisticTraceAnalysis"; exit 77; }
own=$(dirname "$0") bench=$1
export RINGMARK_STORE=$PWD/test.db RINGMARK_PLANS=$PWD/plans
"$bench" train --device cpu --data synthetic --classes 10 --px 32 --batch 8 --steps 8 --split 53,107,160 --gpus 2 --oversubscribe --trace own.json.gz --trace-steps 2..6 -q >/dev/null || exit 1
"$python" "$own/make_overlap.py" ours "$bench" own.rank0.json.gz own.rank1.json.gz || exit 1
exec "$python" "$own/make_overlap.py" compare "$bench" 40
