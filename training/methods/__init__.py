"""Training methods beside plain descent, one file each, with formula and source; docs/training.md is the overview."""
