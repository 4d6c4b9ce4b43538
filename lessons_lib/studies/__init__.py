"""Studies: grids of runs, computed once and kept; imported by lessons, `course study` and `course prepare` alone."""
