"""Two frameworks side by side: `speed` times them on the same weights, `compare` trains and samples one recipe in both.

scripts/bench.py and scripts/compare.py call them.
"""
