#!/usr/bin/env bash
# bench overlap --window hta against HolisticTraceAnalysis itself, where it is installed (pip install HolisticTraceAnalysis==0.5.0; $PYTHON
# names another Python). Its figures of the committed traces are in overlap.json: tests/cli/overlap.sh holds those everywhere.
python=${PYTHON:-python3}
"$python" -c 'import hta' 2>/dev/null || { echo "SKIP: $python has no HolisticTraceAnalysis"; exit 77; }
exec "$python" "$(dirname "$0")/make_overlap.py" compare "$1" 40
