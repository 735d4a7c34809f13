"""What scripts/gpu-check is made of: runner (commands, time limits, the JSON file), reading (what programs print), steps (the table)."""
