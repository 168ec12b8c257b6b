"""The command line: one file per verb, each loading its folder late, so that `slimpath --help` is quick."""
