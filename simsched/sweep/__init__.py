"""A study, its grid of cells, and how they are run: study -> plan -> cells -> results directory.

`cell` says what determines a run, `requests` makes its requests, `inputs` prepares it and `run` runs it: the
one way to run a setting. `grid` makes a study's cells, `plan` checks them, `execute` runs them.
"""
